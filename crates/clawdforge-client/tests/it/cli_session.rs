//! `session new|turn|get|list|set|fork|close`: what is sent, what is printed, exit codes, the trace.

use std::fs::{self, Permissions};
use std::future::pending;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use clawdforge_client::commands::Exit;
use serde_json::json;
use tokio::sync::Notify;

use crate::cli::{Cli, usage_error};
use crate::sdk_sessions::{CLOSED, OPENED, STATE, TURN, service};
use crate::streams::refused;
use crate::stub::{Stub, reply};

const GONE: &str = r#"{"detail":"session not found","error":"session not found"}"#;

#[tokio::test]
async fn new_prints_the_id_alone_and_leaves_the_session_open() {
    let stub = service().await;
    let ended = Cli::of(&stub).run(&["session", "new"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str(), ended.stderr.as_str()), (Exit::Done, "0190-a\n", ""));
    assert_eq!(stub.only().json(), json!({}));
}

#[tokio::test]
async fn every_option_of_new_travels_and_json_is_the_whole_reply() {
    let stub = service().await;
    let options = "session new --agent claude --model opus --effort low --driver acpx --on-context-loss fail --isolation uid --json --meta";
    let args: Vec<&str> = options.split(' ').chain([r#"{"a": [1]}"#]).collect();
    let ended = Cli::of(&stub).run(&args).await;
    assert_eq!((ended.exit, ended.stdout), (Exit::Done, format!("{OPENED}\n")));
    let all = json!({
        "agent": "claude", "model": "opus", "effort": "low", "driver": "acpx", "on_context_loss": "fail",
        "isolation": "uid", "meta": {"a": [1]},
    });
    assert_eq!(stub.only().json(), all);
}

#[tokio::test]
async fn what_only_v1_knows_is_asked_there() {
    let opened = r#"{"id":"ses_1","state":"open","agent":"claude","warm":false,"turns":0,"created_at":"2026-11-29T00:01:10.667Z"}"#;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("mcp.json");
    fs::write(&config, r#"{"mcpServers": {"sum": {"command": "node", "env": {"TOKEN": "t"}}}}"#).unwrap();
    for (is_json, printed) in [(false, "ses_1"), (true, opened)] {
        let stub = Stub::answering(201, opened).await;
        let args = "session new --agent claude --mode plan --system brief --system-mode replace --json";
        let args = args.split(' ').filter(|arg| is_json || *arg != "--json");
        let args: Vec<&str> = args.chain(["--mcp-config", config.to_str().unwrap()]).collect();
        let ended = Cli::of(&stub).run(&args).await;
        assert_eq!((ended.exit, ended.stdout), (Exit::Done, format!("{printed}\n")));
        let servers = json!([{"name": "sum", "command": "node", "args": [], "env": {"TOKEN": "t"}}]);
        let all = json!({
            "agent": "claude", "mode": "plan", "system": "brief", "system_mode": "replace", "mcp_servers": servers,
        });
        let asked = stub.only();
        assert_eq!((asked.path.as_str(), asked.json()), ("/v1/sessions", all));
    }
}

#[tokio::test]
async fn fork_prints_the_id_of_the_new_session_and_sends_what_differs() {
    let body = r#"{"id":"ses_2","state":"open","agent":"claude","warm":false,"turns":0,"created_at":"t",
        "forked_from":{"session_id":"ses_1","turn_index":3}}"#;
    let stub = Stub::answering(201, body).await;
    let ended = Cli::of(&stub).run(&["session", "fork", "ses_1"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str(), ended.stderr.as_str()), (Exit::Done, "ses_2\n", ""));
    let args =
        ["session", "fork", "ses_1", "--model", "opus", "--effort", "low", "--mode", "plan", "--meta", "{}", "--json"];
    let ended = Cli::of(&stub).run(&args).await;
    assert_eq!((ended.exit, ended.stdout), (Exit::Done, format!("{body}\n")));
    let bodies: Vec<_> = stub.asked().iter().map(|asked| (asked.path.clone(), asked.json())).collect();
    let path = "/v1/sessions/ses_1/fork".to_owned();
    let all = json!({ "model": "opus", "effort": "low", "mode": "plan", "meta": {} });
    assert_eq!(bodies, [(path.clone(), json!({})), (path, all)]);
}

#[tokio::test]
async fn set_sends_what_differs_and_null_for_what_is_cleared_and_prints_the_session() {
    let body = r#"{"id":"ses_1","state":"open","agent":"claude","warm":false,"turns":0,"created_at":"t","later":1}"#;
    let stub = Stub::answering(200, body).await;
    let options = "session set ses_1 --model opus --effort low --mode plan --meta {}";
    for args in
        [options, "session set ses_1 --clear model,effort,mode,meta", "session set ses_1 --mode auto --clear meta"]
    {
        let ended = Cli::of(&stub).run(&args.split(' ').collect::<Vec<_>>()).await;
        assert_eq!((ended.exit, ended.stdout, ended.stderr.as_str()), (Exit::Done, format!("{body}\n"), ""));
    }
    let fork = Cli::of(&stub).run(&["session", "fork", "ses_1", "--clear", "model"]).await;
    assert_eq!((fork.exit, fork.stdout.as_str()), (Exit::Done, "ses_1\n"));
    let asked = stub.asked();
    let bodies: Vec<_> = asked.iter().map(|asked| asked.json()).collect();
    assert_eq!(
        bodies,
        [
            json!({ "model": "opus", "effort": "low", "mode": "plan", "meta": {} }),
            json!({ "model": null, "effort": null, "mode": null, "meta": null }),
            json!({ "mode": "auto", "meta": null }),
            json!({ "model": null }),
        ]
    );
    assert!(asked[..3].iter().all(|asked| asked.method == "PATCH" && asked.path == "/v1/sessions/ses_1"), "{asked:?}");
}

#[tokio::test]
async fn a_change_of_nothing_or_of_one_thing_twice_is_a_usage_error_and_a_refused_one_exits_with_4() {
    let stub = Stub::with(|_| refused("session_closed", 410, None)).await;
    for (verb, said) in [
        ("set ses_1", "--clear"),
        ("set ses_1 --mode plan --clear mode", "--mode and --clear mode"),
        ("fork ses_1 --meta {} --clear model,meta", "--meta and --clear meta"),
        ("set a/b --clear mode", "id has letters"),
    ] {
        let args: Vec<_> = ["session"].into_iter().chain(verb.split(' ')).collect();
        let ended = Cli::of(&stub).run(&args).await;
        assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Usage, ""), "{verb}");
        assert!(ended.stderr.contains(said), "{ended:?}");
    }
    assert!(stub.asked().is_empty());
    let ended = Cli::of(&stub).run(&["session", "set", "ses_1", "--clear", "mode"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Refused, ""));
    assert!(ended.stderr.contains("because"), "{ended:?}");
}

