//! Requests that are sent again with the same key: at the same time, after the end, after a restart.

use std::sync::Arc;
use std::time::Duration;

use clawdforge_core::id::{SessionId, TurnId};
use clawdforge_core::idempotency::{Fingerprint, IdempotencyKey};
use clawdforge_engine::{EngineError, SessionWish, Submitted, TurnRequest, TurnTicket};
use futures_util::future::join_all;

use crate::scene::{Scene, ended, soon};
use crate::stage::{engine_with, request};
use crate::talker::TalkerDriver;

fn key(word: &str, asks: &str) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { key: word.to_owned(), fingerprint: Fingerprint::of(&[asks.as_bytes()]) })
}

async fn submit(
    scene: &Scene,
    session: SessionId,
    prompt: &str,
    key: Option<IdempotencyKey>,
) -> Result<Submitted<TurnTicket, TurnId>, EngineError> {
    let request = TurnRequest {
        prompt: prompt.to_owned(),
        files: Vec::new(),
        timeout: Duration::from_secs(60),
        output_schema: None,
        will_be_followed: false,
    };
    scene.engine.submit_turn(&scene.by, session, request, scene.engine.request_id(), key).await
}

fn turn_of(submitted: &Submitted<TurnTicket, TurnId>) -> TurnId {
    match submitted {
        Submitted::New(ticket) => ticket.turn,
        Submitted::Known(turn) => *turn,
    }
}

#[tokio::test]
async fn of_many_that_are_sent_at_once_one_is_done_and_all_are_told_which() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let all = soon(join_all((0..64).map(|_| submit(&scene, session, "once", key("k", "once"))))).await;
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    let first = turn_of(&all[0]);
    assert!(all.iter().all(|submitted| turn_of(submitted) == first));
    let new: Vec<_> = all.into_iter().filter_map(|submitted| submitted.fresh().ok()).collect();
    assert_eq!(new.len(), 1, "the others are told that it was there");
    for ticket in new {
        ended(ticket).await;
    }
    assert_eq!(scene.talker.asked(), ["once"]);

    let runs = (0..64).map(|_| {
        let request = request(Duration::from_secs(60));
        scene.engine.submit_run(&scene.by, request, scene.engine.request_id(), key("run", "r"))
    });
    let runs: Vec<_> = soon(join_all(runs)).await.into_iter().map(Result::unwrap).collect();
    let of = |submitted: &Submitted<clawdforge_engine::RunTicket, _>| match submitted {
        Submitted::New(ticket) => ticket.run,
        Submitted::Known(run) => *run,
    };
    let first = of(&runs[0]);
    assert!(runs.iter().all(|run| of(run) == first));
    assert_eq!(scene.opened.store.sessions.runs(scene.by.app.id, None, 9).await.unwrap().len(), 1);

    let opens = (0..64).map(|_| {
        let id = scene.engine.request_id();
        scene.engine.open_session(&scene.by, SessionWish::default(), id, key("session", "s"))
    });
    let opened = soon(join_all(opens)).await;
    assert_eq!(opened.into_iter().filter_map(|opened| opened.unwrap().fresh().ok()).count(), 1);
}

#[tokio::test]
async fn a_key_is_good_for_one_request_of_one_app() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    ended(submit(&scene, session, "one", key("k", "one")).await.unwrap().fresh().unwrap()).await;
    assert_eq!(submit(&scene, session, "other", key("k", "other")).await.err(), Some(EngineError::KeyReused));
    let wish = SessionWish::default();
    let elsewhere = scene.engine.open_session(&scene.by, wish, scene.engine.request_id(), key("k", "one")).await;
    assert_eq!(elsewhere.err(), Some(EngineError::KeyReused));
    // What was refused has used up nothing.
    scene.close(session).await.unwrap();
    for _ in 0..2 {
        assert_eq!(submit(&scene, session, "late", key("late", "late")).await.err(), Some(EngineError::SessionClosed));
    }
    assert!(matches!(submit(&scene, session, "one", key("k", "one")).await, Ok(Submitted::Known(_))));
    assert_eq!(scene.talker.asked(), ["one"]);
}

#[tokio::test]
async fn a_key_holds_over_a_restart() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let ticket = submit(&scene, session, "one", key("k", "one")).await.unwrap().fresh().unwrap();
    let turn = ticket.turn;
    ended(ticket).await;
    soon(scene.engine.drain(Duration::ZERO)).await;
    let driver = Arc::new(TalkerDriver(Arc::clone(&scene.talker)));
    let store = scene.opened.store.clone();
    let (engine, _) = engine_with(scene.dir.path(), &scene.spawner, store, driver, |_| {}).await.unwrap();
    let request = TurnRequest {
        prompt: "one".to_owned(),
        files: Vec::new(),
        timeout: Duration::from_secs(60),
        output_schema: None,
        will_be_followed: false,
    };
    let again = engine.submit_turn(&scene.by, session, request, engine.request_id(), key("k", "one")).await.unwrap();
    assert!(matches!(again, Submitted::Known(known) if known == turn));
}
