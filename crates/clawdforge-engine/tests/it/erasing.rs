//! Closed conversations are erased: their agents' side, their rows, their directories.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::id::SessionId;
use clawdforge_engine::EngineOptions;
use clawdforge_store::{CommitDoor, CommitError, Store};
use tokio::sync::Semaphore;

use crate::scene::{Scene, soon, until};
use crate::stage::{Scripted, engine_with};
use crate::talker::Memory;

fn at_once(options: &mut EngineOptions) {
    options.session_hard_ttl = Duration::ZERO;
    options.sweep_interval = Duration::from_millis(10);
}

/// A conversation with one answer, closed.
async fn closed(scene: &Scene) -> SessionId {
    let session = scene.open().await;
    scene.answered(session, "hello").await;
    scene.close(session).await.unwrap();
    session
}

async fn is_there(scene: &Scene, session: SessionId) -> bool {
    scene.opened.store.sessions.conversation(session).await.unwrap().is_some()
}

/// Waits until a conversation and its directory are erased.
async fn erased(scene: &Scene, session: SessionId) {
    soon(async {
        while is_there(scene, session).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let directory = scene.dir.path().join("sessions").join(session.to_string());
    until(|| !directory.exists()).await;
}

/// How the erasures of conversations came out, by the ledger.
async fn outcomes(scene: &Scene) -> Vec<Option<String>> {
    let erasures = scene.kinds().await.into_iter().filter(|(kind, _)| kind == "session_erased");
    erasures.map(|(_, outcome)| outcome).collect()
}

#[tokio::test]
async fn sessions_nobody_uses_are_closed_and_later_erased_with_their_workspace() {
    let scene = Scene::with(true, |options| {
        options.session_ttl = Duration::ZERO;
        options.session_hard_ttl = Duration::ZERO;
        options.sweep_interval = Duration::from_millis(10);
    })
    .await;
    let session = scene.open().await;
    soon(async {
        while scene.opened.store.sessions.conversation(session).await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(scene.engine.health().open_sessions, 0);
    let sessions = scene.dir.path().join("sessions");
    until(|| std::fs::read_dir(&sessions).unwrap().count() == 0).await;
    let kinds: Vec<String> = scene.kinds().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds[1..], ["session_created", "session_swept", "session_erased"]);
}

#[tokio::test]
async fn a_session_is_closed_when_its_time_is_over_and_erased_so_long_after_its_close_and_not_before() {
    const IDLE: Duration = Duration::from_secs(3_600);
    const KEPT: Duration = Duration::from_secs(86_400);
    const LATER: Duration = Duration::from_secs(1_000);
    let scene = Scene::with(true, |options| {
        (options.session_ttl, options.session_hard_ttl) = (IDLE, KEPT);
        options.sweep_interval = Duration::from_millis(10);
    })
    .await;
    let is_open = async |session| {
        let record = scene.opened.store.sessions.conversation(session).await.unwrap();
        record.is_some_and(|record| record.closed_at.is_none())
    };
    let swept = async |session| {
        soon(async {
            while is_open(session).await {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    // The look that takes the first one has the second one before its eyes as well.
    let (first, used, second) = (scene.open().await, scene.open().await, scene.open().await);
    scene.clock.pass(LATER);
    scene.answered(second, "hello").await;
    scene.clock.pass(LATER);
    scene.answered(used, "still here").await;
    scene.clock.pass(IDLE - 2 * LATER);
    swept(first).await;
    assert!(is_open(second).await && is_open(used).await, "a turn is use");
    scene.clock.pass(LATER);
    swept(second).await;
    assert!(is_open(used).await);
    scene.clock.pass(KEPT - LATER);
    erased(&scene, first).await;
    assert!(is_there(&scene, second).await, "it was closed later");
    scene.clock.pass(LATER);
    erased(&scene, second).await;
    // Nobody has used the third one meanwhile.
    swept(used).await;
    let sweeps = scene.kinds().await.into_iter().filter(|(kind, _)| kind == "session_swept").count();
    assert_eq!(sweeps, 3);
}

#[tokio::test]
async fn agents_are_told_to_forget_what_is_erased_and_a_bug_in_that_stops_nothing() {
    let scene = Scene::with(true, |options| {
        options.session_hard_ttl = Duration::ZERO;
        options.sweep_interval = Duration::from_millis(10);
    })
    .await;
    *scene.talker.memory.lock().unwrap() = Memory::Panics;
    for key in ["key-1", "key-2"] {
        let session = scene.open().await;
        scene.answered(session, "hello").await;
        scene.close(session).await.unwrap();
        let sessions = scene.dir.path().join("sessions");
        until(|| std::fs::read_dir(&sessions).unwrap().count() == 0).await;
        let (forgotten, was_there) = scene.talker.forgotten.lock().unwrap().pop().unwrap();
        assert_eq!((forgotten.resume_key.as_deref(), was_there), (Some(key), true));
        assert_eq!(forgotten.mark.as_str(), session.to_string());
        assert!(forgotten.workspace.starts_with(&sessions));
    }
}

#[tokio::test]
async fn a_row_stays_until_its_agent_has_forgotten_and_does_not_hold_up_others() {
    let scene = Scene::with(true, at_once).await;
    *scene.talker.memory.lock().unwrap() = Memory::KeepsFirst(3);
    let kept = closed(&scene).await;
    let other = closed(&scene).await;
    erased(&scene, other).await;
    erased(&scene, kept).await;
    let forgotten = scene.talker.forgotten.lock().unwrap().clone();
    assert!(forgotten.iter().all(|(_, was_there)| *was_there), "the directories are there each time");
    let of_kept = forgotten.iter().filter(|(one, _)| one.mark.as_str() == kept.to_string()).count();
    assert_eq!(of_kept, 4, "a row that is gone is not asked for again");
    assert_eq!(outcomes(&scene).await, [None, None]);
}

#[tokio::test]
async fn an_agent_that_never_forgets_does_not_keep_the_row_for_ever_and_the_ledger_says_so() {
    let scene = Scene::with(true, at_once).await;
    *scene.talker.memory.lock().unwrap() = Memory::KeepsFirst(usize::MAX);
    let session = closed(&scene).await;
    erased(&scene, session).await;
    assert_eq!(scene.talker.forgotten.lock().unwrap().len(), 5);
    assert_eq!(outcomes(&scene).await, [Some("agent_records_left".to_owned())]);
}

#[tokio::test]
async fn an_agent_that_has_no_way_to_forget_is_asked_once_and_the_ledger_says_that_its_records_are_left() {
    let scene = Scene::with(true, at_once).await;
    *scene.talker.memory.lock().unwrap() = Memory::CannotForget;
    let session = closed(&scene).await;
    erased(&scene, session).await;
    assert_eq!(scene.talker.forgotten.lock().unwrap().len(), 1);
    assert_eq!(outcomes(&scene).await, [Some("agent_records_left".to_owned())]);
}

#[tokio::test]
async fn what_an_agent_keeps_that_is_not_configured_any_more_is_told_as_left() {
    let scene = Scene::new(true).await;
    let session = closed(&scene).await;
    scene.engine.drain(Duration::from_secs(5)).await;
    let store = scene.opened.store.clone();
    let other = Arc::new(Scripted { name: "other".parse().unwrap(), open: Ok(()), steps: Vec::new() });
    let _engine = engine_with(scene.dir.path(), &scene.spawner, store, other, at_once).await.unwrap();
    erased(&scene, session).await;
    assert_eq!(outcomes(&scene).await, [Some("agent_records_left".to_owned())]);
}

#[tokio::test]
async fn an_agent_that_is_to_forget_is_on_record_and_hears_that_the_service_stops() {
    let scene = Scene::with(true, at_once).await;
    *scene.talker.memory.lock().unwrap() = Memory::Hangs;
    let session = closed(&scene).await;
    let place = || scene.talker.forgetting_at.lock().unwrap().as_ref().map(ToString::to_string);
    until(|| place().is_some()).await;
    let hosts = || async { scene.opened.store.sessions.hosts().await.unwrap() };
    assert_eq!(hosts().await.iter().map(ToString::to_string).collect::<Vec<_>>(), [place().unwrap()]);
    let began = std::time::Instant::now();
    scene.engine.drain(Duration::from_secs(5)).await;
    assert!(began.elapsed() < Duration::from_secs(9), "its own time of ten seconds was not waited for");
    assert_eq!(hosts().await, []);
    assert!(is_there(&scene, session).await, "it is for the next sweep");
}

/// A door that loses the answer of the first erasure.
struct LosesAnErasure {
    inner: Arc<dyn CommitDoor>,
    erasures: AtomicUsize,
}

#[async_trait]
impl CommitDoor for LosesAnErasure {
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let is_erasure = commit.writes.iter().any(|write| matches!(write, Write::EraseSession(_)));
        self.inner.commit(commit).await?;
        if is_erasure && self.erasures.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(CommitError::Unknown("injected fault".to_owned()));
        }
        Ok(())
    }
}

#[tokio::test]
async fn an_erasure_whose_answer_was_lost_has_happened() {
    let scene = Scene::over(true, at_once, |store| {
        let door = LosesAnErasure { inner: Arc::clone(&store.door), erasures: AtomicUsize::new(0) };
        Store { door: Arc::new(door), ..store }
    })
    .await;
    let session = closed(&scene).await;
    erased(&scene, session).await;
    assert_eq!(outcomes(&scene).await, [None]);
}

/// A door that holds closings back until it is let go.
struct HoldsClosings {
    inner: Arc<dyn CommitDoor>,
    came: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

#[async_trait]
impl CommitDoor for HoldsClosings {
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        if commit.writes.iter().any(|write| matches!(write, Write::CloseSession(..))) {
            self.came.add_permits(1);
            self.go.acquire().await.unwrap().forget();
        }
        self.inner.commit(commit).await
    }
}

#[tokio::test]
async fn a_session_that_gets_a_turn_while_the_sweep_is_about_to_close_it_stays_open() {
    const IDLE: Duration = Duration::from_secs(3_600);
    let (came, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let held = (Arc::clone(&came), Arc::clone(&go));
    let options = |options: &mut EngineOptions| {
        (options.session_ttl, options.sweep_interval) = (IDLE, Duration::from_millis(10));
    };
    let scene = Scene::over(true, options, |store| {
        let door = HoldsClosings { inner: Arc::clone(&store.door), came: held.0, go: held.1 };
        Store { door: Arc::new(door), ..store }
    })
    .await;
    let used = scene.open().await;
    scene.clock.pass(IDLE);
    soon(came.acquire()).await.unwrap().forget();
    scene.answered(used, "just in time").await;
    go.add_permits(1);
    // The sweep has gone on: it closes another one.
    let unused = scene.open().await;
    scene.clock.pass(IDLE / 2);
    scene.answered(used, "in use").await;
    scene.clock.pass(IDLE / 2);
    soon(came.acquire()).await.unwrap().forget();
    go.add_permits(1);
    let is_closed = async |session| {
        scene
            .opened
            .store
            .sessions
            .conversation(session)
            .await
            .unwrap()
            .is_some_and(|record| record.closed_at.is_some())
    };
    soon(async {
        while !is_closed(unused).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!is_closed(used).await);
}
