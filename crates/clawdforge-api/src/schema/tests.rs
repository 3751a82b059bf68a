//! What is described is what is sent: every type is filled to the last field, and again as sparsely as it can be, and
//! compared with its schema. In the schemas of these tests an undescribed field is a fault.

use std::collections::HashSet;

use clawdforge_core::agent::{Failure, FailureKind, Usage};
use clawdforge_core::event::{ContextSource, EventBody, TurnOutcome};
use clawdforge_core::output::Violation;
use clawdforge_core::run::{Effort, SystemMode};
use serde::Serialize;
use serde_json::{Value, json};

use super::{EVENT_NAMES, all};
use crate::problem::{Code, Fault, Problem};
use crate::v1;

const SESSION: &str = "ses_01j00000000000000000000000";
const TURN: &str = "trn_01j00000000000000000000000";
const AT: &str = "2026-01-31T12:00:00.000Z";

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Why a value is not of a schema; nothing where it is. Knows the words that our schemas use, and no other.
fn faults(schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let fault = |what: &str| vec![format!("{place}: {what}: {value}")];
    let mut found = Vec::new();
    for (word, rule) in schema.as_object().unwrap() {
        found.extend(match word.as_str() {
            "description" | "format" | "discriminator" | "required" => Vec::new(),
            "$ref" => {
                let name = rule.as_str().unwrap().rsplit('/').next().unwrap();
                faults(all().get(name).unwrap(), value, place)
            }
            "type" => {
                let kinds = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                if kinds.iter().any(|kind| is(value, kind.as_str().unwrap())) {
                    Vec::new()
                } else {
                    fault("another type")
                }
            }
            "enum" if !rule.as_array().unwrap().contains(value) => fault("none of the words"),
            "const" if rule != value => fault("another constant"),
            "minimum" if value.as_f64() < rule.as_f64() && value.is_number() => fault("too small"),
            "maximum" if value.as_f64() > rule.as_f64() && value.is_number() => fault("too large"),
            // The pattern of an id: what stands before the underscore, and the number of characters.
            "pattern" if value.is_string() => {
                let prefix = rule.as_str().unwrap().trim_start_matches('^').split('_').next().unwrap();
                let (text, length) = (value.as_str().unwrap(), prefix.len() + 27);
                if text.starts_with(prefix) && text.len() == length { Vec::new() } else { fault("no id") }
            }
            "items" => {
                let items = value.as_array().into_iter().flatten();
                items.flat_map(|item| faults(rule, item, &format!("{place}[]"))).collect()
            }
            "properties" => fields(schema, rule, value, place),
            "oneOf" | "anyOf" => {
                let fitting = rule.as_array().unwrap().iter().filter(|one| faults(one, value, place).is_empty());
                if fitting.count() == 1 { Vec::new() } else { fault("not one of them") }
            }
            "enum" | "const" | "minimum" | "maximum" | "pattern" => Vec::new(),
            other => panic!("the tests do not know `{other}`"),
        });
    }
    found
}

fn fields(schema: &Value, properties: &Value, value: &Value, place: &str) -> Vec<String> {
    let Some(object) = value.as_object() else { return Vec::new() };
    let required = schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap());
    let missing = required.filter(|name| !object.contains_key(*name)).map(|name| format!("{place}.{name} is missing"));
    let mut found: Vec<String> = missing.collect();
    for (name, value) in object {
        let place = format!("{place}.{name}");
        match properties.get(name) {
            Some(schema) => found.extend(faults(schema, value, &place)),
            None => found.push(format!("{place} is not described")),
        }
    }
    found
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("no type: {other}"),
    }
}

/// Compares what is sent with its schema; with every field that is described, where it is meant to be full.
#[track_caller]
fn assert_described(name: &str, is_full: bool, sent: &impl Serialize) {
    let (schemas, sent) = (all(), serde_json::to_value(sent).unwrap());
    let schema = schemas.get(name).unwrap_or_else(|| panic!("{name} is not described"));
    assert_eq!(faults(schema, &sent, name), Vec::<String>::new());
    if is_full {
        let described: HashSet<&String> = schema["properties"].as_object().unwrap().keys().collect();
        let there: HashSet<&String> = sent.as_object().unwrap().keys().collect();
        assert_eq!(there, described, "{name}");
    }
}

fn progress(result: Option<v1::Outcome>) -> v1::Progress {
    let is_full = result.is_some();
    let at = || is_full.then(|| AT.to_owned());
    v1::Progress {
        state: if is_full { "ended" } else { "queued" }.to_owned(),
        outcome: is_full.then(|| "timed_out".to_owned()),
        queued_at: AT.to_owned(),
        started_at: at(),
        ended_at: at(),
        cancel_asked_at: at(),
        result,
    }
}

