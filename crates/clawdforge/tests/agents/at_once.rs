//! Many runs at the same time.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clawdforge_testkit::mock_model::Reply;
use futures_util::future::try_join_all;
use serde_json::json;

use crate::bench::Bench;

#[tokio::test]
async fn eight_runs_at_once_get_their_own_answers() -> anyhow::Result<()> {
    const RUNS: usize = 8;
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.script(|request| Reply::echo(request).slow(Duration::from_millis(300)));
    let run = |number: usize| {
        let bench = &bench;
        async move {
            let prompt = format!("run number {number} says {}", "na".repeat(number));
            let body = bench.answered(json!({ "prompt": prompt, "system": format!("system {number}.") })).await?;
            anyhow::Ok((body, prompt))
        }
    };
    let all_at_work = bench.app.wait_for_processes(|pids| workspaces(pids).len() == RUNS);
    let (answers, _) = tokio::try_join!(try_join_all((0..RUNS).map(run)), all_at_work)?;
    for (body, prompt) in &answers {
        assert_eq!(body["result"], format!("echo of {} characters: {prompt}", prompt.len()));
    }
    let requests = bench.model.turn_requests();
    assert_eq!(requests.len(), RUNS);
    for request in &requests {
        let number = request.last_user_text().and_then(|text| text.split(' ').nth(2)).unwrap_or_default();
        assert!(
            request.system_text().ends_with(&format!("system {number}.")),
            "run {number} has the system of another"
        );
    }
    bench.finish().await
}

fn workspaces(pids: &[i32]) -> BTreeSet<PathBuf> {
    pids.iter().filter_map(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).ok()).collect()
}
