//! `clawdforge session …` as a person and a script use it, against the service.

use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use anyhow::Context;
use clawdforge_client::{Client, ClientError, SessionOptions, TurnRequest};
use clawdforge_testkit::app::{PATIENCE, TestApp};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;

use crate::setup;
use crate::support::{cli, command, stdout};

#[expect(clippy::disallowed_methods, reason = "the client under test is started as a person starts it")]
fn start(app: &TestApp, args: &[&str]) -> anyhow::Result<Child> {
    let mut command = command(app, args)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command.spawn()?)
}

/// A chat to which these lines are piped.
async fn chat(app: &TestApp, args: &[&str], lines: &str) -> anyhow::Result<Output> {
    let mut child = start(app, &[&["session", "chat"], args].concat())?;
    let mut stdin = child.stdin.take().context("stdin is a pipe")?;
    stdin.write_all(lines.as_bytes()).await?;
    drop(stdin);
    Ok(child.wait_with_output().await?)
}

/// The sessions that are open.
async fn open_sessions(app: &TestApp) -> anyhow::Result<Value> {
    Ok(serde_json::from_str::<Value>(&stdout(&cli(app, &["session", "list"]).await?))?["sessions"].take())
}

#[tokio::test]
async fn a_script_opens_a_session_gives_it_turns_and_closes_it_twice() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let new = stdout(&cli(&app, &["session", "new", "--meta", r#"{"for": "a test"}"#]).await?);
    let id = new.trim();
    assert_eq!(new, format!("{id}\n"));
    let first = stdout(&cli(&app, &["session", "turn", id, "my name is Ada"]).await?);
    assert_eq!(first, "You said: my name is Ada\n");
    let trace = app.home().join("trace.json");
    let args = ["session", "turn", id, "think: hm\nuse tool: Read {\"path\": \"x\"}\nrecall", "--trace"];
    let recalled = stdout(&cli(&app, &[&args[..], &[&trace.display().to_string()]].concat()).await?);
    assert!(recalled.contains("my name is Ada") && !recalled.contains("hm"), "{recalled}");
    let traced: Value = serde_json::from_str(&std::fs::read_to_string(&trace)?)?;
    assert_eq!((&traced["turn_index"], &traced["context"]), (&json!(2), &json!("warm")));
    assert_eq!((&traced["events"][0]["type"], &traced["events"][1]["name"]), (&json!("thinking"), &json!("Read")));
    assert_eq!(std::fs::metadata(&trace)?.permissions().mode() & 0o777, 0o600);

    std::fs::write(app.home().join("note.txt"), "from a file")?;
    let upload = cli(&app, &["upload", &app.home().join("note.txt").display().to_string()]).await?;
    let file = serde_json::from_str::<Value>(&stdout(&upload))?["file_token"].as_str().unwrap_or_default().to_owned();
    let prompt = "read: attachments/turn-3/attachment-1.txt";
    let read = cli(&app, &["session", "turn", id, prompt, "--files", &file]).await?;
    assert_eq!(stdout(&read), "from a file\n");

    let failed = cli(&app, &["session", "turn", id, "api error: 429"]).await?;
    assert_eq!(failed.status.code(), Some(5), "{failed:?}");
    assert_eq!(serde_json::from_slice::<Value>(&failed.stderr)?["turn_index"], 4);
    let state: Value = serde_json::from_str(&stdout(&cli(&app, &["session", "get", id]).await?))?;
    assert_eq!((&state["turn_count"], &state["meta"]), (&json!(4), &json!({ "for": "a test" })));
    assert_eq!(open_sessions(&app).await?[0]["session_id"], id);

    for already in [false, true] {
        let closed: Value = serde_json::from_str(&stdout(&cli(&app, &["session", "close", id]).await?))?;
        assert_eq!(closed["already_closed"], already);
    }
    assert_eq!(open_sessions(&app).await?, json!([]));
    assert!(stdout(&cli(&app, &["session", "list", "--include-closed"]).await?).contains(id));
    for (args, code) in [
        (&["session", "turn", id, "hello"][..], 4),
        (&["session", "chat", id], 4),
        (&["session", "get", "01900000-0000-7000-8000-000000000000"], 4),
        (&["session", "close", "not/an/id"], 2),
    ] {
        assert_eq!(cli(&app, args).await?.status.code(), Some(code), "{args:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_piped_chat_remembers_tells_of_failures_and_leaves_nothing_open() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let lines = "my name is Ada\nuse tool: Read {\"path\": \"x\"}\napi error: 429\nrecall\n";
    let ended = chat(&app, &[], lines).await?;
    let (said, told) = (stdout(&ended), String::from_utf8_lossy(&ended.stderr).into_owned());
    assert!(said.starts_with("You said: my name is Ada\n"), "{said}");
    assert!(said.lines().skip(1).any(|line| line.contains("my name is Ada")), "it remembers: {said}");
    assert!(told.contains("· Read {\"path\":\"x\"}\n") && told.contains("the turn failed: "), "{told}");
    assert!(!told.contains("> ") && !told.contains('\u{1b}'), "{told:?}");
    assert_eq!(open_sessions(&app).await?, json!([]));
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    Ok(())
}

#[tokio::test]
async fn a_chat_goes_on_with_a_session_that_stays_open() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let id = app.open_session(json!({})).await?;
    app.turn(&id, "my name is Ada").await?;
    let said = stdout(&chat(&app, &[&id], "recall\n/quit\nnever sent\n").await?);
    assert!(said.contains("my name is Ada"), "{said}");
    let open = open_sessions(&app).await?;
    assert_eq!((&open[0]["session_id"], &open[0]["turn_count"]), (&json!(id), &json!(2)));
    Ok(())
}

/// Reads standard error up to a line with this text.
async fn read_until(stderr: &mut (impl AsyncBufReadExt + Unpin), text: &str) -> anyhow::Result<()> {
    let mut told = String::new();
    while !told.contains(text) {
        let read = tokio::time::timeout(PATIENCE, stderr.read_line(&mut told)).await;
        let count = read.with_context(|| format!("{text:?} was not said: {told}"))??;
        anyhow::ensure!(count > 0, "the chat ended without {text:?}: {told}");
    }
    Ok(())
}

#[tokio::test]
async fn an_interrupt_stops_waiting_for_a_turn_and_a_second_one_ends_the_chat_and_its_session() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let mut child = start(&app, &["session", "chat"])?;
    let pid = Pid::from_raw(i32::try_from(child.id().context("it runs")?)?).context("a process id is not zero")?;
    let mut stdin = child.stdin.take().context("stdin is a pipe")?;
    let mut stderr = BufReader::new(child.stderr.take().context("stderr is a pipe")?);
    stdin.write_all(b"hang\n").await?;
    app.ledger_with(|lines| lines.iter().any(|line| line["kind"] == "turn_accepted")).await?;
    kill_process(pid, Signal::INT)?;
    read_until(&mut stderr, "the turn goes on").await?;
    assert_eq!(open_sessions(&app).await?[0]["warm"], true, "the turn goes on");
    kill_process(pid, Signal::INT)?;
    let status = tokio::time::timeout(PATIENCE, child.wait()).await??;
    assert_eq!(status.code(), Some(130));
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).await?;
    assert_eq!(rest, "", "there is nothing to say about a chat that was left");
    assert_eq!(open_sessions(&app).await?, json!([]));
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    drop(stdin);
    Ok(())
}

fn prompt(text: &str) -> TurnRequest {
    TurnRequest { prompt: text.to_owned(), ..TurnRequest::default() }
}

#[tokio::test]
async fn a_rust_program_holds_a_session_and_what_it_forgets_is_closed() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let client = Client::builder(app.url("")).token(app.demo_token()?).build()?;
    let session = client.open_session(SessionOptions::default()).await?;
    let first = session.turn(prompt("my name is Ada")).await?;
    assert_eq!((first.text().as_str(), first.context.as_deref()), ("You said: my name is Ada", Some("new")));
    assert!(first.usage.is_some(), "{first:?}");
    let failed = session.turn(prompt("api error: 429")).await;
    let Err(ClientError::TurnFailed(told)) = failed else { panic!("{failed:?}") };
    assert_eq!((told.turn_index, told.session_id.as_str()), (2, session.id()));
    assert!(client.session(session.id())?.turn(prompt("recall")).await?.text().contains("Ada"));
    let state = session.state().await?;
    assert_eq!((state.live, state.turn_count, state.driver.as_deref()), (true, 3, Some("acp")));
    let id = session.id().to_owned();
    drop(session);
    app.ledger_with(|lines| lines.iter().any(|line| line["kind"] == "session_closed")).await?;
    assert_eq!(client.list_sessions(false).await?.sessions, []);
    assert!(client.list_sessions(true).await?.sessions.iter().any(|session| session.session_id == id));
    let closed = client.session(&id)?;
    let refused = closed.turn(prompt("hello")).await;
    assert!(matches!(refused, Err(ClientError::SessionClosed { status: Some(410), .. })), "{refused:?}");
    closed.close().await?;
    Ok(())
}