fn outcome() -> v1::Outcome {
    let failure = v1::Failure {
        code: "timed_out".to_owned(),
        message: "late".to_owned(),
        violations: vec![v1::Violation { path: "/a".to_owned(), message: "wrong".to_owned() }],
        stderr: "…".to_owned(),
    };
    v1::Outcome {
        answer: some("a"),
        output: Some(json!({ "a": 1 })),
        stop_reason: some("end"),
        failure: Some(failure),
        duration_ms: 5,
        usage: used(),
    }
}

fn used() -> v1::Usage {
    v1::Usage {
        model: some("sonnet"),
        input_tokens: Some(1),
        output_tokens: Some(2),
        cache_read_tokens: Some(3),
        cache_write_tokens: Some(4),
        cost_usd: Some(0.5),
    }
}

#[test]
fn sessions_are_what_is_described() {
    let full = v1::Session {
        id: SESSION.to_owned(),
        state: "open".to_owned(),
        agent: "demo".to_owned(),
        driver: some("acp"),
        model: some("sonnet"),
        effort: some("high"),
        mode: some("plan"),
        system_mode: some("replace"),
        mcp_servers: vec!["sum".to_owned()],
        meta: Some(json!({ "a": [1] })),
        on_context_loss: some("rebuild"),
        isolation: some("namespaces"),
        warm: true,
        turns: 1,
        created_at: AT.to_owned(),
        last_turn_at: some(AT),
        closed_at: some(AT),
        forked_from: Some(v1::ForkPoint { session_id: SESSION.to_owned(), turn_index: 2 }),
    };
    let sparse = v1::Session {
        driver: None,
        model: None,
        effort: None,
        mode: None,
        system_mode: None,
        mcp_servers: Vec::new(),
        meta: None,
        on_context_loss: None,
        isolation: None,
        last_turn_at: None,
        closed_at: None,
        forked_from: None,
        ..full.clone()
    };
    assert_described("Session", false, &sparse);
    assert_described("SessionPage", true, &v1::Page { data: vec![full.clone(), sparse], next_cursor: some(SESSION) });
    assert_described("Session", true, &full);
}

#[test]
fn turns_and_runs_are_what_is_described() {
    for result in [None, Some(outcome())] {
        let is_full = result.is_some();
        let progress = || progress(result.clone());
        let turn = v1::Turn { id: TURN.to_owned(), session_id: SESSION.to_owned(), index: 1, progress: progress() };
        let run = v1::Run {
            id: "run_01j00000000000000000000000".to_owned(),
            agent: "demo".to_owned(),
            isolation: is_full.then(|| "uid".to_owned()),
            progress: progress(),
        };
        assert_described("Turn", is_full, &turn);
        assert_described("Run", is_full, &run);
        assert_described("TurnPage", true, &v1::Page { data: vec![turn], next_cursor: None });
        assert_described("RunPage", true, &v1::Page { data: vec![run], next_cursor: None });
    }
    assert_described("Outcome", true, &outcome());
    assert_described("Failure", true, &outcome().failure);
    assert_described("Usage", true, &used());
    assert_described("Usage", true, &v1::Usage::default());
    let none =
        v1::Outcome { answer: None, output: None, stop_reason: None, failure: None, duration_ms: 0, usage: used() };
    assert_described("Outcome", false, &none);
    // An output that is null is told from none.
    let null = v1::Outcome { output: Some(Value::Null), ..none };
    let read: v1::Outcome = serde_json::from_value(serde_json::to_value(&null).unwrap()).unwrap();
    assert_eq!(read, null);
}

#[test]
fn files_agents_gaps_and_sums_are_what_is_described() {
    let file = v1::File {
        id: "ff_01j00000000000000000000000".to_owned(),
        name: "a.txt".to_owned(),
        size_bytes: 5,
        created_at: AT.to_owned(),
        expires_at: AT.to_owned(),
    };
    assert_described("File", true, &file);
    let agent = v1::Agent {
        name: "demo".to_owned(),
        is_default: true,
        is_present: true,
        version: some("1"),
        drivers: vec!["acp".to_owned(), "acpx".to_owned()],
        takes_system_prompt: true,
    };
    assert_described("Agent", true, &agent);
    assert_described("AgentPage", true, &v1::Page { data: vec![agent], next_cursor: None });
    assert_described("Gap", true, &v1::Gap { from: 1, to: 2 });
    let sum = v1::UsageSum {
        from: None,
        to: some(AT),
        runs: 1,
        turns: 2,
        input_tokens: 3,
        output_tokens: 4,
        cache_read_tokens: 5,
        cache_write_tokens: 6,
        cost_usd: 0.25,
    };
    assert_described("UsageSum", true, &sum);
}

