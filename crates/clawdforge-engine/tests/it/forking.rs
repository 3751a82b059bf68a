//! Forks of conversations: what they begin with, when there is none, and what is left then.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use clawdforge_core::agent::FailureKind;
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::ContextSource;
use clawdforge_core::id::SessionId;
use clawdforge_core::idempotency::{Fingerprint, IdempotencyKey};
use clawdforge_core::session::{ForkPoint, OnContextLoss};
use clawdforge_engine::{AgentHome, EngineError, EngineOptions, SessionChange, SessionView, SessionWish, Submitted};
use clawdforge_store::{CommitDoor, CommitError, Store};

use crate::scene::{Scene, ended, failure, soon, until};
use crate::talker::Forks;

async fn fork_with(
    scene: &Scene,
    source: SessionId,
    change: SessionChange,
    key: Option<&str>,
) -> Result<Submitted<SessionView, SessionId>, EngineError> {
    let key = key.map(|key| IdempotencyKey { key: key.to_owned(), fingerprint: Fingerprint::of(&[b"fork"]) });
    soon(scene.engine.fork_session(&scene.by, source, change, scene.engine.request_id(), key)).await
}

async fn fork(scene: &Scene, source: SessionId) -> Result<SessionView, EngineError> {
    fork_with(scene, source, SessionChange::default(), None).await.and_then(Submitted::fresh)
}

/// A conversation in which this was said.
async fn said(scene: &Scene, prompts: &[&str]) -> SessionId {
    let session = scene.open().await;
    for prompt in prompts {
        scene.answered(session, prompt).await;
    }
    session
}

fn work(scene: &Scene, session: SessionId) -> PathBuf {
    scene.dir.path().join("sessions").join(session.to_string()).join("work")
}

/// Directories of conversations, and of processes that are on record.
fn folders(scene: &Scene) -> (usize, usize) {
    let count = |name| std::fs::read_dir(scene.dir.path().join(name)).unwrap().count();
    (count("sessions"), count("hosts"))
}

/// Nothing but the source is there, and nothing was written of anything else.
async fn assert_nothing_but(scene: &Scene, source: SessionId) {
    let there = scene.engine.sessions(&scene.by, true).await.unwrap();
    assert_eq!(there.iter().map(|view| view.record.session.id).collect::<Vec<_>>(), [source]);
    assert_eq!(folders(scene), (1, 0));
    assert_eq!(scene.engine.health().open_sessions, 1);
    assert!(scene.opened.store.sessions.hosts().await.unwrap().is_empty());
    assert!(!scene.kinds().await.iter().any(|(kind, _)| kind == "session_forked"));
}

#[tokio::test]
async fn a_fork_is_a_session_of_its_own_that_goes_on_from_the_agents_fork() {
    let scene = Scene::new(true).await;
    let wish = SessionWish {
        model: Some("large".to_owned()),
        meta: Some(r#"{"a":1}"#.to_owned()),
        on_context_loss: OnContextLoss::Fail,
        ..SessionWish::default()
    };
    let source = scene.open_wishing(wish).await;
    for prompt in ["one", "two"] {
        scene.answered(source, prompt).await;
    }
    std::fs::write(work(&scene, source).join("file"), "as it was").unwrap();
    let change = SessionChange { model: Some(Some("small".to_owned())), ..SessionChange::default() };
    let view = fork_with(&scene, source, change, None).await.unwrap().fresh().unwrap();
    let fork = view.record.session.id;
    assert_eq!(view, scene.engine.session(&scene.by, fork).await.unwrap(), "it is told as it is on record");
    assert_eq!(view.record.forked_from, Some(ForkPoint { session: source, turn_index: 2 }));
    assert_eq!((view.record.turns, view.is_warm), (0, false));
    let (of_fork, of_source) = (view.record.session, scene.engine.session(&scene.by, source).await.unwrap().record);
    let chosen = of_source.session.conversation.clone().unwrap();
    let expected = clawdforge_core::session::Conversation { model: Some("small".to_owned()), ..chosen };
    assert_eq!(of_fork.conversation, Some(expected), "what was chosen is taken over but for the change");

    let asked = scene.talker.forked.lock().unwrap()[0].clone();
    assert_eq!(asked.resume, of_source.resume_key);
    assert_eq!((asked.workspace, asked.model.as_deref()), (work(&scene, fork), Some("small")));
    assert!(asked.mark.to_string().starts_with("hst_"), "{}", asked.mark);
    assert_eq!(scene.talker.alive(), 1, "the source's agent is the only one");
    assert_eq!(folders(&scene), (2, 0));

    assert_eq!(scene.answered(source, "three").await, ContextSource::Warm, "the source goes on as if nothing had been");
    assert_eq!(scene.answered(fork, "other").await, ContextSource::Resumed);
    assert_eq!(scene.talker.opened.lock().unwrap().last().unwrap().resume.as_deref(), Some("fork-1"));
    std::fs::write(work(&scene, fork).join("file"), "changed").unwrap();
    assert_eq!(std::fs::read_to_string(work(&scene, source).join("file")).unwrap(), "as it was");
    let kinds: Vec<String> = scene.kinds().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "session_forked").count(), 1);
    assert_eq!(scene.engine.health().open_sessions, 2);
}

