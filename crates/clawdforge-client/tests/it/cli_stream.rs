//! `run --stream`, `runs` and `events`: what is printed as it comes, exit codes, interrupts.

use std::time::Duration;

use clawdforge_client::commands::Exit;
use serde_json::json;

use crate::cli::{Cli, ClosedPipe, Ended, usage_error};
use crate::streams::{Then, ended, event, failed, located, refused, streaming, text};
use crate::stub::{Asked, Stub, reply};

const RUN: &str = "/v1/runs/run_1";

/// A service whose runs tell this.
async fn telling(told: String, then: Then) -> Stub {
    Stub::with(move |_| located(streaming(told.clone(), then), RUN)).await
}

fn thought(seq: u64, content: &str) -> String {
    event(seq, "thinking", &json!({ "content": content }))
}

fn lines(stub: &Stub) -> Vec<String> {
    let line = |asked: &Asked| format!("{} {}?{}", asked.method, asked.path, asked.query);
    stub.asked().iter().map(|asked| line(asked).trim_end_matches('?').to_owned()).collect()
}

async fn streamed(stub: &Stub) -> Ended {
    Cli::of(stub).run(&["run", "hi", "--stream", "--model", "opus"]).await
}

#[tokio::test]
async fn a_streamed_run_prints_the_answer_and_thinks_beside_it() {
    let call = event(4, "tool_call", &json!({"call": "1", "name": "Read", "args": {"path": "x"}}));
    let told = [thought(1, "let me"), thought(2, " see"), text(3, "two "), call, text(5, "cups"), ended(6)].concat();
    let stub = telling(told, Then::Ends).await;
    let piped = streamed(&stub).await;
    assert_eq!((piped.exit, piped.stdout.as_str()), (Exit::Done, "two cups\n"));
    assert_eq!(piped.stderr, "let me see\n· Read {\"path\":\"x\"}\n");
    assert_eq!(stub.only().json(), json!({"prompt": "hi", "model": "opus"}));

    let shown = Cli::of(&stub).one_terminal().run(&["run", "hi", "--stream"]).await;
    let own = shown.stdout.replace("running… 0 s", "").replace("\r\u{1b}[K", "");
    let dim = "\u{1b}[2mlet me\u{1b}[0m\u{1b}[2m see\u{1b}[0m\n";
    assert_eq!(own, format!("{dim}two \n· Read {{\"path\":\"x\"}}\ncups\n"));
    assert!(usage_error(&["run", "hi", "--stream", "--raw"]).is_some());
}

#[tokio::test]
async fn an_answer_that_came_in_no_piece_is_printed_at_its_end() {
    let stub = telling(ended(1), Then::Ends).await;
    assert_eq!(streamed(&stub).await.stdout, "a\n");
}