#[test]
fn tokens_are_what_is_described_and_keep_their_secret_out_of_logs() {
    for network in [None, Some(json!("none")), Some(json!(["example.org:443"]))] {
        let token = v1::Token {
            name: "app".to_owned(),
            ip_cidrs: vec!["10.0.0.0/8".to_owned()],
            network,
            mcp_servers: "none".to_owned(),
            created_at: AT.to_owned(),
        };
        assert_described("Token", true, &token);
        assert_described("TokenPage", true, &v1::Page { data: vec![token.clone()], next_cursor: some("app") });
        let minted = v1::MintedToken { token, secret: "cf_secret".to_owned() };
        assert_described("MintedToken", true, &minted);
        assert!(!format!("{minted:?}").contains("cf_secret"));
    }
}

#[test]
fn problems_are_what_is_described() {
    let fault = Fault { field: "body.prompt".to_owned(), detail: "missing".to_owned(), input: Value::Null };
    assert_described("Fault", true, &fault);
    for code in Code::ALL {
        let problem = |retry_after_ms, errors| Problem {
            kind: format!("/problems/{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: "…".to_owned(),
            instance: "req_01j00000000000000000000000".to_owned(),
            code: code.as_str().to_owned(),
            retry_after_ms,
            errors,
        };
        assert_described("Problem", true, &problem(Some(5_000), vec![fault.clone()]));
        assert_described("Problem", false, &problem(None, Vec::new()));
    }
}

/// One of every kind, full; the match below makes a new kind fail to compile here.
fn every_event() -> Vec<EventBody> {
    let text = || "x".to_owned();
    let bodies = vec![
        EventBody::Prompt {
            text: text(),
            model: text(),
            system: some("x"),
            system_mode: SystemMode::Replace,
            effort: Some(Effort::Xhigh),
            files: vec!["ff_01j00000000000000000000000".parse().unwrap()],
            output_schema: Some(json!({})),
            instruction: some("x"),
        },
        EventBody::Started,
        EventBody::Context { source: ContextSource::Rebuilt },
        EventBody::Text { content: text() },
        EventBody::Thinking { content: text() },
        EventBody::ToolCall { call: text(), name: text(), args: json!({ "a": 1 }) },
        EventBody::ToolResult { call: text(), result: json!([1]), failed: true },
        EventBody::Retry { attempt: 2, status: Some(529), reason: text() },
        EventBody::AskedAgain { attempt: 1, violations: vec![Violation::new("/a", "wrong")], text: text() },
        EventBody::Unrecognised { raw: text() },
        EventBody::Ended(TurnOutcome {
            answer: some("x"),
            output: Some(json!([])),
            stop_reason: some("x"),
            failure: Some(Failure::new(FailureKind::TimedOut, "late")),
            stderr: text(),
            duration_ms: 1,
            usage: Usage::default(),
            events_dropped: 3,
        }),
    ];
    for body in &bodies {
        match body {
            EventBody::Prompt { .. }
            | EventBody::Started
            | EventBody::Context { .. }
            | EventBody::Text { .. }
            | EventBody::Thinking { .. }
            | EventBody::ToolCall { .. }
            | EventBody::ToolResult { .. }
            | EventBody::Retry { .. }
            | EventBody::AskedAgain { .. }
            | EventBody::Unrecognised { .. }
            | EventBody::Ended(_) => {}
        }
    }
    bodies
}

#[test]
fn every_kind_of_event_is_what_is_described() {
    let bodies = every_event();
    assert_eq!(bodies.len(), EVENT_NAMES.len());
    for (body, (kind, name)) in bodies.into_iter().zip(EVENT_NAMES) {
        let event = v1::Event { seq: 1, at: AT.to_owned(), turn_id: TURN.to_owned(), body };
        assert_eq!(serde_json::to_value(&event).unwrap()["type"], kind);
        assert_described(name, true, &event);
        assert_described("Event", false, &event);
        assert_described("EventPage", true, &v1::Page { data: vec![event], next_cursor: None });
    }
    let end = TurnOutcome {
        answer: None,
        output: None,
        stop_reason: None,
        failure: None,
        stderr: String::new(),
        duration_ms: 1,
        usage: Usage::default(),
        events_dropped: 0,
    };
    let sparse = [
        EventBody::Prompt {
            text: String::new(),
            model: String::new(),
            system: None,
            system_mode: SystemMode::Append,
            effort: None,
            files: Vec::new(),
            output_schema: None,
            instruction: None,
        },
        EventBody::Retry { attempt: 2, status: None, reason: String::new() },
        EventBody::Ended(end),
    ];
    for body in sparse {
        assert_described("Event", false, &v1::Event { seq: 1, at: AT.to_owned(), turn_id: TURN.to_owned(), body });
    }
}

#[test]
fn a_value_that_is_not_as_described_is_noticed() {
    let gap = |value: Value| faults(&all()["Gap"], &value, "Gap");
    assert_eq!(gap(json!({ "from": 1, "to": 2 })), Vec::<String>::new());
    for bad in
        [json!({ "from": 1 }), json!({ "from": 1, "to": "2" }), json!({ "from": 1, "to": 2, "more": 0 }), json!(5)]
    {
        assert_eq!(gap(bad.clone()).len(), 1, "{bad}");
    }
}