#[tokio::test]
async fn a_session_with_a_turn_under_way_or_waiting_is_not_forked() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let running = scene.submit(session, "wait").await.unwrap();
    scene.asked(1).await;
    assert_eq!(fork(&scene, session).await.err(), Some(EngineError::SessionBusy));
    let waiting = scene.submit(session, "next").await.unwrap();
    scene.talker.go.add_permits(1);
    ended(running).await;
    ended(waiting).await;
    assert_nothing_but(&scene, session).await;
    fork(&scene, session).await.unwrap();
}

#[tokio::test]
async fn a_turn_that_comes_while_a_session_is_forked_comes_after() {
    let scene = Scene::with(true, |options| options.slots = 4).await;
    let source = said(&scene, &["one"]).await;
    let other = scene.open().await;
    *scene.talker.forks.lock().unwrap() = Forks::Waits;
    let forking = fork(&scene, source);
    let next = async {
        until(|| !scene.talker.forked.lock().unwrap().is_empty()).await;
        let next = scene.submit(source, "two");
        tokio::pin!(next);
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        // As much as it would take to come through.
        scene.answered(other, "something else").await;
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        scene.talker.go.add_permits(1);
        ended(next.await.unwrap()).await
    };
    let (forked, next) = tokio::join!(forking, next);
    assert_eq!(next.outcome.answer.as_deref(), Some("two"));
    assert_eq!(forked.unwrap().record.forked_from.unwrap().turn_index, 1);
}

#[tokio::test]
async fn what_cannot_be_forked_is_refused_with_the_reason_and_leaves_nothing() {
    for (forks, why) in [
        (Forks::NoWay, "there is no way"),
        (Forks::NotOffered, "does not offer to fork"),
        (Forks::Unknown, "no record of this session any more"),
    ] {
        let scene = Scene::new(true).await;
        let source = said(&scene, &["one"]).await;
        *scene.talker.forks.lock().unwrap() = forks;
        match fork(&scene, source).await {
            Err(EngineError::ForkImpossible(told)) => assert!(told.contains(why) && told.contains("talker"), "{told}"),
            other => panic!("{forks:?}: {other:?}"),
        }
        assert_nothing_but(&scene, source).await;
    }
}

#[tokio::test]
async fn an_agent_that_breaks_while_it_forks_leaves_nothing_and_the_source_as_it_was() {
    let scene = Scene::new(true).await;
    let source = said(&scene, &["one"]).await;
    *scene.talker.forks.lock().unwrap() = Forks::Broken;
    assert!(matches!(fork(&scene, source).await, Err(EngineError::AgentUnavailable(_))));
    assert_nothing_but(&scene, source).await;
    assert_eq!(scene.answered(source, "two").await, ContextSource::Warm);
}