#[tokio::test]
async fn a_streamed_run_ends_with_the_exit_code_of_its_outcome() {
    let stub = telling([text(1, "half"), failed(2, "timed_out", "took too long")].concat(), Then::Ends).await;
    let ended = streamed(&stub).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::ServiceFailed, "half\n"));
    let shown: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(
        shown,
        json!({"ok": false, "error": "took too long", "code": "timed_out", "stderr": "tail", "duration_ms": 7,
            "stop_reason": null})
    );
    for (code, status, exit) in [("invalid_request", 422, Exit::Refused), ("busy", 503, Exit::ServiceFailed)] {
        let stub = Stub::with(move |_| refused(code, status, None)).await;
        let ended = streamed(&stub).await;
        assert_eq!((ended.exit, ended.stdout.as_str()), (exit, ""));
        assert!(ended.stderr.contains("because"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_streamed_run_goes_on_where_its_connection_broke_and_says_so_only_if_it_cannot() {
    let stub = Stub::with(|asked| match asked.path.as_str() {
        "/v1/runs" => located(streaming([text(1, "a"), text(2, "b")].concat(), Then::Breaks), RUN),
        _ => streaming([text(3, "c"), ended(4)].concat(), Then::Ends),
    })
    .await;
    let ended = streamed(&stub).await;
    assert_eq!((ended.exit, ended.stdout.as_str(), ended.stderr.as_str()), (Exit::Done, "abc\n", ""));

    let stub = Stub::with(|asked| match asked.path.as_str() {
        "/v1/runs" => located(streaming(text(1, "a"), Then::Breaks), RUN),
        _ => refused("not_signed_in", 401, None),
    })
    .await;
    let ended = streamed(&stub).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Refused, "a\n"));
    assert!(ended.stderr.contains("events run_1 --follow --after 1") && ended.stderr.contains("because"), "{ended:?}");
}

#[tokio::test]
async fn an_interrupt_leaves_the_run_going_and_says_how_to_follow_it() {
    let stub = telling([text(1, "half"), text(2, " an")].concat(), Then::Stays).await;
    let cli = Cli::of(&stub);
    let stdout = cli.stdout.clone();
    let ended = cli.interrupt(async move { stdout.wait_for("half an").await }).run(&["run", "hi", "--stream"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Interrupted, "half an\n"));
    for said in ["the run run_1 goes on", "events run_1 --follow --after 2", "runs get run_1", "runs cancel run_1"] {
        assert!(ended.stderr.contains(said), "{said:?} is missing: {ended:?}");
    }
    assert_eq!(lines(&stub), ["POST /v1/runs"], "nothing is cancelled");
}

#[tokio::test]
async fn an_interrupt_before_the_service_has_answered_says_what_is_not_known() {
    let reached = std::sync::Arc::new(tokio::sync::Notify::new());
    let reach = std::sync::Arc::clone(&reached);
    let stub = Stub::with_slow(move |_| {
        reach.notify_one();
        Box::pin(std::future::pending())
    })
    .await;
    let cli = Cli::of(&stub).interrupt(async move { reached.notified().await });
    let ended = cli.run(&["run", "hi", "--stream"]).await;
    assert_eq!(ended.exit, Exit::Interrupted);
    assert!(ended.stderr.contains("may have begun") && ended.stderr.contains("runs list"), "{ended:?}");
}

#[tokio::test]
async fn runs_are_listed_looked_at_and_cancelled() {
    let stub = Stub::answering(200, r#"{"data":[],"next_cursor":null,"new":1}"#).await;
    let listed = Cli::of(&stub).run(&["runs", "list", "--limit", "2", "--cursor", "run_0"]).await;
    assert_eq!((listed.exit, listed.stdout.as_str()), (Exit::Done, "{\"data\":[],\"next_cursor\":null,\"new\":1}\n"));
    assert_eq!(lines(&stub), ["GET /v1/runs?cursor=run_0&limit=2"]);
    let run = r#"{"id":"run_1","agent":"a","state":"running","outcome":null,"queued_at":"t","new":1}"#;
    let stub = Stub::answering(202, run).await;
    for verb in ["get", "cancel"] {
        let ended = Cli::of(&stub).run(&["runs", verb, "run_1"]).await;
        assert_eq!((ended.exit, ended.stdout), (Exit::Done, format!("{run}\n")));
    }
    assert_eq!(lines(&stub), ["GET /v1/runs/run_1", "POST /v1/runs/run_1/cancel"]);
    let stub = Stub::with(|_| refused("already_ended", 409, None)).await;
    assert_eq!(Cli::of(&stub).run(&["runs", "cancel", "run_1"]).await.exit, Exit::Refused);
    assert_eq!(Cli::of(&stub).run(&["runs", "cancel", "../x"]).await.exit, Exit::Usage);
}

#[tokio::test]
async fn events_are_one_line_each_page_after_page() {
    let uuid = "0190f0a4-7c1e-7000-8000-000000000000";
    let stub = Stub::with(|asked| {
        let (seq, next) = if asked.query.contains("cursor") { (9, "null") } else { (8, "\"8\"") };
        let row = format!(r#"{{"seq":{seq},"at":"t","turn_id":"trn_1","type":"text","content":"a","new":1}}"#);
        reply(200, &format!(r#"{{"data":[{row}],"next_cursor":{next}}}"#))
    })
    .await;
    let ended = Cli::of(&stub).run(&["events", uuid, "--after", "7"]).await;
    assert_eq!(ended.exit, Exit::Done, "{ended:?}");
    let seqs: Vec<_> = ended.stdout.lines().map(|line| line[..8].to_owned()).collect();
    assert_eq!(
        (seqs, ended.stdout.matches(r#""new":1"#).count()),
        (vec![r#"{"seq":8"#.into(), r#"{"seq":9"#.into()], 2)
    );
    let asked = lines(&stub);
    assert!(asked[0].starts_with("GET /v1/sessions/ses_") && asked[0].ends_with("/events?after=7"), "{asked:?}");
    assert!(asked[1].ends_with("/events?after=7&cursor=8"), "{asked:?}");
}

#[tokio::test]
async fn following_goes_on_to_the_end_and_a_reader_that_left_ends_it() {
    let stub = telling([text(3, "a"), ended(4)].concat(), Then::Stays).await;
    let follow = ["events", "run_1", "--follow", "--after", "2"];
    let followed = Cli::of(&stub).run(&follow).await;
    assert_eq!((followed.exit, followed.stdout.lines().count()), (Exit::Done, 2), "{followed:?}");
    let asked = stub.only();
    assert_eq!((asked.path.as_str(), asked.header("last-event-id")), ("/v1/runs/run_1/events", Some("2")));
    let left = Cli::of(&stub).stdout(ClosedPipe).run(&follow).await;
    assert_eq!((left.exit, left.stderr.as_str()), (Exit::Failed, ""));

    // Without `--follow` what is there is enough of a run that goes on; one that has ended is told to its end.
    for (state, then, told) in [("running", Then::Stays, 1), ("ended", Then::Breaks, 2)] {
        let stub = Stub::with_slow(move |asked| {
            Box::pin(async move {
                if asked.path == "/v1/runs/run_1" {
                    let run = json!({"id": "run_1", "agent": "a", "state": state, "queued_at": "t"});
                    reply(200, &run.to_string())
                } else if asked.header("last-event-id") == Some("1") {
                    // why: longer than what counts as quiet is what this is about.
                    tokio::time::sleep(Duration::from_millis(1_200)).await;
                    streaming(ended(2), Then::Ends)
                } else {
                    streaming(text(1, "a"), then)
                }
            })
        })
        .await;
        let there = Cli::of(&stub).run(&["events", "run_1"]).await;
        assert_eq!((there.exit, there.stdout.lines().count()), (Exit::Done, told), "{state}: {there:?}");
    }
}

#[tokio::test]
async fn events_of_nothing_that_has_any_are_not_asked_for() {
    let stub = Stub::answering(200, "{}").await;
    for id in ["trn_01m8j9p30bf0es9ar7nd5hjkgn", "ses_1", "", "run_../x"] {
        assert_eq!(Cli::of(&stub).run(&["events", id]).await.exit, Exit::Usage, "{id:?}");
    }
    assert!(stub.asked().is_empty());
}