#[test]
fn words_outside_the_contract_are_refused_by_the_command_line() {
    for args in [
        &["session"][..],
        &["session", "new", "--meta", "[1]"],
        &["session", "new", "--meta", "{"],
        &["session", "new", "--driver", "pipe"],
        &["session", "new", "--on-context-loss", "pray"],
        &["session", "new", "--system-mode", "append"],
        &["session", "new", "--system", "x", "--system-mode", "both"],
        &["session", "turn", "id"],
        &["session", "turn", "id", "x", "--timeout", "soon"],
        &["session", "get"],
        &["session", "fork"],
        &["session", "fork", "id", "--meta", "[1]"],
        &["session", "set"],
        &["session", "set", "id", "--effort", "most"],
        &["session", "set", "id", "--clear", "agent"],
        &["session", "close"],
        &["session", "chat", "id", "--agent", "claude"],
        &["session", "chat", "id", "--model", "opus"],
    ] {
        assert!(usage_error(args).is_some(), "{args:?} was taken");
    }
}

#[tokio::test]
async fn a_turn_prints_what_was_said_and_nothing_else() {
    let stub = service().await;
    let args = ["session", "turn", "0190-a", "go on", "--files", "ff_a,,ff_b", "--timeout", "9"];
    let ended = Cli::of(&stub).run(&args).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Done, "Here it is.\n"));
    assert_eq!(ended.stderr, "clawdforge: there was more than fits into a reply; the rest was left out\n");
    let asked = stub.only();
    assert_eq!(asked.path, "/sessions/0190-a/turn");
    assert_eq!(asked.json(), json!({"prompt": "go on", "files": ["ff_a", "ff_b"], "timeout_secs": 9}));
}