#[tokio::test]
async fn neither_a_session_without_a_turn_nor_one_that_is_closed_is_forked() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    match fork(&scene, session).await {
        Err(EngineError::ForkImpossible(told)) => assert!(told.contains("open a new one"), "{told}"),
        other => panic!("{other:?}"),
    }
    scene.answered(session, "one").await;
    scene.close(session).await.unwrap();
    assert_eq!(fork(&scene, session).await.err(), Some(EngineError::SessionClosed));
    assert!(scene.talker.forked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn homes_of_single_sessions_hold_no_record_that_a_fork_could_find() {
    let scene = Scene::with(true, |options: &mut EngineOptions| options.agent_home = AgentHome::Session).await;
    let source = said(&scene, &["one"]).await;
    match fork(&scene, source).await {
        Err(EngineError::ForkImpossible(told)) => assert!(told.contains("agent_home"), "{told}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_workspace_that_is_too_large_is_not_copied() {
    let scene = Scene::with(true, |options| options.workspace_bytes_max = Some(100_000)).await;
    let source = said(&scene, &["one"]).await;
    std::fs::File::create(work(&scene, source).join("sparse")).unwrap().set_len(200_000).unwrap();
    match fork(&scene, source).await {
        Err(EngineError::ForkImpossible(told)) => assert!(told.contains("too large"), "{told}"),
        other => panic!("{other:?}"),
    }
    assert_nothing_but(&scene, source).await;
    assert!(scene.talker.forked.lock().unwrap().is_empty(), "no agent was started for it");
}

#[tokio::test]
async fn a_fork_that_was_sent_before_with_its_key_is_told_again() {
    let scene = Scene::new(true).await;
    let source = said(&scene, &["one"]).await;
    let first = fork_with(&scene, source, SessionChange::default(), Some("key")).await.unwrap().fresh().unwrap();
    match fork_with(&scene, source, SessionChange::default(), Some("key")).await.unwrap() {
        Submitted::Known(id) => assert_eq!(id, first.record.session.id),
        Submitted::New(other) => panic!("{other:?}"),
    }
    assert_eq!(scene.talker.forked.lock().unwrap().len(), 1);
}

/// Takes every commit but those of forks.
struct NoForks(Arc<dyn CommitDoor>);

#[async_trait]
impl CommitDoor for NoForks {
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        if commit.writes.iter().any(|write| matches!(write, Write::NoteFork(..))) {
            return Err(CommitError::Unavailable("injected fault".to_owned()));
        }
        self.0.commit(commit).await
    }
}

#[tokio::test]
async fn a_fork_that_cannot_be_recorded_is_taken_back_also_by_its_agent() {
    let refusing = |store: Store| Store { door: Arc::new(NoForks(store.door)), ..store };
    let scene = Scene::over(true, |_| {}, refusing).await;
    let source = said(&scene, &["one"]).await;
    assert!(matches!(fork(&scene, source).await, Err(EngineError::RecordsUnavailable(_))));
    let forgotten = scene.talker.forgotten.lock().unwrap().clone();
    assert_eq!(forgotten.iter().map(|(one, _)| one.resume_key.as_deref()).collect::<Vec<_>>(), [Some("fork-1")]);
    assert_nothing_but(&scene, source).await;
    assert_eq!(scene.talker.alive.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_source_that_is_closed_while_it_is_forked_has_no_fork() {
    let scene = Scene::new(true).await;
    let source = said(&scene, &["one"]).await;
    *scene.talker.forks.lock().unwrap() = Forks::Waits;
    let closing = async {
        until(|| !scene.talker.forked.lock().unwrap().is_empty()).await;
        scene.close(source).await.unwrap();
        scene.talker.go.add_permits(1);
    };
    let (forked, ()) = tokio::join!(fork(&scene, source), closing);
    assert_eq!(forked.err(), Some(EngineError::SessionClosed));
    assert_eq!(scene.talker.forgotten.lock().unwrap().len(), 1);
    assert_eq!(folders(&scene), (1, 0));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_fork() {
    let scene = Scene::new(true).await;
    let source = said(&scene, &["one"]).await;
    *scene.talker.forks.lock().unwrap() = Forks::Waits;
    let stopping = async {
        until(|| !scene.talker.forked.lock().unwrap().is_empty()).await;
        scene.engine.stop_taking_work();
    };
    let (forked, ()) = tokio::join!(fork(&scene, source), stopping);
    assert_eq!(forked.err(), Some(EngineError::Stopping));
    assert_eq!(folders(&scene).0, 1);
}

#[tokio::test]
async fn a_fork_whose_agent_forgot_what_it_began_with_says_so_and_does_not_pass_for_new() {
    let scene = Scene::new(false).await;
    let source = said(&scene, &["one"]).await;
    let fork = fork(&scene, source).await.unwrap().record.session.id;
    let lost = scene.turn(fork, "two").await;
    assert_eq!(failure(&lost), Some(FailureKind::ContextLost));
    assert!(lost.outcome.failure.as_ref().unwrap().message.contains("fork the session that it came from again"));
}
