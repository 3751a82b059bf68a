//! `run` and `healthz`: streams, exit codes, progress, interrupt.

use std::future::pending;
use std::io;
use std::sync::Arc;

use clawdforge_client::commands::Exit;
use serde_json::json;
use tokio::sync::Notify;

use crate::cli::{Cli, ClosedPipe, usage_error};
use crate::stub::{Stub, reply};

const RUN_REPLY: &str = r#"{"ok":true,"result":{"z":1,"a":2},"duration_ms":43,"stop_reason":"end_turn"}"#;

#[tokio::test]
async fn the_reply_is_printed_as_it_came_and_nothing_else() {
    let stub = Stub::answering(200, RUN_REPLY).await;
    let ended = Cli::of(&stub).run(&["run", "two cups"]).await;
    assert_eq!(ended.exit, Exit::Done);
    assert_eq!(ended.stdout, format!("{RUN_REPLY}\n"));
    assert_eq!(ended.stderr, "");
    assert_eq!(stub.only().json(), json!({"prompt": "two cups"}));
}

#[tokio::test]
async fn every_option_travels() {
    let stub = Stub::answering(200, RUN_REPLY).await;
    let args = [
        "run",
        "hi",
        "--model",
        "opus",
        "--system",
        "be brief",
        "--system-mode",
        "replace",
        "--isolation",
        "namespaces",
        "--effort",
        "max",
        "--timeout",
        "30",
        "--files",
        "ff_a,ff_b",
    ];
    assert_eq!(Cli::of(&stub).run(&args).await.exit, Exit::Done);
    let expected = json!({"prompt": "hi", "model": "opus", "system": "be brief", "system_mode": "replace",
        "effort": "max", "files": ["ff_a", "ff_b"], "timeout_secs": 30, "isolation": "namespaces"});
    assert_eq!(stub.only().json(), expected);
}