#[tokio::test]
async fn a_turn_as_json_is_the_reply_as_it_came_and_the_prompt_may_come_from_standard_input() {
    let stub = service().await;
    let ended = Cli::of(&stub).stdin(&b"two\nlines"[..]).run(&["session", "turn", "0190-a", "-", "--json"]).await;
    assert_eq!((ended.exit, ended.stdout), (Exit::Done, format!("{TURN}\n")));
    assert_eq!(stub.only().json(), json!({"prompt": "two\nlines"}));
}

#[tokio::test]
async fn an_answer_is_untouched_in_a_pipe_and_steers_no_terminal() {
    let body = r#"{"ok":true,"session_id":"s","turn_index":1,"events":[{"type":"text","content":"a\u001b[2J\n\tb"}],
        "stop_reason":"end_turn","duration_ms":1}"#;
    let stub = Stub::answering(200, body).await;
    let args = ["session", "turn", "s", "hi"];
    assert_eq!(Cli::of(&stub).run(&args).await.stdout, "a\u{1b}[2J\n\tb\n");
    assert_eq!(Cli::of(&stub).terminal().run(&args).await.stdout, "a\u{fffd}[2J\n\tb\n");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_trace_is_the_whole_reply_and_for_nobody_else() {
    let stub = service().await;
    let folder = tempfile::tempdir().unwrap();
    let (new, old) = (folder.path().join("new.json"), folder.path().join("old.json"));
    fs::write(&old, "x".repeat(10 * TURN.len())).unwrap();
    fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
    for path in [&new, &old] {
        let args = ["session", "turn", "0190-a", "hi", "--trace", path.to_str().unwrap()];
        let ended = Cli::of(&stub).run(&args).await;
        assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Done, "Here it is.\n"));
        assert_eq!(fs::read_to_string(path).unwrap(), format!("{TURN}\n"));
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn a_trace_to_a_device_leaves_the_device_as_it_is() {
    let stub = service().await;
    let before = mode(Path::new("/dev/null"));
    let ended = Cli::of(&stub).run(&["session", "turn", "0190-a", "hi", "--trace", "/dev/null"]).await;
    assert_eq!((ended.exit, mode(Path::new("/dev/null"))), (Exit::Done, before), "{ended:?}");
}

#[tokio::test]
async fn a_trace_without_a_place_is_told_before_the_turn_is_made() {
    let stub = service().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no/such/folder");
    let ended = Cli::of(&stub).run(&["session", "turn", "0190-a", "hi", "--trace", path.to_str().unwrap()]).await;
    assert_eq!(ended.exit, Exit::Failed);
    assert!(ended.stderr.contains(path.to_str().unwrap()), "{ended:?}");
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn a_failed_turn_prints_its_json_on_standard_error_and_keeps_the_trace_of_before() {
    let body = r#"{"ok":false,"error":"timed out","code":"timed_out","stderr":"tail","duration_ms":9,
        "session_id":"s","turn_index":4,"context":"warm"}"#;
    let stub = Stub::answering(502, body).await;
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    fs::write(&trace, "before").unwrap();
    let ended = Cli::of(&stub).run(&["session", "turn", "s", "hi", "--trace", trace.to_str().unwrap()]).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::ServiceFailed, ""));
    let shown: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(
        (&shown["error"], &shown["turn_index"], &shown["context"]),
        (&json!("timed out"), &json!(4), &json!("warm"))
    );
    assert_eq!(fs::read_to_string(&trace).unwrap(), "before");
}

