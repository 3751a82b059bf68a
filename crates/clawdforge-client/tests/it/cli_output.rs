//! `run --output-schema FILE`: asked of `/v1`, printed as a run's answer.

use std::path::Path;

use clawdforge_client::commands::Exit;
use clawdforge_client::{ClientError, RunRequest, TurnRequest};
use serde_json::{Value, json};

use crate::cli::{Cli, Ended};
use crate::streams::{Then, ended, event, failed, located, streaming, text};
use crate::stub::Stub;

async fn telling(told: String) -> Stub {
    Stub::with(move |_| located(streaming(told.clone(), Then::Ends), "/v1/runs/run_1")).await
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

async fn run(stub: &Stub, schema: &Path, more: &[&str]) -> Ended {
    let args = [&["run", "hi", "--output-schema", schema.to_str().unwrap()], more].concat();
    Cli::of(stub).run(&args).await
}

#[tokio::test]
async fn the_data_is_printed_as_the_result_of_a_run_or_alone() {
    let end = json!({"answer": "seven", "output": {"n": 7}, "stop_reason": "end_turn", "duration_ms": 4});
    let stub = telling([text(1, "seven"), event(2, "ended", &end)].concat()).await;
    let schema = file(r#"{"type": "object"}"#);
    let printed = run(&stub, schema.path(), &[]).await;
    assert_eq!(printed.exit, Exit::Done, "{}", printed.stderr);
    let reply: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(reply, json!({"ok": true, "result": {"n": 7}, "duration_ms": 4, "stop_reason": "end_turn"}));
    let asked = stub.only();
    assert_eq!((asked.path.as_str(), asked.json()["output_schema"].clone()), ("/v1/runs", json!({"type": "object"})));
    let stub = telling(event(1, "ended", &end)).await;
    assert_eq!(run(&stub, schema.path(), &["--raw"]).await.stdout, "{\"n\":7}\n");
}

#[tokio::test]
async fn what_does_not_fit_is_a_failed_run_and_a_service_that_does_not_look_is_told() {
    let schema = file("{}");
    let stub = telling(failed(1, "output_invalid", "it does not fit")).await;
    let printed = run(&stub, schema.path(), &[]).await;
    assert_eq!((printed.exit, printed.stdout.as_str()), (Exit::ServiceFailed, ""));
    let shown: Value = serde_json::from_str(&printed.stderr).unwrap();
    assert_eq!((&shown["code"], &shown["error"]), (&json!("output_invalid"), &json!("it does not fit")));
    let older = run(&telling(ended(1)).await, schema.path(), &[]).await;
    assert!(older.exit != Exit::Done && older.stderr.contains("does not know output_schema"), "{}", older.stderr);
}

#[tokio::test]
async fn a_schema_that_cannot_be_read_is_not_sent() {
    let stub = telling(ended(1)).await;
    for schema in [file("{").path().to_owned(), file("{").path().with_extension("none")] {
        let printed = run(&stub, &schema, &[]).await;
        assert!(printed.exit == Exit::Usage && printed.stderr.contains("--output-schema"), "{}", printed.stderr);
    }
    assert_eq!(stub.asked().len(), 0);
}

#[tokio::test]
async fn the_calls_of_the_first_versions_refuse_a_schema_that_nobody_would_look_at() {
    let stub = telling(ended(1)).await;
    let output_schema = Some(json!({}));
    let request = RunRequest { prompt: "hi".to_owned(), output_schema: output_schema.clone(), ..RunRequest::default() };
    assert!(matches!(stub.client().run(request).await, Err(ClientError::Invalid(_))));
    let request = TurnRequest { prompt: "hi".to_owned(), output_schema, ..TurnRequest::default() };
    assert!(matches!(stub.client().session("0190-a").unwrap().turn(request).await, Err(ClientError::Invalid(_))));
    assert_eq!(stub.asked().len(), 0);
}