#[tokio::test]
async fn raw_prints_only_the_answer() {
    let stub = Stub::answering(200, r#"{"ok":true,"result":"two\ncups","duration_ms":1,"stop_reason":null}"#).await;
    assert_eq!(Cli::of(&stub).run(&["run", "--raw", "hi"]).await.stdout, "two\ncups\n");
}

#[tokio::test]
async fn a_long_prompt_comes_from_standard_input_whole() {
    let stub = Stub::answering(200, RUN_REPLY).await;
    let prompt = "Zeile \u{fc} \"x\"\n".repeat(50_000);
    assert!(prompt.len() > 600_000);
    let ended = Cli::of(&stub).stdin(io::Cursor::new(prompt.clone().into_bytes())).run(&["run", "-"]).await;
    assert_eq!(ended.exit, Exit::Done, "{ended:?}");
    assert_eq!(stub.only().json(), json!({ "prompt": prompt }));
}

#[tokio::test]
async fn a_prompt_that_cannot_be_one_is_a_usage_error() {
    let stub = Stub::answering(200, RUN_REPLY).await;
    let too_long = io::Read::take(io::repeat(b'x'), 9 * 1024 * 1024);
    for (cli, hint) in [
        (Cli::of(&stub), "empty"),
        (Cli::of(&stub).stdin(&b"\xff\xfe"[..]), "UTF-8"),
        (Cli::of(&stub).stdin(too_long), "longer"),
    ] {
        let ended = cli.run(&["run", "-"]).await;
        assert_eq!(ended.exit, Exit::Usage);
        assert!(ended.stderr.contains(hint), "{ended:?}");
    }
    assert!(stub.asked().is_empty());
}

#[test]
fn words_outside_the_contract_are_refused_by_the_command_line() {
    for args in [
        &["run"][..],
        &["run", "x", "--effort", "huge"],
        &["run", "x", "--system", "s", "--system-mode", "prepend"],
        &["run", "x", "--system-mode", "append"],
        &["run", "x", "--timeout", "soon"],
        &["run", "x", "--token", "cf_visible-to-everyone"],
    ] {
        assert!(usage_error(args).is_some(), "{args:?} was taken");
    }
}

#[tokio::test]
async fn a_failed_run_prints_its_json_on_standard_error() {
    let body = r#"{"ok":false,"error":"timed out","stderr":"tail","duration_ms":9,"stop_reason":null}"#;
    let stub = Stub::answering(502, body).await;
    let ended = Cli::of(&stub).run(&["run", "hi"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::ServiceFailed, ""));
    let shown: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!((&shown["error"], &shown["duration_ms"]), (&json!("timed out"), &json!(9)));
}

#[tokio::test]
async fn exit_codes_follow_the_status() {
    for (status, exit) in [
        (400, Exit::Refused),
        (401, Exit::Refused),
        (403, Exit::Refused),
        (404, Exit::Refused),
        (422, Exit::Refused),
        (429, Exit::Refused),
        (307, Exit::Failed),
        (500, Exit::ServiceFailed),
        (502, Exit::ServiceFailed),
        (503, Exit::ServiceFailed),
    ] {
        let stub = Stub::answering(status, r#"{"detail":"because"}"#).await;
        let ended = Cli::of(&stub).run(&["run", "hi"]).await;
        assert_eq!((ended.exit, ended.stdout.as_str()), (exit, ""), "{status}");
        assert!(status == 307 || ended.stderr.contains("because"), "{ended:?}");
    }
}

#[tokio::test]
async fn an_absent_service_and_a_senseless_reply_exit_with_1() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ended = Cli::bare().run(&["healthz", "--url", &format!("http://{closed}")]).await;
    assert_eq!(ended.exit, Exit::Failed);
    assert!(ended.stderr.contains(&closed.to_string()) && ended.stderr.contains("refused"), "{ended:?}");

    let stub = Stub::answering(200, "<html>").await;
    let ended = Cli::of(&stub).run(&["healthz"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Failed, ""));
}

#[tokio::test]
async fn healthz_prints_everything_the_service_says() {
    let body = r#"{"ok":true,"claude_present":true,"claude_version":"2.1","open_sessions":0}"#;
    let stub = Stub::answering(200, body).await;
    let ended = Cli::bare().run(&["healthz", "--url", &stub.url]).await;
    assert_eq!((ended.exit, ended.stdout), (Exit::Done, format!("{body}\n")));
}

#[tokio::test]
async fn what_a_service_says_cannot_steer_the_terminal() {
    let stub = Stub::answering(404, r#"{"error":"gone\u001b[2J\nsecond line"}"#).await;
    let ended = Cli::of(&stub).run(&["healthz"]).await;
    assert!(!ended.stderr.contains('\u{1b}'), "{ended:?}");
    assert!(ended.stderr.ends_with("clawdforge: second line\n"), "{ended:?}");
}

#[tokio::test]
async fn a_reader_that_went_away_is_no_message() {
    let stub = Stub::answering(200, RUN_REPLY).await;
    let ended = Cli::of(&stub).stdout(ClosedPipe).run(&["run", "hi"]).await;
    assert_eq!((ended.exit, ended.stderr.as_str()), (Exit::Failed, ""));
}

#[tokio::test]
async fn waiting_on_a_terminal_shows_a_line_and_takes_it_away() {
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let stub = Stub::with_slow(move |_| {
        let gate = Arc::clone(&opened);
        Box::pin(async move {
            gate.notified().await;
            reply(200, RUN_REPLY)
        })
    })
    .await;
    let cli = Cli::of(&stub).terminal();
    let stderr = cli.stderr.clone();
    let (ended, ()) = tokio::join!(cli.run(&["run", "hi"]), async {
        stderr.wait_for("running… 1 s").await;
        gate.notify_one();
    });
    assert_eq!((ended.exit, ended.stdout), (Exit::Done, format!("{RUN_REPLY}\n")));
    assert!(ended.stderr.starts_with("\r\u{1b}[Krunning… 0 s"), "{:?}", ended.stderr);
    assert!(ended.stderr.ends_with("s\r\u{1b}[K") && !ended.stderr.contains('\n'), "{:?}", ended.stderr);
}

#[tokio::test]
async fn an_interrupt_ends_a_run_with_130() {
    let reached = Arc::new(Notify::new());
    let reach = Arc::clone(&reached);
    let stub = Stub::with_slow(move |_| {
        reach.notify_one();
        Box::pin(pending())
    })
    .await;
    let cli = Cli::of(&stub).terminal().interrupt(async move { reached.notified().await });
    let ended = cli.run(&["run", "hi"]).await;
    assert_eq!((ended.exit, ended.exit.code(), ended.stdout.as_str()), (Exit::Interrupted, 130, ""));
    assert!(ended.stderr.contains("\r\u{1b}[Kclawdforge: interrupted"), "{ended:?}");
}

/// A terminal at which nobody types.
struct Silent(std::sync::mpsc::Receiver<()>);

impl io::Read for Silent {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        // The sender going away is the end of the input.
        let _ = self.0.recv();
        Ok(0)
    }
}

#[tokio::test]
async fn an_interrupt_is_heard_while_standard_input_waits() {
    let stub = Stub::answering(200, RUN_REPLY).await;
    let (typist, keyboard) = std::sync::mpsc::channel();
    let cli = Cli::of(&stub).stdin(Silent(keyboard)).interrupt(tokio::task::yield_now());
    assert_eq!(cli.run(&["run", "-"]).await.exit, Exit::Interrupted);
    drop(typist);
    assert!(stub.asked().is_empty());
}
