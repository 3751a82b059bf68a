//! Stopping turns and runs: one under way, one that waits, one that has ended.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_core::agent::FailureKind;
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::turn::TurnState;
use clawdforge_engine::EngineError;
use clawdforge_store::{CommitDoor, CommitError, Store};
use tokio::sync::Semaphore;

use crate::scene::{Scene, ended, failure, soon};
use crate::stage::{engine_with, request};
use crate::talker::TalkerDriver;

#[tokio::test]
async fn a_turn_under_way_is_stopped_and_its_agent_stays_for_the_next() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let running = scene.submit(session, "hang").await.unwrap();
    let turn = running.turn;
    scene.asked(1).await;
    let cancel = || scene.engine.cancel_turn(&scene.by, session, turn, scene.engine.request_id());
    let asked = cancel().await.unwrap();
    assert!(asked.cancel_asked_at.is_some() && asked.turn.state == TurnState::Running, "{asked:?}");
    assert_eq!(failure(&ended(running).await), Some(FailureKind::Cancelled));
    assert_eq!(cancel().await.err(), Some(EngineError::AlreadyEnded));
    scene.answered(session, "next").await;
    assert_eq!(scene.talker.opens(), 1, "the same process went on");
    let kinds = scene.kinds().await;
    assert_eq!(kinds.iter().filter(|(kind, _)| kind == "cancel_asked").count(), 1, "{kinds:?}");
}

#[tokio::test]
async fn a_turn_that_waits_is_never_given_to_the_agent() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let first = scene.submit(session, "wait").await.unwrap();
    let second = scene.submit(session, "second").await.unwrap();
    let third = scene.submit(session, "third").await.unwrap();
    scene.asked(1).await;
    for _ in 0..2 {
        scene.engine.cancel_turn(&scene.by, session, second.turn, scene.engine.request_id()).await.unwrap();
    }
    scene.talker.go.add_permits(1);
    assert_eq!(failure(&ended(first).await), None);
    assert_eq!(failure(&ended(second).await), Some(FailureKind::Cancelled));
    assert_eq!(failure(&ended(third).await), None);
    assert_eq!(scene.talker.asked(), ["wait", "third"]);
}

#[tokio::test]
async fn what_was_asked_of_a_turn_that_waits_holds_over_a_restart() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    drop(scene.submit(session, "hang").await.unwrap());
    let second = scene.submit(session, "second").await.unwrap();
    let turn = second.turn;
    scene.asked(1).await;
    scene.engine.cancel_turn(&scene.by, session, turn, scene.engine.request_id()).await.unwrap();
    soon(scene.engine.drain(Duration::ZERO)).await;

    let driver = Arc::new(TalkerDriver(Arc::clone(&scene.talker)));
    let store = scene.opened.store.clone();
    let (engine, _) = engine_with(scene.dir.path(), &scene.spawner, store, driver, |_| {}).await.unwrap();
    let mut stream = engine.follow_turn(&scene.by, session, turn, 0).await.unwrap();
    while soon(stream.next()).await.unwrap().is_some() {}
    let view = engine.turn(&scene.by, session, turn).await.unwrap();
    let kind = view.outcome.and_then(|outcome| outcome.failure).map(|failure| failure.kind);
    assert_eq!(kind, Some(FailureKind::Cancelled));
    assert_eq!(scene.talker.asked(), ["hang"]);
}

#[tokio::test]
async fn a_run_that_waits_for_a_slot_is_stopped_at_once() {
    let scene = Scene::with(true, |options| options.slots = 1).await;
    let session = scene.open().await;
    let busy = scene.submit(session, "wait").await.unwrap();
    scene.asked(1).await;
    let ticket = scene
        .engine
        .submit_run(&scene.by, request(Duration::from_secs(60)), scene.engine.request_id(), None)
        .await
        .unwrap()
        .fresh()
        .unwrap();
    scene.engine.cancel_run(&scene.by, ticket.run, scene.engine.request_id()).await.unwrap();
    let outcome = soon(ticket.outcome()).await.unwrap();
    assert_eq!(outcome.failure.as_ref().map(|failure| failure.kind), Some(FailureKind::Cancelled));
    scene.talker.go.add_permits(1);
    assert_eq!(failure(&ended(busy).await), None);
}

/// A door that gives no answer about an accepted turn until it is let go.
struct HoldsAnswers {
    inner: Arc<dyn CommitDoor>,
    came: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

#[async_trait]
impl CommitDoor for HoldsAnswers {
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let queues = commit.writes.iter().any(|write| matches!(write, Write::QueueTurn(..)));
        self.inner.commit(commit).await?;
        if queues {
            self.came.add_permits(1);
            self.go.acquire().await.unwrap().forget();
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_cancel_that_comes_before_the_acceptance_was_answered_is_heard() {
    let (came, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let held = (Arc::clone(&came), Arc::clone(&go));
    let scene = Scene::over(
        true,
        |_| {},
        |store| {
            let door = HoldsAnswers { inner: Arc::clone(&store.door), came: held.0, go: held.1 };
            Store { door: Arc::new(door), ..store }
        },
    )
    .await;
    let session = scene.open().await;
    let cancel = async {
        soon(came.acquire()).await.unwrap().forget();
        let turns = scene.opened.store.sessions.turns(session, 0, 9).await.unwrap();
        let turn = turns[0].turn.id;
        scene.engine.cancel_turn(&scene.by, session, turn, scene.engine.request_id()).await.unwrap();
        go.add_permits(1);
    };
    let (accepted, ()) = tokio::join!(scene.submit(session, "hang"), cancel);
    assert_eq!(failure(&ended(accepted.unwrap()).await), Some(FailureKind::Cancelled));
    assert_eq!(scene.talker.asked(), <[&str; 0]>::default(), "it waited when it was cancelled");
}
