//! Cases in which a turn has to be stopped.

use serde_json::json;

use super::act::Act;
use super::agent::Agent;
use super::stage::Stage;
use super::subject::Subject;

/// The shortest time limit a turn may have.
const LIMIT_SECS: u64 = 5;

/// How much of a flood is followed before it is stopped.
const FLOOD_BYTES: usize = 64 * 1024;

/// A turn is stopped while its agent talks; the agent stays, and remembers.
pub async fn cancel(subject: Subject) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(subject).await? else { return Ok(()) };
    stage.answered(Act::Listen).await?;
    let mut turn = stage.begin(Act::TalkOn).await?;
    turn.has_said(1).await?;
    turn.cancel(&stage).await?;
    turn.end(&stage).await?.must_be("cancelled", &stage)?;
    stage.goes_on(&["warm"]).await?;
    stage.finish().await
}

/// A turn in which nothing comes, and no end of it, ends with its time. An agent that lets itself be stopped stays; one that does
/// not is gone with all it left before the caller is told.
pub async fn hang(subject: Subject) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(subject).await? else { return Ok(()) };
    stage.answered(Act::Listen).await?;
    let turn = stage.begin_with(Act::Hang, json!({ "timeout_secs": LIMIT_SECS })).await?;
    turn.end(&stage).await?.must_be("timed_out", &stage)?;
    if subject.agent() == Agent::Demo {
        assert_eq!(stage.processes(), Vec::<i32>::new(), "it is told only when all of it is gone");
        stage.goes_on(&["resumed"]).await?;
    } else {
        stage.goes_on(&["warm"]).await?;
    }
    stage.finish().await
}

/// More is said than anybody can read, without an end: all of it arrives in order, a cancel is heard in the middle of it, and the
/// session goes on.
pub async fn flood(subject: Subject) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(subject).await? else { return Ok(()) };
    stage.answered(Act::Listen).await?;
    let mut turn = stage.begin(Act::Flood).await?;
    turn.has_said(FLOOD_BYTES).await?;
    turn.cancel(&stage).await?;
    let ended = turn.end(&stage).await?;
    ended.must_be("cancelled", &stage)?;
    is_unbroken(&ended.text(), subject.agent());
    // acpx hands on all that has piled up in it before the end, which may take longer than a cancel may.
    stage.goes_on(if subject.is_through_acpx() { &["warm", "resumed"] } else { &["warm"] }).await?;
    stage.finish().await
}

/// Nothing is missing in the middle of a flood.
fn is_unbroken(text: &str, agent: Agent) {
    if agent == Agent::Demo {
        for (number, line) in (1..).zip(text.lines()) {
            assert_eq!(line, format!("line {number}"));
        }
    } else {
        assert_eq!(text.replace("more ", "").trim(), "", "it says one word again and again");
    }
}

/// Somebody speaks as nobody should, and the session goes on. Lines of an agent that mean nothing are passed over and told of;
/// acpx breaks off over them. A model that cannot be understood fails the turn in the agent's words.
pub async fn garbage(subject: Subject) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(subject).await? else { return Ok(()) };
    stage.answered(Act::Listen).await?;
    let turn = stage.turn(Act::Garbage).await?;
    let (outcome, next) = match subject {
        Subject::AcpDemo => ("completed", "warm"),
        Subject::AcpxDemo => ("agent_crashed", "resumed"),
        Subject::AcpClaude | Subject::AcpxClaude | Subject::AcpCodex | Subject::AcpCopilot => {
            ("agent_provider_error", "warm")
        }
    };
    turn.must_be(outcome, &stage)?;
    if subject == Subject::AcpDemo {
        assert_eq!(turn.text(), "still here");
        assert!(turn.named("unrecognised").count() > 0, "and nobody was told of the rest");
    }
    stage.goes_on(&[next]).await?;
    stage.finish().await
}
