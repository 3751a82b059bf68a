//! Stopping in good order.

use clawdforge_testkit::app::{Answer, TestApp};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::setup;

/// Starts a run whose answer is looked at later, and waits until its agent is at work.
async fn running(app: &TestApp, prompt: &str) -> anyhow::Result<JoinHandle<anyhow::Result<Answer>>> {
    let run = sent(app, prompt)?;
    app.wait_for_processes(|pids| !pids.is_empty()).await?;
    Ok(run)
}

fn sent(app: &TestApp, prompt: &str) -> anyhow::Result<JoinHandle<anyhow::Result<Answer>>> {
    let request = app.http().post(app.url("/run")).bearer_auth(app.demo_token()?).json(&json!({ "prompt": prompt }));
    #[expect(clippy::disallowed_methods, reason = "a caller beside the test")]
    Ok(tokio::spawn(clawdforge_testkit::app::read(request)))
}

/// Waits until the service says that it takes no new work.
async fn not_ready(app: &TestApp) -> anyhow::Result<Answer> {
    loop {
        let answer = app.call(Method::GET, "/readyz", "", Value::Null).await?;
        if answer.status != StatusCode::OK {
            return Ok(answer);
        }
        clawdforge_testkit::app::poll_pause().await;
    }
}

#[tokio::test]
async fn running_work_finishes_while_new_work_is_refused() -> anyhow::Result<()> {
    let mut app = setup().demo().start().await?;
    let run = running(&app, "chatter: 1500\nsay: done").await?;
    app.signal(Signal::TERM)?;
    let refused = not_ready(&app).await?;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers.contains_key("retry-after"));
    let health = app.call(Method::GET, "/healthz", "", Value::Null).await?;
    assert_eq!(health.status, StatusCode::OK, "the process lives");
    let late = app.prompt("say: too late").await?;
    assert_eq!(late.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(late.headers.contains_key("retry-after"));
    assert_eq!(run.await??.json()["result"], "done");
    assert!(app.ended().await?.success());
    Ok(())
}

#[tokio::test]
async fn work_beyond_the_deadline_is_interrupted_and_recorded() -> anyhow::Result<()> {
    let mut app = setup().demo().arg("--drain-deadline-secs").arg("1").start().await?;
    let run = running(&app, "hang").await?;
    app.signal(Signal::TERM)?;
    let answer = run.await??;
    assert_eq!((answer.status, &answer.json()["code"]), (StatusCode::BAD_GATEWAY, &json!("interrupted")));
    assert!(app.ended().await?.success());
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    let app = app.restart().await?;
    let ledger = app.ledger().await?;
    let ended: Vec<&Value> = ledger.iter().filter(|line| line["kind"] == "run_ended").collect();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0]["outcome"], "interrupted");
    Ok(())
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_the_deadline() -> anyhow::Result<()> {
    let mut app = setup().demo().arg("--drain-deadline-secs").arg("3600").start().await?;
    let run = running(&app, "hang").await?;
    app.signal(Signal::TERM)?;
    not_ready(&app).await?;
    app.signal(Signal::INT)?;
    assert_eq!(run.await??.json()["code"], "interrupted");
    assert!(app.ended().await?.success());
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    Ok(())
}

#[tokio::test]
async fn work_that_waits_for_a_slot_is_not_started_any_more() -> anyhow::Result<()> {
    let mut app = setup().demo().arg("--slots").arg("1").start().await?;
    let first = running(&app, "chatter: 1500\nsay: first").await?;
    let waiting = sent(&app, "say: second")?;
    app.ledger_with(|lines| lines.iter().filter(|line| line["kind"] == "run_accepted").count() == 2).await?;
    app.signal(Signal::TERM)?;
    assert_eq!(waiting.await??.json()["code"], "interrupted");
    assert_eq!(first.await??.json()["result"], "first");
    assert!(app.ended().await?.success());
    Ok(())
}
