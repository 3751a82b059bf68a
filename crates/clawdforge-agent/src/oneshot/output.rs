//! From the lines of `--output-format stream-json` to signals.
//!
//! Lenient: a field that is missing or of another type counts as absent, a line nobody understands
//! becomes [`AgentSignal::Unrecognised`]. No bytes make it panic. The answer is taken from the result
//! alone: pieces that were streamed may repeat after a broken connection.

use clawdforge_core::agent::{AgentSignal, Failure, FailureKind, TurnEnd, Usage};
use clawdforge_core::limits::ANSWER_BYTES_MAX;
use serde::Deserialize;
use serde_json::Value;

use super::failures::{ErrorFacts, judge};

/// Bytes kept of a line nobody understands: enough to recognise what it was.
pub const UNRECOGNISED_BYTES_MAX: usize = 4 * 1024;

/// The model name the agent gives to messages it wrote itself.
const SYNTHETIC: &str = "<synthetic>";

/// Reads the lines of one turn, in order.
#[derive(Debug)]
pub struct Parser {
    model_asked: String,
    model_seen: Option<String>,
    error_word: Option<String>,
}

/// Only the type: most lines are pieces of a stream, of which nothing else is needed.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
}

impl Parser {
    /// A parser for a turn that asked for this model.
    #[must_use]
    pub fn new(model_asked: impl Into<String>) -> Self {
        Self { model_asked: model_asked.into(), model_seen: None, error_word: None }
    }

    /// What a line says; at least one signal, more where a message has several parts.
    pub fn line(&mut self, line: &[u8]) -> Vec<AgentSignal> {
        if line.trim_ascii().is_empty() {
            return vec![AgentSignal::Working];
        }
        let Ok(head) = serde_json::from_slice::<Head>(line) else { return vec![unrecognised(line)] };
        match head.kind.as_str() {
            "stream_event" | "rate_limit_event" | "control_request" | "control_response" | "keep_alive" => {
                vec![AgentSignal::Working]
            }
            "system" | "assistant" | "user" | "result" => match serde_json::from_slice::<Value>(line) {
                Ok(value) => self.value(&head.kind, &value),
                Err(_) => vec![unrecognised(line)],
            },
            _ => vec![unrecognised(line)],
        }
    }

    fn value(&mut self, kind: &str, value: &Value) -> Vec<AgentSignal> {
        let signals = match kind {
            "assistant" => self.assistant(value),
            "user" => tool_results(value),
            "result" => vec![AgentSignal::TurnEnded(self.result(value))],
            _ => self.system(value),
        };
        if signals.is_empty() { vec![AgentSignal::Working] } else { signals }
    }

    fn system(&mut self, value: &Value) -> Vec<AgentSignal> {
        match text(value, "subtype") {
            Some("init") => self.model_seen = text(value, "model").map(str::to_owned),
            Some("api_retry") => {
                return vec![AgentSignal::Retrying {
                    attempt: number(value, "attempt").unwrap_or(0),
                    status: status(value, "error_status"),
                    reason: text(value, "error").unwrap_or("unknown").to_owned(),
                }];
            }
            _ => {}
        }
        Vec::new()
    }

    fn assistant(&mut self, value: &Value) -> Vec<AgentSignal> {
        // In place of an answer the agent writes its error as text; it comes again in the result.
        if let Some(word) = text(value, "error") {
            self.error_word = Some(word.to_owned());
            return Vec::new();
        }
        // What a helper of the agent says is not a piece of the agent's answer.
        let is_helper = text(value, "parent_tool_use_id").is_some();
        parts(value).filter_map(|part| said(part, is_helper)).collect()
    }

