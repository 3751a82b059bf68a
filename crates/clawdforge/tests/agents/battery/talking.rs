//! Cases in which everybody does as they should.

use anyhow::ensure;
use serde_json::json;

use super::act::{ATTACHED, Act, MADE_FILE};
use super::agent::Agent;
use super::stage::Stage;
use super::subject::Subject;

/// A session is opened with the driver and agent that were asked for, its agent is started ahead, and it is closed unused.
pub async fn open(subject: Subject) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(subject).await? else { return Ok(()) };
    let view = stage.view().await?;
    assert_eq!((&view["agent"], &view["driver"]), (&json!(subject.agent().name()), &json!(subject.driver())), "{view}");
    stage.wait_until_warm(true).await?;
    stage.finish().await
}

/// The first turn is answered, begins a conversation, and tells what it used.
pub async fn turn(subject: Subject) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(subject).await? else { return Ok(()) };
    let first = stage.answered(Act::Listen).await?;
    assert!(!first.text().is_empty() && first.record["result"]["answer"] == first.text(), "{}", first.record);
    assert_eq!(first.context(), "new");
    let used = first.record["result"]["usage"]["output_tokens"].as_u64();
    assert!(used > Some(0), "{}", first.record);
    stage.finish().await
}

/// The second turn knows what was said in the first.
pub async fn memory(subject: Subject) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(subject).await? else { return Ok(()) };
    stage.answered(Act::Listen).await?;
    stage.goes_on(&["warm"]).await?;
    stage.finish().await
}

/// A tool is used unasked, in the workspace of the session, and told of with its result.
pub async fn tool(subject: Subject) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(subject).await? else { return Ok(()) };
    let turn = stage.answered(Act::UseTool).await?;
    let (calls, results): (Vec<_>, Vec<_>) = (turn.named("tool_call").collect(), turn.named("tool_result").collect());
    ensure!((calls.len(), results.len()) == (1, 1), "{calls:?} {results:?}");
    ensure!(calls[0]["call"] == results[0]["call"] && results[0]["failed"] == false, "{calls:?} {results:?}");
    ensure!(calls[0]["args"].to_string().contains("note"), "{calls:?}");
    assert_eq!(std::fs::read_to_string(stage.workspace()?.join(MADE_FILE))?, "made\n");
    assert_eq!(turn.text(), "done");
    stage.finish().await
}

/// An attached file reaches the agent, with the prompt or as a file that it can read.
pub async fn attachment(subject: Subject) -> anyhow::Result<()> {
    let Some(stage) = Stage::set(subject).await? else { return Ok(()) };
    let file = stage.upload("notes.txt", ATTACHED).await?;
    let turn = stage.begin_with(Act::ReadAttachment, json!({ "files": [file] })).await?.end(&stage).await?;
    turn.must_be("completed", &stage)?;
    let said = turn.text();
    assert!(said.contains(ATTACHED), "{said}");
    // A script knows where the file is by itself.
    assert!(subject.agent() != Agent::Demo || said.starts_with("file://"), "the prompt came without it: {said}");
    stage.finish().await
}
