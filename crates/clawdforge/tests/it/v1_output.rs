//! `output_schema`: answers as data, checked, asked for again a few times, over streams, in the background and over a restart.

use anyhow::{Context as _, ensure};
use clawdforge_core::output::{OUTPUT_RETRIES_MAX, SCHEMA_BYTES_MAX};
use clawdforge_testkit::app::{Answer, TestApp, read};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setup;
use crate::support::events::{Sse, follow};
use crate::support::{cli, stdout};

fn wanted() -> Value {
    json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false})
}

async fn post(app: &TestApp, path: &str, body: Value) -> anyhow::Result<Answer> {
    app.call(Method::POST, path, &app.demo_token()?, body).await
}

async fn get(app: &TestApp, path: &str) -> anyhow::Result<Value> {
    let answer = app.call(Method::GET, path, &app.demo_token()?, Value::Null).await?;
    ensure!(answer.status == StatusCode::OK, "{answer:?}");
    Ok(answer.json())
}

async fn open(app: &TestApp) -> anyhow::Result<String> {
    let opened = post(app, "/v1/sessions", json!({})).await?;
    ensure!(opened.status == StatusCode::CREATED, "{opened:?}");
    Ok(opened.headers["location"].to_str()?.to_owned())
}

async fn asked(app: &TestApp, path: &str, prompt: &str) -> anyhow::Result<Value> {
    let answer = post(app, path, json!({ "prompt": prompt, "output_schema": wanted() })).await?;
    ensure!(answer.status == StatusCode::OK, "{answer:?}");
    Ok(answer.json())
}

async fn events_of(app: &TestApp, path: &str) -> anyhow::Result<Vec<Sse>> {
    follow(app.http().get(app.url(&format!("{path}/events"))).bearer_auth(app.demo_token()?)).await?.rest().await
}

fn names(events: &[Sse]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

#[tokio::test]
async fn a_run_whose_agent_takes_a_schema_gives_data_or_says_where_it_does_not_fit() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let run = asked(&app, "/v1/runs", "json: {\"n\": 7}").await?;
    assert_eq!((&run["outcome"], &run["result"]["output"]), (&json!("completed"), &json!({"n": 7})), "{run}");
    assert_eq!(run["result"]["answer"], "```json\n{\"n\": 7}\n```", "the answer stays as it was said");
    let events = events_of(&app, &format!("/v1/runs/{}", run["id"].as_str().unwrap_or_default())).await?;
    assert_eq!(events[0].data["output_schema"], wanted());
    assert_eq!(events[0].data.get("instruction"), None, "it was told by an option and not in words");
    assert_eq!(events.last().map(|end| end.data["output"].clone()), Some(json!({"n": 7})));

    for (prompt, path) in [("json: {\"n\": \"x\"}", "/n"), ("say: seven", "")] {
        let run = asked(&app, "/v1/runs", prompt).await?;
        assert_eq!(run["outcome"], "output_invalid", "{run}");
        let failure = &run["result"]["failure"];
        assert_eq!((&failure["code"], &failure["violations"][0]["path"]), (&json!("output_invalid"), &json!(path)));
        assert_eq!(run["result"].get("output"), None);
    }
    let plain = post(&app, "/v1/runs", json!({ "prompt": "json: {\"n\": 7}" })).await?.json();
    assert_eq!((&plain["outcome"], plain["result"].get("output")), (&json!("completed"), None));
    Ok(())
}

#[tokio::test]
async fn a_run_whose_agent_cannot_take_the_schema_is_told_in_words_and_asked_once() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let list = json!({"type": "array", "items": {"type": "integer"}});
    let body = |prompt: &str| json!({ "prompt": prompt, "output_schema": list });
    let run = post(&app, "/v1/runs", body("say: [1, 2]")).await?.json();
    assert_eq!(run["result"]["output"], json!([1, 2]), "{run}");
    let events = events_of(&app, &format!("/v1/runs/{}", run["id"].as_str().unwrap_or_default())).await?;
    assert_eq!(events[0].data["text"], "say: [1, 2]");
    assert!(events[0].data["instruction"].as_str().is_some_and(|text| text.contains(&list.to_string())));
    let run = post(&app, "/v1/runs", body("say: [1, \"x\"]")).await?.json();
    assert_eq!(
        (&run["outcome"], &run["result"]["failure"]["violations"][0]["path"]),
        (&json!("output_invalid"), &json!("/1"))
    );
    Ok(())
}

