//! Cases in which a process is killed during a turn.

use super::act::Act;
use super::stage::Stage;
use super::subject::{Part, Subject};

/// The program that speaks to the model is killed in a turn; then all there is of the subject, between two.
pub async fn kill_agent(subject: Subject) -> anyhow::Result<()> {
    // Codex' adapter starts its program again; whoever else loses it is started anew by us.
    let context = if subject == Subject::AcpCodex { "warm" } else { "resumed" };
    let Some(stage) = Stage::set(subject).await? else { return Ok(()) };
    stage.answered(Act::Listen).await?;
    loses(&stage, Part::Agent, context).await?;
    stage.kill_all().await?;
    stage.wait_until_warm(false).await?;
    stage.goes_on(&["resumed"]).await?;
    stage.finish().await
}

/// What stands between the agent and the service is killed in a turn, each in one of its own.
pub async fn kill_adapter(subject: Subject) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(subject).await? else { return Ok(()) };
    stage.answered(Act::Listen).await?;
    for part in subject.between() {
        loses(&stage, *part, "resumed").await?;
    }
    stage.finish().await
}

/// A turn in which a part is killed fails, and the next goes on, with its memory from there.
async fn loses(stage: &Stage, part: Part, context: &str) -> anyhow::Result<()> {
    let mut turn = stage.begin(Act::TalkOn).await?;
    turn.has_said(1).await?;
    stage.kill(part).await?;
    turn.end(stage).await?.must_be("agent_crashed", stage)?;
    stage.goes_on(&[context]).await
}

/// The service is killed and started again: nothing of it is left, its turn is told as interrupted, and the conversation is taken
/// up.
pub async fn restart(subject: Subject) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(subject).await? else { return Ok(()) };
    stage.answered(Act::Listen).await?;
    let mut turn = stage.begin(Act::TalkOn).await?;
    turn.has_said(1).await?;
    let stage = stage.restart().await?;
    assert_eq!(stage.processes(), Vec::<i32>::new(), "nothing of the dead service is left");
    turn.end_without_stream(&stage).await?.must_be("interrupted", &stage)?;
    stage.goes_on(&["resumed"]).await?;
    stage.finish().await
}