#[tokio::test]
async fn sessions_are_shown_as_the_service_tells_of_them() {
    let stub = service().await;
    let list = format!(r#"{{"ok":true,"sessions":[{STATE}],"new":1}}"#);
    for (args, printed) in [
        (&["session", "get", "0190-a"][..], STATE),
        (&["session", "list"], list.as_str()),
        (&["session", "list", "--include-closed"], list.as_str()),
        (&["session", "close", "0190-a"], CLOSED),
    ] {
        let ended = Cli::of(&stub).run(args).await;
        assert_eq!((ended.exit, ended.stdout, ended.stderr.as_str()), (Exit::Done, format!("{printed}\n"), ""));
    }
    let asked: Vec<String> =
        stub.asked().iter().map(|asked| format!("{} {}?{}", asked.method, asked.path, asked.query)).collect();
    assert_eq!(
        asked,
        [
            "GET /sessions/0190-a?",
            "GET /sessions?include_closed=false",
            "GET /sessions?include_closed=true",
            "DELETE /sessions/0190-a?",
        ]
    );
}

#[tokio::test]
async fn closing_what_is_closed_is_no_error_and_what_is_not_there_is_one() {
    let again = r#"{"ok":true,"session_id":"s","already_closed":true}"#;
    for (status, body, exit) in [(200, again, Exit::Done), (404, GONE, Exit::Refused), (503, "", Exit::ServiceFailed)] {
        let stub = Stub::answering(status, body).await;
        assert_eq!(Cli::of(&stub).run(&["session", "close", "s"]).await.exit, exit, "{status}");
    }
}

#[tokio::test]
async fn exit_codes_of_a_turn_follow_the_status() {
    for (status, exit) in [
        (401, Exit::Refused),
        (404, Exit::Refused),
        (410, Exit::Refused),
        (422, Exit::Refused),
        (502, Exit::ServiceFailed),
        (503, Exit::ServiceFailed),
    ] {
        let stub = Stub::answering(status, r#"{"detail":"because"}"#).await;
        let ended = Cli::of(&stub).run(&["session", "turn", "s", "hi"]).await;
        assert_eq!((ended.exit, ended.stdout.as_str()), (exit, ""), "{status}");
        assert!(ended.stderr.contains("because"), "{ended:?}");
    }
}

#[tokio::test]
async fn without_a_token_or_with_what_is_no_id_nothing_is_sent() {
    let stub = service().await;
    for verb in [
        &["new"][..],
        &["turn", "s", "hi"],
        &["get", "s"],
        &["set", "s", "--clear", "mode"],
        &["list"],
        &["close", "s"],
        &["chat"],
    ] {
        let args: Vec<&str> = ["session"].iter().chain(verb).copied().collect();
        let ended = Cli::bare().env("CLAWDFORGE_URL", &stub.url).run(&args).await;
        assert_eq!(ended.exit, Exit::TokenMissing, "{verb:?}: {ended:?}");
    }
    for verb in [&["turn", "a/b", "hi"][..], &["get", ".."], &["close", ""], &["chat", "a b"], &["turn", "s", ""]] {
        let args: Vec<&str> = ["session"].iter().chain(verb).copied().collect();
        assert_eq!(Cli::of(&stub).run(&args).await.exit, Exit::Usage, "{verb:?}");
    }
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn waiting_for_a_turn_shows_a_line_and_an_interrupt_ends_it_with_130() {
    let reached = Arc::new(Notify::new());
    let reach = Arc::clone(&reached);
    let stub = Stub::with_slow(move |_| {
        let reach = Arc::clone(&reach);
        Box::pin(async move {
            reach.notify_one();
            pending::<()>().await;
            reply(200, TURN)
        })
    })
    .await;
    let cli = Cli::of(&stub).terminal();
    let stderr = cli.stderr.clone();
    let cli = cli.interrupt(async move {
        reached.notified().await;
        stderr.wait_for("running… 0 s").await;
    });
    let ended = cli.run(&["session", "turn", "s", "hi"]).await;
    assert_eq!((ended.exit.code(), ended.stdout.as_str()), (130, ""));
    assert!(ended.stderr.contains("turn the service has accepted goes on"), "{ended:?}");
}
