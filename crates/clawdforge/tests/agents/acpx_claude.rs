//! Sessions through the real acpx with the real Claude Code behind its real adapter.

use clawdforge_testkit::app::poll_pause;
use clawdforge_testkit::mock_model::Reply;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::json;

use crate::acpx::{WITH_USERS, agents_home, search_path};
use crate::bench::{Bench, Kind};
use crate::sessions::{said, tools, transcripts_are_erased};

/// The driver, and a user for every app.
const ENV: [(&str, &str); 3] = [("CLAWDFORGE_SESSION_DRIVER", "acpx"), WITH_USERS[0], WITH_USERS[1]];

/// As usual, and where the service may give agents users of their own, so as well.
fn kinds() -> Vec<Kind> {
    let with_users = Kind { env: &ENV, ..Kind::default() };
    let usual = Kind { env: &ENV[..1], ..Kind::default() };
    if geteuid().is_root() { vec![usual, with_users] } else { vec![usual] }
}

async fn start() -> anyhow::Result<Option<Bench>> {
    if search_path()?.is_none() {
        return Ok(None);
    }
    Bench::start_as(Kind { env: &ENV[..1], ..Kind::default() }).await
}

/// How often the agent asked for permission, by what acpx has written down of all sessions.
fn permissions_asked(bench: &Bench) -> anyhow::Result<usize> {
    let mut asked = 0;
    for entry in std::fs::read_dir(agents_home(&bench.app)?.join(".acpx/sessions"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ndjson") {
            asked += std::fs::read_to_string(path)?.matches(r#""method":"session/request_permission""#).count();
        }
    }
    Ok(asked)
}

#[tokio::test]
async fn turns_share_one_conversation_and_tools_run_unasked() -> anyhow::Result<()> {
    if search_path()?.is_none() {
        return Ok(());
    }
    for kind in kinds() {
        let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
        a_story_of_turns(bench).await?;
    }
    Ok(())
}

async fn a_story_of_turns(bench: Bench) -> anyhow::Result<()> {
    let session = bench.session(json!({ "agent": "claude" })).await?;
    bench.model.reply_next(Reply::text("Hello, Ada."));
    let first = bench.turned(&session, json!({ "prompt": "My name is Ada." })).await?;
    // acpx begins the conversation a second time with the first prompt. Nothing is lost by that.
    assert_eq!((said(&first).as_str(), &first["context"]), ("Hello, Ada.", &json!("new")), "{first}");
    // What asks for permission in the mode that is chosen, and would be decided by a rule in the adapter's own.
    let command = json!({ "command": "echo made > note.txt && pwd", "description": "x" });
    bench.model.reply_next(Reply::tool_use("Bash", command));
    bench.model.reply_next(Reply::text("Done."));
    let second = bench.turned(&session, json!({ "prompt": "Make a note." })).await?;
    assert_eq!((said(&second).as_str(), &second["context"]), ("Done.", &json!("warm")), "{second}");
    let used = tools(&second);
    assert!(used[0].0 == "Bash" && used[0].1.contains("/sessions/ses_"), "{used:?}");
    let asked = bench.model.turn_requests();
    assert_eq!(asked.len(), 3, "one request for each answer, and none beside");
    assert!(asked[1].body.to_string().contains("My name is Ada."), "the second request holds the first turn");
    bench.close(&session).await?;
    assert_eq!(bench.app.agent_processes(), Vec::<i32>::new());
    // acpx writes down what was said when the turn is long over.
    assert_eq!(permissions_asked(&bench)?, 1, "the mode was chosen, so it asked, and acpx said yes");
    bench.finish().await
}

#[tokio::test]
async fn a_conversation_goes_on_in_its_mode_after_its_processes_were_killed_and_after_a_restart() -> anyhow::Result<()>
{
    let Some(mut bench) = start().await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude" })).await?;
    bench.turned(&session, json!({ "prompt": "The word is plum." })).await?;
    for pid in bench.app.agent_processes() {
        // A process may have gone with its parent.
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
    while !bench.app.agent_processes().is_empty() {
        poll_pause().await;
    }
    let reply = bench.turned(&session, json!({ "prompt": "Go on." })).await?;
    assert!(["resumed", "warm"].iter().any(|context| reply["context"] == *context), "{reply}");
    let asked = bench.model.turn_requests();
    assert!(asked.last().unwrap().body["messages"].to_string().contains("The word is plum."));

    bench.app.signal(Signal::KILL)?;
    bench.app.ended().await?;
    bench.app = bench.app.restart().await?;
    assert_eq!(bench.app.agent_processes(), Vec::<i32>::new(), "nothing of the dead service is left");
    let command = json!({ "command": "echo made > note.txt", "description": "x" });
    bench.model.reply_next(Reply::tool_use("Bash", command));
    bench.model.reply_next(Reply::text("Done."));
    let reply = bench.turned(&session, json!({ "prompt": "Make a note." })).await?;
    assert_eq!((&reply["context"], &reply["turn_index"]), (&json!("resumed"), &json!(3)), "{reply}");
    assert_eq!((said(&reply).as_str(), tools(&reply).len()), ("Done.", 1), "{reply}");
    let asked = bench.model.turn_requests();
    assert_eq!(asked.len(), 4, "no prompt was sent twice");
    assert!(asked[2].body["messages"].to_string().contains("Go on."));
    bench.close(&session).await?;
    assert_eq!(permissions_asked(&bench)?, 1, "the mode was chosen again");
    bench.finish().await
}

#[tokio::test]
async fn an_attached_file_is_read_and_a_turn_that_takes_too_long_is_cancelled() -> anyhow::Result<()> {
    let Some(bench) = start().await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude", "model": "haiku" })).await?;
    let file = bench.app.upload(&bench.token, "notes.txt", b"the word is plum".to_vec()).await?;
    bench.model.script(|request| {
        let text = request.body["messages"].to_string();
        let end = "/attachments/turn-1/attachment-1.txt";
        let path = text.find(end).and_then(|at| Some(text[text[..at].rfind("file://")? + 7..at].to_owned() + end));
        match path {
            Some(path) if request.tool_answers().is_empty() => Reply::tool_use("Read", json!({ "file_path": path })),
            _ => Reply::text("I have read it."),
        }
    });
    let reply = bench.turned(&session, json!({ "prompt": "Read it.", "files": [file] })).await?;
    assert_eq!(said(&reply), "I have read it.", "{reply}");
    assert!(tools(&reply)[0].1.contains("the word is plum"), "{reply}");
    assert!(bench.model.turn_requests()[0].model().contains("haiku"), "the model is the one asked for");

    bench.model.script(|_| Reply::stalled());
    let answer = bench.turn(&session, json!({ "prompt": "hello", "timeout_secs": 5 })).await?;
    assert_eq!(answer.json()["code"], "timed_out", "{answer:?}");
    bench.model.script(|_| Reply::text("Here."));
    let reply = bench.turned(&session, json!({ "prompt": "Are you there?" })).await?;
    assert_eq!((said(&reply).as_str(), &reply["context"]), ("Here.", &json!("warm")), "{reply}");

    bench.model.script(|_| Reply::status(429));
    let answer = bench.turn(&session, json!({ "prompt": "hello" })).await?;
    assert_eq!(answer.json()["code"], "agent_rate_limited", "{answer:?}");
    bench.close(&session).await?;
    bench.finish().await
}

#[tokio::test]
async fn what_the_agent_behind_acpx_keeps_of_a_session_is_erased_with_it_as_without_acpx() -> anyhow::Result<()> {
    if search_path()?.is_none() {
        return Ok(());
    }
    let env = &[
        ("CLAWDFORGE_SESSION_DRIVER", "acpx"),
        ("CLAWDFORGE_SESSION_HARD_TTL_SECS", "1"),
        ("CLAWDFORGE_SWEEP_INTERVAL_SECS", "1"),
    ];
    transcripts_are_erased(Kind { env, ..Kind::default() }).await
}