#[tokio::test]
async fn a_turn_whose_answer_does_not_fit_is_asked_again_in_its_conversation() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let session = open(&app).await?;
    let request = app.http().post(app.url(&format!("{session}/turns"))).bearer_auth(app.demo_token()?);
    let prompt = "say: It is 7: {\"n\": 7}\nlater: json: {\"n\": 7}";
    let body = json!({ "prompt": prompt, "output_schema": wanted() });
    let stream = follow(request.header("accept", "text/event-stream").json(&body)).await?;
    let events = stream.rest().await?;
    assert_eq!(names(&events), ["prompt", "started", "context", "text", "asked_again", "text", "ended"]);
    let again = &events[4].data;
    assert_eq!((&again["attempt"], &again["violations"][0]["path"]), (&json!(1), &json!("")), "{again}");
    assert_eq!(events[6].data["output"], json!({"n": 7}));
    let used = events[6].data["usage"]["input_tokens"].as_u64().context("it is known")?;
    let sent = |text: &Value| text.as_str().map_or(0, |text| text.chars().count().div_ceil(4) as u64);
    let first = format!("{prompt}{}", events[0].data["instruction"].as_str().context("it is on record")?);
    let played = json!("json: {\"n\": 7}");
    assert_eq!(used, sent(&json!(first)) + sent(&played), "what was sent is what is on record, and both answers count");

    // The agent has both prompts in its memory, so it was the same conversation.
    let recalled = post(&app, &format!("{session}/turns"), json!({ "prompt": "recall" })).await?.json();
    let memory = recalled["result"]["answer"].as_str().unwrap_or_default().to_owned();
    assert!(memory.contains("Your answer is not valid"), "{memory}");
    Ok(())
}

#[tokio::test]
async fn a_turn_that_never_fits_says_so_after_a_few_answers_and_the_session_goes_on() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let session = open(&app).await?;
    let turn =
        asked(&app, &format!("{session}/turns"), "say: no\nlater: later: json: {\"n\": 1.5}\nlater: say: still no")
            .await?;
    assert_eq!(turn["outcome"], "output_invalid", "{turn}");
    let failure = &turn["result"]["failure"];
    assert_eq!(
        failure["violations"],
        json!([{"path": "/n", "message": "value is not of type \"integer\""}]),
        "{failure}"
    );
    let events = events_of(&app, &format!("{session}/turns/{}", turn["id"].as_str().unwrap_or_default())).await?;
    let times = names(&events).iter().filter(|name| **name == "asked_again").count() as u64;
    assert_eq!(times, OUTPUT_RETRIES_MAX);
    assert_eq!(events.last().map(|end| end.data["failure"]["violations"][0]["path"].clone()), Some(json!("/n")));
    let ledger = app.ledger_with(|lines| lines.iter().any(|line| line["kind"] == "turn_ended")).await?;
    assert!(ledger.iter().any(|line| line["outcome"] == "output_invalid"), "{ledger:#?}");
    let next = asked(&app, &format!("{session}/turns"), "json: {\"n\": 2}").await?;
    assert_eq!(next["result"]["output"], json!({"n": 2}));
    Ok(())
}

#[tokio::test]
async fn a_cancel_while_it_is_asked_again_ends_the_turn_and_the_time_covers_all_answers() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let session = open(&app).await?;
    let request = app.http().post(app.url(&format!("{session}/turns"))).bearer_auth(app.demo_token()?);
    let body = json!({ "prompt": "say: no\nlater: hang", "output_schema": wanted() });
    let mut stream = follow(request.header("accept", "text/event-stream").json(&body)).await?;
    let turn = stream.location().context("it says where the turn is")?;
    while stream.next().await?.context("it goes on")?.name != "asked_again" {}
    assert_eq!(post(&app, &format!("{turn}/cancel"), Value::Null).await?.status, StatusCode::ACCEPTED);
    let end = stream.rest().await?.pop().context("it ends")?;
    assert_eq!(end.data["failure"]["kind"], "cancelled", "{end:?}");

    let body = json!({ "prompt": "say: no\nlater: hang", "output_schema": wanted(), "timeout_secs": 5 });
    let late = post(&app, &format!("{session}/turns"), body).await?.json();
    assert_eq!(late["outcome"], "timed_out", "{late}");
    Ok(())
}

