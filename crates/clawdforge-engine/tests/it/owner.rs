//! The owner of a turn, whatever its agent does.

use std::time::Duration;

use clawdforge_core::agent::{AgentSignal, Exit, Failure, FailureKind};
use clawdforge_core::event::{EventBody, TurnOutcome};
use clawdforge_core::id::SessionId;
use clawdforge_core::limits::ANSWER_BYTES_MAX;
use clawdforge_process::Spawner;

use crate::stage::{Step, answers, app, engine, open_store, request, say};

/// Plays one run and gives its outcome and the kinds of its events.
async fn play(open: Result<(), Failure>, steps: Vec<Step>, timeout: Duration) -> (TurnOutcome, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path()).await;
    let spawner = Spawner::start().unwrap();
    let (engine, _) = engine(dir.path(), &spawner, store.store.clone(), open, steps).await.unwrap();
    let by = app(&engine).await;
    let ticket = engine.submit_run(&by, request(timeout), engine.request_id(), None).await.unwrap().fresh().unwrap();
    let session: SessionId = ticket.run.into();
    let outcome = ticket.outcome().await.unwrap();
    let events = store.store.events.events_after(session, 0, 1_000).await.unwrap();
    for (place, event) in events.iter().enumerate() {
        assert_eq!(event.seq, place as u64 + 1, "numbers have no gap");
    }
    let kinds = events.iter().map(|event| kind(&event.body)).collect();
    assert_eq!(events.last().map(|event| event.body.clone()), Some(EventBody::Ended((*outcome).clone())));
    engine.drain(Duration::from_secs(5)).await;
    assert_eq!(std::fs::read_dir(dir.path().join("runs")).unwrap().count(), 0, "the run's directory is gone");
    ((*outcome).clone(), kinds)
}

fn kind(body: &EventBody) -> String {
    serde_json::to_value(body).unwrap()["type"].as_str().unwrap().to_owned()
}

fn failure(outcome: &TurnOutcome) -> FailureKind {
    outcome.failure.as_ref().map(|failure| failure.kind).expect("a failure")
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_answer_is_recorded_with_its_events_in_order() {
    let (outcome, kinds) = play(Ok(()), answers("hello"), LONG).await;
    assert_eq!(outcome.answer.as_deref(), Some("hello"));
    assert_eq!(outcome.failure, None);
    assert_eq!(kinds, ["prompt", "started", "text", "ended"]);
}

#[tokio::test]
async fn an_agent_that_cannot_be_opened_ends_the_run_with_its_reason() {
    let missing = Failure::new(FailureKind::NotInstalled, "claude is not installed: run …");
    let (outcome, kinds) = play(Err(missing.clone()), Vec::new(), LONG).await;
    assert_eq!(outcome.failure, Some(missing));
    assert_eq!(kinds, ["prompt", "started", "ended"]);
}

#[tokio::test]
async fn an_agent_that_dies_is_a_crash_with_what_it_had_said() {
    let exit = Exit { code: Some(7), signal: None, stderr: "boom".to_owned() };
    let (outcome, _) = play(Ok(()), vec![say(AgentSignal::Exited(exit))], LONG).await;
    assert_eq!(failure(&outcome), FailureKind::Crashed);
    assert_eq!(outcome.stderr, "boom");
}

#[tokio::test]
async fn an_agent_that_never_ends_is_stopped_by_the_time_limit() {
    let (outcome, _) = play(Ok(()), vec![Step::WaitForEver], Duration::from_millis(50)).await;
    assert_eq!(failure(&outcome), FailureKind::TimedOut);
    assert_eq!(outcome.stderr, "the script is over");
}

#[tokio::test]
async fn a_panic_in_a_driver_ends_only_its_own_run() {
    let (outcome, kinds) = play(Ok(()), vec![Step::Panic], LONG).await;
    assert_eq!(failure(&outcome), FailureKind::Internal);
    assert_eq!(kinds.last().map(String::as_str), Some("ended"));
}

#[tokio::test]
async fn a_panic_while_closing_leaves_the_answer_as_it_was_and_the_directory_gone() {
    let mut steps = answers("hello");
    steps.push(Step::Panic);
    let (outcome, kinds) = play(Ok(()), steps, LONG).await;
    assert_eq!((outcome.answer.as_deref(), &outcome.failure), (Some("hello"), &None));
    assert_eq!(kinds, ["prompt", "started", "text", "ended"]);
}

#[tokio::test]
async fn a_driver_that_panics_twice_still_ends_its_run() {
    let (outcome, kinds) = play(Ok(()), vec![Step::Panic, Step::Panic], LONG).await;
    assert_eq!(failure(&outcome), FailureKind::Internal);
    assert_eq!(kinds, ["prompt", "started", "ended"]);
}

#[tokio::test]
async fn an_answer_too_large_to_return_is_a_failure_and_not_a_cut_answer() {
    let (outcome, _) = play(Ok(()), answers(&"x".repeat(ANSWER_BYTES_MAX + 1)), LONG).await;
    assert_eq!(failure(&outcome), FailureKind::AnswerTooLarge);
    assert_eq!(outcome.answer, None);
}

#[tokio::test]
async fn a_panic_loses_no_event_that_was_made_before_it() {
    let steps = vec![say(AgentSignal::Text("half".to_owned())), Step::Panic];
    let (outcome, kinds) = play(Ok(()), steps, LONG).await;
    assert_eq!(failure(&outcome), FailureKind::Internal);
    assert_eq!(kinds, ["prompt", "started", "text", "ended"]);
}
