//! The time limit: when it passes, nothing is left of the agent or of anything it started.

use std::time::Duration;

use clawdforge_testkit::app::PATIENCE;
use clawdforge_testkit::mock_model::{Ending, Reply};
use serde_json::{Value, json};

use crate::bench::{Bench, Kind};

/// The shortest limit a run may have.
const LIMIT_SECS: u64 = 5;

/// How much later than its limit a run may be answered: the time in which its processes are ended.
const LATE_MAX: Duration = Duration::from_secs(5);

fn assert_in_time(body: &Value, limit_secs: u64) {
    let duration = Duration::from_millis(body["duration_ms"].as_u64().unwrap_or_default());
    let limit = Duration::from_secs(limit_secs);
    assert!(duration >= limit && duration < limit + LATE_MAX, "{duration:?}");
}

#[tokio::test]
async fn a_model_that_never_answers_ends_at_the_time_limit_with_no_process_left() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.reply_next(Reply::stalled());
    let run = bench.failed(json!({ "prompt": "hi", "timeout_secs": LIMIT_SECS }), "timed_out");
    let look = async {
        bench.model.wait_for_requests(1, PATIENCE).await?;
        Ok(bench.app.agent_processes().len())
    };
    let (body, agents) = tokio::try_join!(run, look)?;
    assert!(agents > 0, "the agent was at work");
    assert_eq!(bench.app.agent_processes(), Vec::<i32>::new(), "when the answer is there");
    assert_in_time(&body, LIMIT_SECS);
    assert!(body["error"].as_str().is_some_and(|error| error.contains("timed out after 5 s")), "{body}");
    bench.model.wait_until_idle(PATIENCE).await?;
    assert_eq!(bench.the_end().await?["outcome"], "timed_out");
    bench.finish().await
}

#[tokio::test]
async fn an_agent_that_falls_silent_in_its_answer_is_stopped() -> anyhow::Result<()> {
    let kind = Kind { env: &[("CLAWDFORGE_SILENCE_MAX_SECS", "4")], ..Kind::default() };
    let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
    bench.model.reply_next(Reply::text("It begins well, but then nothing more").ending(Ending::Stalled));
    let body = bench.failed(json!({ "prompt": "hi" }), "silent").await?;
    assert!(body["error"].as_str().is_some_and(|error| error.contains("no sign of life for 4 s")), "{body}");
    bench.finish().await
}

#[tokio::test]
async fn a_command_of_the_agent_and_what_it_detached_end_with_the_run() -> anyhow::Result<()> {
    // Long enough for a busy machine to get as far as the command.
    const LIMIT_SECS: u64 = 10;
    let kind = Kind { agent_lines: r#"args = ["--allowedTools", "Bash"]"#, ..Kind::default() };
    let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
    let command = "setsid sleep 3111 & sh -c 'echo go; sleep 3112'";
    bench.model.reply_next(Reply::tool_use("Bash", json!({ "command": command, "timeout": 600_000 })));
    let run = bench.failed(json!({ "prompt": "run it", "timeout_secs": LIMIT_SECS }), "timed_out");
    let look = async {
        let both = |pids: &[i32]| sleepers(pids).len() == 2;
        Ok(sleepers(&bench.app.wait_for_processes(both).await?))
    };
    let (body, sleepers) = tokio::try_join!(run, look)?;
    assert_in_time(&body, LIMIT_SECS);
    let alive = |pid: &&i32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    assert_eq!(sleepers.iter().filter(alive).collect::<Vec<_>>(), Vec::<&i32>::new());
    assert_eq!(bench.app.agent_processes(), Vec::<i32>::new());
    bench.finish().await
}

/// Those of the processes that are the command's two sleeps.
fn sleepers(pids: &[i32]) -> Vec<i32> {
    let is_one = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line == b"sleep\x003111\0" || line == b"sleep\x003112\0"
    };
    pids.iter().copied().filter(is_one).collect()
}