    fn result(&self, value: &Value) -> TurnEnd {
        let usage = self.usage(value);
        let stop_reason = text(value, "stop_reason").map(str::to_owned);
        if value["is_error"].as_bool() == Some(true) {
            let failure = self.failure(value);
            return TurnEnd { stop_reason, failure: Some(failure), usage, ..TurnEnd::default() };
        }
        let (answer, failure) = match &value["result"] {
            Value::String(answer) if answer.len() > ANSWER_BYTES_MAX => (None, Some(too_large(answer.len()))),
            Value::String(answer) => (Some(answer.clone()), None),
            _ => (None, Some(Failure::new(FailureKind::BadOutput, "the agent ended in good order but gave no answer"))),
        };
        let output = value.get("structured_output").cloned().map(Box::new);
        TurnEnd { answer, output, stop_reason, failure, usage, ..TurnEnd::default() }
    }

    fn failure(&self, value: &Value) -> Failure {
        judge(&ErrorFacts {
            subtype: text(value, "subtype").unwrap_or_default(),
            stop_reason: text(value, "stop_reason"),
            status: status(value, "api_error_status"),
            api_error: text(value, "api_error"),
            word: self.error_word.as_deref(),
            text: text(value, "result").or_else(|| value["errors"][0].as_str()).unwrap_or_default(),
            model: &self.model_asked,
        })
    }

    fn usage(&self, value: &Value) -> Usage {
        let used = &value["usage"];
        Usage {
            model: busiest_model(&value["modelUsage"]).or_else(|| self.model_seen.clone()),
            input_tokens: number(used, "input_tokens"),
            output_tokens: number(used, "output_tokens"),
            cache_read_tokens: number(used, "cache_read_input_tokens"),
            cache_write_tokens: number(used, "cache_creation_input_tokens"),
            cost_usd: value["total_cost_usd"].as_f64(),
        }
    }
}

/// The signal for bytes nobody understands.
#[must_use]
pub fn unrecognised(line: &[u8]) -> AgentSignal {
    let shown = &line[..line.len().min(UNRECOGNISED_BYTES_MAX)];
    let mut raw = String::from_utf8_lossy(shown).into_owned();
    raw.truncate(raw.floor_char_boundary(UNRECOGNISED_BYTES_MAX));
    AgentSignal::Unrecognised { raw }
}

fn said(part: &Value, is_helper: bool) -> Option<AgentSignal> {
    match text(part, "type")? {
        "text" if is_helper => text(part, "text").map(|said| AgentSignal::Thought(said.to_owned())),
        "text" => text(part, "text").map(|said| AgentSignal::Text(said.to_owned())),
        "thinking" => text(part, "thinking").map(|thought| AgentSignal::Thought(thought.to_owned())),
        "tool_use" | "server_tool_use" | "mcp_tool_use" => Some(AgentSignal::ToolCall {
            call: text(part, "id").unwrap_or_default().to_owned(),
            name: text(part, "name").unwrap_or_default().to_owned(),
            args: part["input"].clone(),
        }),
        _ => None,
    }
    .filter(|signal| !matches!(signal, AgentSignal::Text(said) | AgentSignal::Thought(said) if said.is_empty()))
}

fn tool_results(value: &Value) -> Vec<AgentSignal> {
    parts(value)
        .filter(|part| text(part, "type") == Some("tool_result"))
        .map(|part| AgentSignal::ToolResult {
            call: text(part, "tool_use_id").unwrap_or_default().to_owned(),
            result: part["content"].clone(),
            failed: part["is_error"].as_bool().unwrap_or(false),
        })
        .collect()
}

/// The model that wrote most: helpers of the agent may use another one.
fn busiest_model(by_model: &Value) -> Option<String> {
    let models = by_model.as_object()?.iter().filter(|(name, _)| name.as_str() != SYNTHETIC);
    models.max_by_key(|(_, used)| number(used, "outputTokens").unwrap_or(0)).map(|(name, _)| name.clone())
}

fn too_large(bytes: usize) -> Failure {
    Failure::new(
        FailureKind::AnswerTooLarge,
        format!("the answer has {bytes} bytes, more than the {ANSWER_BYTES_MAX} that can be returned; ask for less"),
    )
}

fn parts(value: &Value) -> impl Iterator<Item = &Value> {
    value["message"]["content"].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field)?.as_str()
}

