//! Sessions with the real Claude Code behind its real adapter.

use clawdforge_testkit::mock_model::Reply;
use serde_json::{Value, json};

use crate::bench::{Bench, Kind};

/// The text of a reply: what stands in its `text` events.
pub fn said(reply: &Value) -> String {
    let events = reply["events"].as_array().cloned().unwrap_or_default();
    events.iter().filter(|event| event["type"] == "text").filter_map(|event| event["content"].as_str()).collect()
}

#[tokio::test]
async fn turns_of_a_session_share_one_conversation() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude" })).await?;
    bench.model.reply_next(Reply::text("Hello, Ada."));
    let first = bench.turned(&session, json!({ "prompt": "My name is Ada." })).await?;
    assert_eq!((said(&first).as_str(), &first["context"]), ("Hello, Ada.", &json!("new")), "{first}");
    assert_eq!(first["stop_reason"], "end_turn");
    bench.model.reply_next(Reply::text("Ada."));
    let second = bench.turned(&session, json!({ "prompt": "What is my name?" })).await?;
    assert_eq!((said(&second).as_str(), &second["context"]), ("Ada.", &json!("warm")), "{second}");
    let asked = bench.model.turn_requests();
    assert_eq!(asked.len(), 2, "one request for each turn, and none beside");
    assert!(asked[1].body.to_string().contains("My name is Ada."), "the second request holds the first turn");
    bench.close(&session).await?;
    assert_eq!(bench.app.agent_processes(), Vec::<i32>::new());
    bench.finish().await
}

/// The names and results of the tools a reply tells of.
pub fn tools(reply: &Value) -> Vec<(String, String)> {
    let events = reply["events"].as_array().cloned().unwrap_or_default();
    let calls = events.iter().filter(|event| event["type"] == "tool_call");
    calls.map(|event| (event["name"].as_str().unwrap_or_default().to_owned(), event["result"].to_string())).collect()
}

#[tokio::test]
async fn a_conversation_goes_on_after_its_agent_was_killed_and_after_a_restart() -> anyhow::Result<()> {
    let Some(mut bench) = Bench::start().await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude" })).await?;
    bench.turned(&session, json!({ "prompt": "The word is plum." })).await?;
    bench.kill_agent(&session).await?;
    let reply = bench.turned(&session, json!({ "prompt": "Go on." })).await?;
    assert_eq!(reply["context"], "resumed", "{reply}");
    let asked = bench.model.turn_requests();
    assert!(asked.last().unwrap().body["messages"].to_string().contains("The word is plum."));

    bench.app.signal(rustix::process::Signal::KILL)?;
    bench.app.ended().await?;
    bench.app = bench.app.restart().await?;
    assert_eq!(bench.app.agent_processes(), Vec::<i32>::new(), "nothing of the dead service is left");
    let reply = bench.turned(&session, json!({ "prompt": "And on." })).await?;
    assert_eq!((&reply["context"], &reply["turn_index"]), (&json!("resumed"), &json!(3)), "{reply}");
    let asked = bench.model.turn_requests();
    assert_eq!(asked.len(), 3, "no prompt was sent twice");
    assert!(asked[2].body["messages"].to_string().contains("Go on."));
    bench.close(&session).await?;
    bench.finish().await
}

#[tokio::test]
async fn tools_run_unasked_in_the_workspace_of_the_session() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude" })).await?;
    bench
        .model
        .reply_next(Reply::tool_use("Bash", json!({ "command": "echo made > note.txt && pwd", "description": "x" })));
    bench.model.reply_next(Reply::text("Done."));
    let reply = bench.turned(&session, json!({ "prompt": "Make a note." })).await?;
    let used = tools(&reply);
    assert_eq!(used.len(), 1, "{reply}");
    assert!(used[0].0 == "Bash" && used[0].1.contains("/sessions/ses_"), "{used:?}");
    assert_eq!(said(&reply), "Done.");
    bench.model.reply_next(Reply::tool_use("Write", json!({ "file_path": "second.txt", "content": "two" })));
    bench.model.reply_next(Reply::text("Written."));
    let reply = bench.turned(&session, json!({ "prompt": "Write a second one." })).await?;
    assert_eq!(said(&reply), "Written.", "{reply}");
    let sessions = bench.app.data_dir().join("sessions");
    let work = std::fs::read_dir(&sessions)?.next().unwrap()?.path().join("work");
    assert_eq!(std::fs::read_to_string(work.join("note.txt"))?, "made\n");
    assert_eq!(std::fs::read_to_string(work.join("second.txt"))?, "two");
    bench.close(&session).await?;
    bench.finish().await
}

#[tokio::test]
async fn an_attached_file_reaches_the_model_by_its_path() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude" })).await?;
    let file = bench.app.upload(&bench.token, "notes.txt", b"the word is plum".to_vec()).await?;
    let read = |request: &clawdforge_testkit::mock_model::ModelRequest| {
        let text = request.body["messages"].to_string();
        let begins = text.find("/attachments/turn-1/attachment-1.txt").map_or(0, |at| at);
        let from = text[..begins].rfind("file://").map_or(0, |at| at + "file://".len());
        text[from..begins].to_owned() + "/attachments/turn-1/attachment-1.txt"
    };
    bench.model.script(move |request| {
        if request.tool_answers().is_empty() {
            Reply::tool_use("Read", json!({ "file_path": read(request) }))
        } else {
            Reply::text("I have read it.")
        }
    });
    let reply = bench.turned(&session, json!({ "prompt": "Read it.", "files": [file] })).await?;
    assert_eq!(said(&reply), "I have read it.", "{reply}");
    assert!(tools(&reply)[0].1.contains("the word is plum"), "{reply}");
    bench.close(&session).await?;
    bench.finish().await
}