#[tokio::test]
async fn a_queued_turn_still_has_its_schema_after_a_restart_and_no_prompt_is_sent_twice() -> anyhow::Result<()> {
    let mut app = setup().demo().start().await?;
    let session = open(&app).await?;
    let begun = async |app: &TestApp, prompt: &str| {
        let request = app.http().post(app.url(&format!("{session}/turns"))).bearer_auth(app.demo_token()?);
        let body = json!({ "prompt": prompt, "output_schema": wanted() });
        let answer = read(request.header("prefer", "respond-async").json(&body)).await?;
        ensure!(answer.status == StatusCode::ACCEPTED, "{answer:?}");
        anyhow::Ok(answer.headers["location"].to_str()?.to_owned())
    };
    let under_way = begun(&app, "note: first\nsay: no\nlater: note: again\nlater: hang").await?;
    let waiting = begun(&app, "note: second\nsay: no").await?;
    let url = app.url(&format!("{under_way}/events"));
    let mut stream = follow(app.http().get(url).bearer_auth(app.demo_token()?)).await?;
    while stream.next().await?.context("it goes on")?.name != "asked_again" {}
    app.signal(rustix::process::Signal::KILL)?;
    app.ended().await?;
    drop(stream);
    let app = app.restart().await?;

    let events = events_of(&app, &waiting).await?;
    assert_eq!(events[0].data["output_schema"], wanted());
    assert!(names(&events).contains(&"asked_again"), "{events:?}");
    assert_eq!(get(&app, &waiting).await?["outcome"], "output_invalid");
    assert_eq!(get(&app, &under_way).await?["outcome"], "interrupted");
    let sessions = app.data_dir().join("sessions");
    let work = std::fs::read_dir(sessions)?.next().context("there is one")??.path().join("work");
    let notes = std::fs::read_to_string(work.join("notes.txt"))?;
    assert!(notes.matches("first").count() == 1 && notes.matches("second").count() == 1, "{notes}");
    Ok(())
}

#[tokio::test]
async fn a_schema_that_cannot_be_taken_is_refused_with_its_place_and_nothing_begins() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let turns = format!("{}/turns", open(&app).await?);
    for (schema, field) in [
        (json!("x"), "body.output_schema"),
        (json!({"type": "objekt"}), "body.output_schema.type"),
        (json!({"properties": {"a/b": {"minimum": "x"}}}), "body.output_schema.properties.a/b.minimum"),
        (json!({"items": {"$ref": "https://example.com/x"}}), "body.output_schema.items.$ref"),
        (json!({"items": {"$ref": "file:///etc/passwd"}}), "body.output_schema.items.$ref"),
        (json!({"$ref": "#"}), "body.output_schema"),
        (json!({"$schema": "http://json-schema.org/draft-07/schema#"}), "body.output_schema.$schema"),
        (json!({"description": "x".repeat(SCHEMA_BYTES_MAX)}), "body.output_schema"),
    ] {
        for path in ["/v1/runs", &turns] {
            let refused = post(&app, path, json!({ "prompt": "say: x", "output_schema": schema })).await?;
            assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
            let problem = refused.json();
            assert_eq!(
                (&problem["code"], &problem["errors"][0]["field"]),
                (&json!("invalid_request"), &json!(field)),
                "{problem}"
            );
        }
    }
    let both = post(&app, "/v1/runs", json!({ "output_schema": {"$ref": "x"} })).await?.json();
    assert_eq!(both["errors"].as_array().map(Vec::len), Some(2), "all faults at once: {both}");
    assert_eq!(get(&app, "/v1/runs").await?["data"], json!([]));
    assert_eq!(get(&app, &turns).await?["data"], json!([]));
    Ok(())
}

#[tokio::test]
async fn the_first_versions_pass_over_it_and_a_key_covers_it() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let run = app
        .run(&app.demo_token()?, json!({ "prompt": "json: {\"a\": 1}", "output_schema": {"type": "objekt"} }))
        .await?;
    assert_eq!((run.status, &run.json()["result"]), (StatusCode::OK, &json!({"a": 1})));
    let sent = |schema: Value| {
        let request = app.http().post(app.url("/v1/runs")).bearer_auth(app.demo_token().unwrap_or_default());
        read(
            request
                .header("idempotency-key", "k")
                .json(&json!({ "prompt": "json: {\"n\": 1}", "output_schema": schema })),
        )
    };
    let first = sent(wanted()).await?;
    let again = sent(wanted()).await?;
    assert_eq!((first.status, &first.json()["id"]), (StatusCode::OK, &again.json()["id"]));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let other = sent(json!({"type": "object"})).await?;
    assert_eq!(other.json()["code"], "idempotency_key_reused");
    Ok(())
}

#[tokio::test]
async fn the_command_line_prints_the_data() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let file = app.home().join("wanted.json");
    std::fs::write(&file, wanted().to_string())?;
    let args = ["run", "json: {\"n\": 7}", "--raw", "--output-schema", &file.to_string_lossy()];
    assert_eq!(stdout(&cli(&app, &args).await?), "{\"n\":7}\n");
    Ok(())
}