fn number(value: &Value, field: &str) -> Option<u64> {
    value.get(field)?.as_u64()
}

fn status(value: &Value, field: &str) -> Option<u16> {
    number(value, field).and_then(|status| u16::try_from(status).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> AgentSignal {
        let mut signals = Parser::new("sonnet").line(line.as_bytes());
        assert_eq!(signals.len(), 1, "{signals:?}");
        signals.remove(0)
    }

    fn end(line: &str) -> TurnEnd {
        match one(line) {
            AgentSignal::TurnEnded(end) => end,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_nobody_understands_is_shown_cut_and_never_fatal() {
        for line in ["hello", "{", "[1]", "null", "{\"type\":1}", "{\"type\":\"new_thing\"}"] {
            assert_eq!(one(line), AgentSignal::Unrecognised { raw: line.to_owned() });
        }
        let AgentSignal::Unrecognised { raw } = unrecognised(&[0xff; 100_000]) else { panic!() };
        assert!(raw.len() <= UNRECOGNISED_BYTES_MAX && raw.starts_with('\u{fffd}'));
        assert!(matches!(one(&"[".repeat(100_000)), AgentSignal::Unrecognised { .. }));
    }

    #[test]
    fn known_lines_with_odd_fields_are_signs_of_life() {
        for line in [
            "",
            "  ",
            r#"{"type":"system"}"#,
            r#"{"type":"assistant","message":"hi"}"#,
            r#"{"type":"assistant","message":{"content":"hi"}}"#,
            r#"{"type":"assistant","message":{"content":[1,{"type":"text"},{"type":"text","text":""}]}}"#,
            r#"{"type":"user","message":{"content":[{"type":"text","text":"a nudge"}]},"isSynthetic":true}"#,
            r#"{"event":{},"type":"stream_event"}"#,
        ] {
            assert_eq!(one(line), AgentSignal::Working, "{line}");
        }
    }

    #[test]
    fn a_helpers_words_are_thoughts_not_answers() {
        let line =
            r#"{"type":"assistant","parent_tool_use_id":"t","message":{"content":[{"type":"text","text":"x"}]}}"#;
        assert_eq!(one(line), AgentSignal::Thought("x".into()));
    }

    #[test]
    fn a_result_without_a_text_is_bad_output_and_an_empty_text_is_an_answer() {
        let bad = end(r#"{"type":"result","subtype":"success","is_error":false}"#);
        assert_eq!(bad.failure.unwrap().kind, FailureKind::BadOutput);
        let empty = end(r#"{"type":"result","subtype":"success","is_error":false,"result":""}"#);
        assert_eq!((empty.answer.as_deref(), empty.failure), (Some(""), None));
    }

    #[test]
    fn the_model_that_wrote_most_is_the_one_that_answered() {
        let end = end(concat!(
            r#"{"type":"result","is_error":false,"result":"","#,
            r#""modelUsage":{"small":{"outputTokens":3},"large":{"outputTokens":9},"<synthetic>":{"outputTokens":99}}}"#
        ));
        assert_eq!(end.usage.model.as_deref(), Some("large"));
    }

    #[test]
    fn an_answer_beyond_the_limit_is_a_failure() {
        let line = format!(r#"{{"type":"result","result":"{}"}}"#, "x".repeat(ANSWER_BYTES_MAX + 1));
        let end = end(&line);
        assert_eq!((end.answer, end.failure.unwrap().kind), (None, FailureKind::AnswerTooLarge));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let names = "type|subtype|message|content|text|error|result|is_error|usage|modelUsage|errors|id|input";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "assistant|user|system|result|text|tool_use|tool_result|api_retry|init|.{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(names, inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(line in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(!Parser::new("m").line(&line).is_empty());
        }

        #[test]
        fn no_json_makes_the_parser_panic(mut value in any_json(), kind in "assistant|user|system|result") {
            if let Some(object) = value.as_object_mut() {
                object.insert("type".into(), kind.into());
            }
            prop_assert!(!Parser::new("m").line(value.to_string().as_bytes()).is_empty());
        }
    }
}