#[tokio::test]
async fn an_api_failure_is_told_once_and_the_session_goes_on() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude" })).await?;
    for (status, code) in [
        // The adapter takes it for a sign-in that has run out.
        (401, "agent_not_signed_in"),
        (429, "agent_rate_limited"),
        (500, "agent_provider_error"),
        (529, "agent_overloaded"),
    ] {
        bench.model.script(move |_| Reply::status(status));
        let answer = bench.turn(&session, json!({ "prompt": "hello" })).await?;
        let body = answer.json();
        assert_eq!((answer.status.as_u16(), &body["code"]), (502, &json!(code)), "{status}: {body}");
    }
    bench.model.script(|_| Reply::text("Back again."));
    assert_eq!(said(&bench.turned(&session, json!({ "prompt": "hello" })).await?), "Back again.");
    bench.close(&session).await?;
    bench.finish().await
}

#[tokio::test]
async fn a_turn_that_takes_too_long_is_cancelled_and_the_conversation_goes_on() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude" })).await?;
    bench.model.reply_next(Reply::stalled());
    let answer = bench.turn(&session, json!({ "prompt": "hello", "timeout_secs": 5 })).await?;
    assert_eq!(answer.json()["code"], "timed_out", "{answer:?}");
    bench.model.reply_next(Reply::text("Here."));
    let reply = bench.turned(&session, json!({ "prompt": "Are you there?" })).await?;
    assert_eq!((said(&reply).as_str(), &reply["context"]), ("Here.", &json!("warm")), "{reply}");
    bench.close(&session).await?;
    bench.finish().await
}

#[tokio::test]
async fn the_model_of_a_session_is_the_one_asked_for() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude", "model": "haiku" })).await?;
    bench.turned(&session, json!({ "prompt": "hello" })).await?;
    let asked = bench.model.turn_requests();
    assert!(asked[0].model().contains("haiku"), "{}", asked[0].model());
    bench.close(&session).await?;
    let session = bench.session(json!({ "agent": "claude", "model": "no-such-model" })).await?;
    let answer = bench.turn(&session, json!({ "prompt": "hello" })).await?;
    assert_eq!(answer.json()["code"], "agent_unknown_model", "{answer:?}");
    bench.close(&session).await?;
    bench.finish().await
}

#[tokio::test]
async fn nobody_signed_in_is_told_with_what_to_do() -> anyhow::Result<()> {
    let kind = crate::bench::Kind { signed_out: true, ..crate::bench::Kind::default() };
    let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude" })).await?;
    let answer = bench.turn(&session, json!({ "prompt": "hello" })).await?;
    let body = answer.json();
    assert_eq!((answer.status.as_u16(), &body["code"]), (502, &json!("agent_not_signed_in")), "{body}");
    assert!(body["error"].to_string().contains("clawdforge doctor"), "{body}");
    bench.close(&session).await?;
    bench.finish().await
}

/// The transcripts of conversations that Claude Code keeps in its homes.
fn transcripts(bench: &Bench) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = bench.app.agent_homes().iter().map(|home| home.join(".claude/projects")).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path if path.extension().is_some_and(|extension| extension == "jsonl") => found.push(path),
                _ => {}
            }
        }
    }
    found
}

#[tokio::test]
async fn what_the_agent_keeps_of_a_session_is_erased_with_it_and_of_others_stays() -> anyhow::Result<()> {
    let kind = Kind {
        env: &[("CLAWDFORGE_SESSION_HARD_TTL_SECS", "1"), ("CLAWDFORGE_SWEEP_INTERVAL_SECS", "1")],
        ..Kind::default()
    };
    transcripts_are_erased(kind).await
}

/// Of two sessions, the transcript of the one that is erased goes.
pub async fn transcripts_are_erased(kind: Kind) -> anyhow::Result<()> {
    let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
    let (kept, erased) = (bench.session(json!({})).await?, bench.session(json!({})).await?);
    for session in [&kept, &erased] {
        bench.turned(session, json!({ "prompt": "Remember this." })).await?;
    }
    assert_eq!(transcripts(&bench).len(), 2);
    bench.close(&erased).await?;
    let gone = async {
        while transcripts(&bench).len() > 1 {
            clawdforge_testkit::app::poll_pause().await;
        }
    };
    tokio::time::timeout(clawdforge_testkit::app::PATIENCE, gone).await?;
    let ledger = bench.app.ledger_with(|lines| lines.iter().any(|line| line["kind"] == "session_erased")).await?;
    assert!(ledger.iter().any(|line| line["kind"] == "session_erased"));
    assert_eq!(bench.turned(&kept, json!({ "prompt": "Go on." })).await?["context"], "warm");
    bench.close(&kept).await?;
    bench.finish().await
}
