//! Sessions through the real acpx with the real Claude Code behind its real adapter.

use clawdforge_testkit::mock_model::Reply;
use rustix::process::geteuid;
use serde_json::json;

use crate::acpx::{WITH_USERS, agents_home, search_path};
use crate::bench::{Bench, Kind};
use crate::sessions::{said, transcripts_are_erased};

/// The driver, and a user for every app.
const ENV: [(&str, &str); 3] = [("CLAWDFORGE_SESSION_DRIVER", "acpx"), WITH_USERS[0], WITH_USERS[1]];

/// Where the service may give agents users of their own, so: the battery has it as usual.
fn kind() -> Kind {
    Kind { env: if geteuid().is_root() { &ENV } else { &ENV[..1] }, ..Kind::default() }
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
async fn tools_run_unasked_in_the_mode_that_was_chosen_also_after_a_restart() -> anyhow::Result<()> {
    if search_path()?.is_none() {
        return Ok(());
    }
    let Some(mut bench) = Bench::start_as(kind()).await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude", "model": "haiku" })).await?;
    for context in ["new", "resumed"] {
        if context == "resumed" {
            bench.app = bench.app.restart().await?;
            assert_eq!(bench.app.agent_processes(), Vec::<i32>::new(), "nothing of the dead service is left");
        }
        // What asks for permission in the mode that is chosen, and would be decided by a rule in the adapter's own.
        let command = json!({ "command": "echo made > note.txt && pwd", "description": "x" });
        bench.model.reply_next(Reply::tool_use("Bash", command));
        bench.model.reply_next(Reply::text("Done."));
        let reply = bench.turned(&session, json!({ "prompt": "Make a note." })).await?;
        // acpx begins the conversation a second time with the first prompt. Nothing is lost by that.
        assert_eq!((said(&reply).as_str(), &reply["context"]), ("Done.", &json!(context)), "{reply}");
        assert!(reply["events"].to_string().contains("/sessions/ses_"), "it ran in the workspace: {reply}");
    }
    let asked = bench.model.turn_requests();
    assert_eq!(asked.len(), 4, "one request for each answer, and none beside");
    assert!(asked.iter().all(|request| request.model().contains("haiku")), "the model is the one asked for");
    bench.close(&session).await?;
    assert_eq!(bench.app.agent_processes(), Vec::<i32>::new());
    // acpx writes down what was said when the turn is long over.
    assert_eq!(permissions_asked(&bench)?, 2, "the mode was chosen each time, so it asked, and acpx said yes");
    bench.finish().await
}

#[tokio::test]
async fn an_error_of_the_model_is_told_as_what_it_is() -> anyhow::Result<()> {
    let Some(bench) = start().await? else { return Ok(()) };
    let session = bench.session(json!({ "agent": "claude" })).await?;
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
