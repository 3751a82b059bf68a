//! `ledger list` and `ledger export`

use clawdforge_client::commands::Exit;
use serde_json::{Value, json};

use crate::cli::{Cli, usage_error};
use crate::stub::{Stub, reply};

fn entry(seq: u64, subject: &str) -> Value {
    json!({"seq": seq, "at": "2026-01-02T03:04:05.678Z", "kind": "run_ended", "principal": "app", "app": "a",
        "request_id": null, "subject": subject, "agent": "claude", "model_asked": null, "model_used": "sonnet",
        "prompt_chars": 5, "answer_chars": 6, "input_tokens": 7, "output_tokens": 8, "cache_read_tokens": null,
        "cache_write_tokens": null, "cost_usd": 0.0123, "size_bytes": null, "duration_ms": 4321,
        "outcome": "completed", "isolation": "landlock", "count": null})
}

/// Five lines, two a page.
async fn five_lines() -> Stub {
    Stub::with(|asked| {
        let after = asked
            .query
            .split('&')
            .find_map(|pair| pair.strip_prefix("cursor="))
            .map_or(0, |text| text.parse().unwrap());
        let entries: Vec<Value> = (after + 1..=5).take(2).map(|seq| entry(seq, "say \"a,b\"")).collect();
        let next = (after + 2 < 5).then_some(after + 2);
        reply(200, &json!({"ok": true, "entries": entries, "next_cursor": next}).to_string())
    })
    .await
}

#[tokio::test]
async fn a_list_is_json_unless_a_person_reads_it() {
    let stub = five_lines().await;
    let piped = Cli::of(&stub).run(&["ledger", "list"]).await;
    assert_eq!((piped.exit, &piped.json()["next_cursor"]), (Exit::Done, &json!(2)));
    let forced = Cli::of(&stub).terminal().run(&["ledger", "list", "--json"]).await;
    assert_eq!(forced.stdout, piped.stdout);

    let shown = Cli::of(&stub).terminal().run(&["ledger", "list"]).await;
    assert!(shown.stdout.starts_with("SEQ  AT"), "{}", shown.stdout);
    assert_eq!(shown.stdout.lines().count(), 3);
    assert!(shown.stdout.contains("sonnet") && shown.stdout.contains("$0.0123") && shown.stdout.contains("4.3 s"));
    assert!(shown.stderr.contains("--cursor 2"), "{}", shown.stderr);
}

#[tokio::test]
async fn the_filters_of_a_list_travel() {
    let stub = five_lines().await;
    let args = ["ledger", "list", "--app", "a", "--kind", "run_ended", "--limit", "2", "--cursor", "2"];
    assert_eq!(Cli::of(&stub).run(&args).await.exit, Exit::Done);
    assert_eq!(stub.only().query, "app=a&kind=run_ended&cursor=2&limit=2");
}

#[tokio::test]
async fn an_export_reads_page_after_page_oldest_first_to_the_end() {
    let stub = five_lines().await;
    let ended = Cli::of(&stub).run(&["ledger", "export", "--format", "jsonl", "--app", "a"]).await;
    assert_eq!((ended.exit, ended.stderr.as_str()), (Exit::Done, ""));
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(lines[0], entry(1, "say \"a,b\""));
    let queries: Vec<String> = stub.asked().into_iter().map(|asked| asked.query).collect();
    let expected = [
        "app=a&order=oldest&limit=1000",
        "app=a&order=oldest&cursor=2&limit=1000",
        "app=a&order=oldest&cursor=4&limit=1000",
    ];
    assert_eq!(queries, expected);
}

#[tokio::test]
async fn a_csv_export_has_one_heading_and_quotes_what_needs_it() {
    let stub = five_lines().await;
    let ended = Cli::of(&stub).run(&["ledger", "export", "--format", "csv"]).await;
    assert_eq!(ended.exit, Exit::Done);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 6);
    assert!(lines[0].starts_with("seq,at,kind,principal,app,"));
    assert!(lines[5].starts_with("5,2026-01-02T03:04:05.678Z,run_ended,app,a,,\"say \"\"a,b\"\"\",claude,,sonnet,5,6,7,8,,,0.0123,,4321,completed"), "{}", lines[5]);
}

#[tokio::test]
async fn an_empty_ledger_exports_a_heading_alone() {
    let stub = Stub::answering(200, r#"{"ok":true,"entries":[],"next_cursor":null}"#).await;
    let csv = Cli::of(&stub).run(&["ledger", "export", "--format", "csv"]).await;
    assert_eq!((csv.exit, csv.stdout.lines().count()), (Exit::Done, 1));
    let jsonl = Cli::of(&stub).run(&["ledger", "export", "--format", "jsonl"]).await;
    assert_eq!((jsonl.exit, jsonl.stdout.as_str()), (Exit::Done, ""));
}

#[tokio::test]
async fn an_export_that_goes_round_in_circles_is_stopped() {
    let stub = Stub::answering(200, r#"{"ok":true,"entries":[],"next_cursor":3}"#).await;
    let ended = Cli::of(&stub).run(&["ledger", "export", "--format", "jsonl"]).await;
    assert_eq!(ended.exit, Exit::Failed);
    assert_eq!(stub.asked().len(), 2);
}

#[tokio::test]
async fn an_export_that_fails_half_way_says_so() {
    let stub = Stub::with(|asked| {
        if asked.query.contains("cursor=") {
            return reply(500, r#"{"error":"the store is gone"}"#);
        }
        reply(200, &json!({"ok": true, "entries": [entry(1, "x")], "next_cursor": 1}).to_string())
    })
    .await;
    let ended = Cli::of(&stub).run(&["ledger", "export", "--format", "jsonl"]).await;
    assert_eq!((ended.exit, ended.stdout.lines().count()), (Exit::ServiceFailed, 1));
    assert!(ended.stderr.contains("the store is gone"), "{ended:?}");
}

#[tokio::test]
async fn an_export_is_json_lines_unless_another_known_format_is_named() {
    let stub = five_lines().await;
    let plain = Cli::of(&stub).run(&["ledger", "export"]).await;
    let named = Cli::of(&stub).run(&["ledger", "export", "--format", "jsonl"]).await;
    assert_eq!((plain.exit, plain.stdout.lines().count()), (Exit::Done, 5));
    assert_eq!(plain.stdout, named.stdout);
    assert!(usage_error(&["ledger", "export", "--format", "xml"]).is_some());
}
