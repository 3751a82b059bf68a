//! Processes of agents that could not be ended stay on record, and are looked for again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clawdforge_core::commit::{Commit, Write};
use clawdforge_engine::EngineOptions;
use clawdforge_process::{SpawnSpec, StdinMode, Tree, TreeMark};

use crate::scene::{Scene, soon};
use crate::stage::engine_with;
use crate::talker::TalkerDriver;

/// A process that carries a mark: what an agent left behind.
async fn left_behind(scene: &Scene, mark: &impl ToString) -> Tree {
    let spec = SpawnSpec {
        program: "/bin/sleep".into(),
        args: vec!["600".into()],
        env: BTreeMap::new(),
        cwd: scene.dir.path().to_owned(),
        mark: TreeMark::new(mark.to_string()).unwrap(),
        stdin: StdinMode::Null,
        sandbox: None,
    };
    scene.talker.survivors.store(1, Ordering::SeqCst);
    scene.spawner.spawn(spec).await.unwrap()
}

/// Waits until no shared process is on record.
async fn until_forgotten(scene: &Scene) {
    soon(async {
        while !scene.opened.store.sessions.hosts().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_survives_the_agent_of_a_conversation_is_ended_before_it_is_forgotten() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    scene.answered(session, "hello").await;
    let mut left = left_behind(&scene, &session).await;
    scene.close(session).await.unwrap();
    soon(left.wait()).await;
    scene.until_cold().await;
}

#[tokio::test]
async fn what_survives_a_turn_is_ended_before_it_is_forgotten() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    scene.answered(session, "hello").await;
    let mut left = left_behind(&scene, &session).await;
    // A bug in the driver, whose agent is closed during the turn.
    scene.turn(session, "panic").await;
    soon(left.wait()).await;
    scene.until_cold().await;
}

fn sharing(options: &mut EngineOptions) {
    options.sessions_per_process = 8;
}

#[tokio::test]
async fn what_survives_a_shared_process_stays_on_record_until_a_sweep_has_ended_it() {
    let scene = Scene::with(true, |options| {
        sharing(options);
        options.sweep_interval = Duration::from_millis(10);
    })
    .await;
    let session = scene.open().await;
    scene.answered(session, "hello").await;
    let hosts = scene.opened.store.sessions.hosts().await.unwrap();
    let mut left = left_behind(&scene, &hosts[0]).await;
    scene.close(session).await.unwrap();
    soon(left.wait()).await;
    until_forgotten(&scene).await;
}

#[tokio::test]
async fn what_survives_a_shared_process_stays_on_record_until_the_next_start_has_ended_it() {
    let scene = Scene::with(true, sharing).await;
    let session = scene.open().await;
    scene.answered(session, "hello").await;
    let hosts = scene.opened.store.sessions.hosts().await.unwrap();
    let mut left = left_behind(&scene, &hosts[0]).await;
    scene.close(session).await.unwrap();
    scene.engine.drain(Duration::from_secs(5)).await;
    assert_eq!(scene.opened.store.sessions.hosts().await.unwrap(), hosts);
    let (driver, store) = (Arc::new(TalkerDriver(Arc::clone(&scene.talker))), scene.opened.store.clone());
    let (_engine, report) = engine_with(scene.dir.path(), &scene.spawner, store, driver, |_| {}).await.unwrap();
    assert_eq!((report.processes_ended, report.processes_left), (1, 0));
    soon(left.wait()).await;
    until_forgotten(&scene).await;
}

#[tokio::test]
async fn what_survives_a_closed_conversation_is_ended_before_the_conversation_is_erased() {
    let scene = Scene::with(true, |options| {
        // The clock of the tests moves by a millisecond at every look: some hundred sweeps.
        options.session_hard_ttl = Duration::from_millis(500);
        options.sweep_interval = Duration::from_millis(5);
    })
    .await;
    let session = scene.open().await;
    scene.close(session).await.unwrap();
    // As it is left where the look at its end did not get rid of it.
    let writes = vec![Write::NoteLink(session, Some("1:1:not-a-boot".to_owned()))];
    scene.opened.store.door.commit(Commit { writes, ..Commit::default() }).await.unwrap();
    let mut left = left_behind(&scene, &session).await;
    soon(left.wait()).await;
    soon(async {
        while scene.opened.store.sessions.conversation(session).await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
