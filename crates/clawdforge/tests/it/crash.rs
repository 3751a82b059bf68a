//! After `kill -9`: everything accepted has an outcome, nothing of the old service lives on.

use std::time::Duration;

use clawdforge_testkit::app::{PATIENCE, TestApp};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::setup;

/// Starts a run whose answer nobody will wait for; the connection breaks with the service.
fn start_run(app: &TestApp, prompt: &str) -> anyhow::Result<tokio::task::JoinHandle<Result<(), reqwest::Error>>> {
    let request = app.http().post(app.url("/run")).bearer_auth(app.demo_token()?).json(&json!({ "prompt": prompt }));
    #[expect(clippy::disallowed_methods, reason = "the caller of a run that will not be answered")]
    Ok(tokio::spawn(async move { request.send().await.map(drop) }))
}

fn outcomes(ledger: &[Value]) -> Vec<&str> {
    ledger.iter().filter(|line| line["kind"] == "run_ended").filter_map(|line| line["outcome"].as_str()).collect()
}

async fn killed(mut app: TestApp) -> anyhow::Result<TestApp> {
    app.signal(Signal::KILL)?;
    app.ended().await?;
    app.restart().await
}

#[tokio::test]
async fn a_run_under_way_is_interrupted_and_its_agent_is_gone() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let run = start_run(&app, "ignore term\nhang")?;
    app.wait_for_processes(|pids| !pids.is_empty()).await?;
    let app = killed(app).await?;
    assert!(run.await?.is_err(), "the connection broke with the service");
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    let ledger = app.ledger().await?;
    assert_eq!(outcomes(&ledger), ["interrupted"]);
    let ended = ledger.iter().find(|line| line["kind"] == "run_ended").unwrap();
    let accepted = ledger.iter().find(|line| line["kind"] == "run_accepted").unwrap();
    assert_eq!(ended["principal"], "service");
    assert_eq!(ended["subject"], accepted["subject"]);
    assert_eq!(ended["request_id"], accepted["request_id"]);
    assert_eq!(ended["agent"], "demo");
    assert_eq!(ended["model_asked"], "sonnet");
    let again = app.prompt("json: [1]").await?;
    assert_eq!(again.json()["result"], json!([1]), "{again:?}");
    Ok(())
}

#[tokio::test]
async fn a_process_an_agent_had_detached_is_found_and_ended() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let run = start_run(&app, "grandchild\nhang")?;
    app.wait_for_programs(|pids| pids.len() >= 2).await?;
    let app = killed(app).await?;
    assert!(run.await?.is_err());
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    assert_eq!(std::fs::read_dir(app.data_dir().join("runs"))?.count(), 0, "the run's directory is gone");
    Ok(())
}

#[tokio::test]
async fn an_agent_that_stayed_after_its_answer_is_found_and_ended() -> anyhow::Result<()> {
    // The answer is recorded and sent before the agent's tree is gone; the service dies in between.
    let app = setup().demo().env("CLAWDFORGE_KILL_GRACE_MS", "30000").start().await?;
    let answer = app.prompt("ignore term\ngrandchild\nlinger").await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(app.agent_programs().len() >= 2, "the agent and what it left are still there");
    let app = killed(app).await?;
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    assert_eq!(outcomes(&app.ledger().await?), ["completed"]);
    Ok(())
}

#[tokio::test]
async fn a_run_that_still_waited_gets_an_outcome_and_is_not_started() -> anyhow::Result<()> {
    let app = setup().demo().arg("--slots").arg("1").start().await?;
    let running = start_run(&app, "hang")?;
    app.wait_for_processes(|pids| !pids.is_empty()).await?;
    let waiting = start_run(&app, "say: never")?;
    app.ledger_with(|lines| lines.iter().filter(|line| line["kind"] == "run_accepted").count() == 2).await?;
    let app = killed(app).await?;
    assert!(running.await?.is_err() && waiting.await?.is_err());
    assert_eq!(outcomes(&app.ledger().await?), ["interrupted", "interrupted"]);
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    Ok(())
}

#[tokio::test]
async fn kills_at_any_moment_leave_no_accepted_run_without_an_outcome() -> anyhow::Result<()> {
    let mut app = setup().demo().start().await?;
    // Moments spread over the life of a short run (about 15 ms), so that each of its commits is met.
    for moment_ms in [0, 2, 4, 6, 8, 10, 12, 15, 20, 30] {
        let runs: Vec<_> = (0..3).map(|_| start_run(&app, "think: a\nsay: b")).collect::<anyhow::Result<_>>()?;
        // why: the moment itself is what this test varies; nothing is waited for.
        tokio::time::sleep(Duration::from_millis(moment_ms)).await;
        app = killed(app).await?;
        for run in runs {
            drop(tokio::time::timeout(PATIENCE, run).await??);
        }
        let ledger = app.ledger().await?;
        let of = |kind: &str| {
            let mut subjects: Vec<String> =
                ledger.iter().filter(|line| line["kind"] == kind).map(|line| line["subject"].to_string()).collect();
            subjects.sort();
            subjects
        };
        assert_eq!(of("run_accepted"), of("run_ended"), "after a kill at {moment_ms} ms");
        assert_eq!(app.agent_processes(), Vec::<i32>::new());
    }
    Ok(())
}

#[tokio::test]
async fn bytes_of_an_upload_that_was_cut_by_the_crash_are_removed() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let token = app.upload(&app.demo_token()?, "kept.txt", b"kept".to_vec()).await?;
    let files = app.data_dir().join("files");
    std::fs::write(files.join("ff_00000000000000000000000000"), "no row names me")?;
    std::fs::write(files.join("ff_00000000000000000000000001.part"), "half")?;
    let app = killed(app).await?;
    let left: Vec<String> = std::fs::read_dir(&files)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<anyhow::Result<_>>()?;
    assert_eq!(left, [token]);
    assert!(app.log()?.contains("strays.removed"));
    Ok(())
}

#[tokio::test]
async fn a_start_that_is_refused_for_its_address_leaves_nothing_behind() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let (dir, address) = (tempfile::tempdir()?, app.url("").replace("http://", ""));
    let data_dir = dir.path().join("data");
    let second = setup().demo().data_dir(&data_dir).listen(&address).start().await;
    let told = second.expect_err("the address is taken").to_string();
    assert!(told.contains(&format!("cannot listen on {address}")) && told.contains("--listen"), "{told}");
    assert!(!data_dir.exists());
    Ok(())
}

#[tokio::test]
async fn a_second_service_on_the_same_data_is_refused_with_a_sentence() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let second = setup().demo().data_dir(app.data_dir()).start().await;
    let told = second.expect_err("a second server on the same data must be refused").to_string();
    assert!(told.contains("in use by another server"), "{told}");
    assert_eq!(app.prompt("say: still here").await?.json()["result"], "still here");
    Ok(())
}
