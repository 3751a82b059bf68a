//! Commits that were not answered: of a turn, while the store could not be read either, and of a change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::EventBody;
use clawdforge_core::id::{AppId, HostId, RunId, SessionId, TurnId};
use clawdforge_core::session::{Equipment, Session, SessionRecord};
use clawdforge_core::time::Timestamp;
use clawdforge_core::turn::TurnRecord;
use clawdforge_engine::{EngineError, SessionChange};
use clawdforge_store::{CommitDoor, CommitError, EndedTurn, ReadError, RunRecord, SessionReads, Store, UnfinishedTurn};

use crate::scene::Scene;

/// A store that, once it is told to, does not say what came of the next turn, change or fork: the commit is done or not,
/// its answer is lost, and the next look at a prompt fails.
#[derive(Default)]
struct Doubt {
    is_due: AtomicBool,
    is_blind: AtomicBool,
    does_nothing: bool,
}

struct Door(Arc<dyn CommitDoor>, Arc<Doubt>);

#[async_trait]
impl CommitDoor for Door {
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let Self(inner, doubt) = self;
        let mut writes = commit.writes.iter();
        let is_meant = writes
            .any(|write| matches!(write, Write::QueueTurn(..) | Write::ChangeConversation(..) | Write::NoteFork(..)));
        if !is_meant || !doubt.is_due.swap(false, Ordering::SeqCst) {
            return inner.commit(commit).await;
        }
        if !doubt.does_nothing {
            inner.commit(commit).await?;
        }
        doubt.is_blind.store(true, Ordering::SeqCst);
        Err(CommitError::Unknown("injected fault".to_owned()))
    }
}

struct Sessions(Arc<dyn SessionReads>, Arc<Doubt>);

#[async_trait]
impl SessionReads for Sessions {
    async fn queued_prompt(&self, turn: TurnId) -> Result<Option<EventBody>, ReadError> {
        if self.1.is_blind.swap(false, Ordering::SeqCst) {
            return Err(ReadError("injected fault".to_owned()));
        }
        self.0.queued_prompt(turn).await
    }

    async fn unfinished_turns(&self) -> Result<Vec<UnfinishedTurn>, ReadError> {
        self.0.unfinished_turns().await
    }

    async fn turn(&self, id: TurnId) -> Result<Option<TurnRecord>, ReadError> {
        self.0.turn(id).await
    }

    async fn turns(&self, session: SessionId, after: u32, limit: usize) -> Result<Vec<TurnRecord>, ReadError> {
        self.0.turns(session, after, limit).await
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, ReadError> {
        self.0.run(id).await
    }

    async fn runs(&self, app: AppId, before: Option<RunId>, limit: usize) -> Result<Vec<RunRecord>, ReadError> {
        self.0.runs(app, before, limit).await
    }

    async fn turns_just_ended(&self, window: Duration) -> Result<Vec<EndedTurn>, ReadError> {
        self.0.turns_just_ended(window).await
    }

    async fn conversation(&self, id: SessionId) -> Result<Option<SessionRecord>, ReadError> {
        self.0.conversation(id).await
    }

    async fn equipment(&self, session: SessionId) -> Result<Equipment, ReadError> {
        self.0.equipment(session).await
    }

    async fn conversations(
        &self,
        app: AppId,
        include_closed: bool,
        before: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionRecord>, ReadError> {
        self.0.conversations(app, include_closed, before, limit).await
    }

    async fn open_conversations(&self) -> Result<u64, ReadError> {
        self.0.open_conversations().await
    }

    async fn linked_conversations(&self) -> Result<Vec<(SessionId, String)>, ReadError> {
        self.0.linked_conversations().await
    }

    async fn hosts(&self) -> Result<Vec<HostId>, ReadError> {
        self.0.hosts().await
    }

    async fn conversations_idle_since(&self, before: Timestamp, limit: usize) -> Result<Vec<Session>, ReadError> {
        self.0.conversations_idle_since(before, limit).await
    }

    async fn conversations_closed_before(&self, before: Timestamp, limit: usize) -> Result<Vec<Session>, ReadError> {
        self.0.conversations_closed_before(before, limit).await
    }

    async fn runs_ended_before(&self, before: Timestamp, limit: usize) -> Result<Vec<Session>, ReadError> {
        self.0.runs_ended_before(before, limit).await
    }
}

/// A scene over such a store, and when the doubt is due.
async fn scene(does_nothing: bool) -> (Scene, Arc<Doubt>) {
    let doubt = Arc::new(Doubt { does_nothing, ..Doubt::default() });
    let of = Arc::clone(&doubt);
    let behind = move |store: Store| {
        let door = Arc::new(Door(Arc::clone(&store.door), Arc::clone(&of)));
        let sessions = Arc::new(Sessions(Arc::clone(&store.sessions), of));
        Store { door, sessions, ..store }
    };
    (Scene::over(true, |_| {}, behind).await, doubt)
}

#[tokio::test]
async fn a_turn_in_doubt_that_is_on_record_is_done_before_the_next_one() {
    let (scene, doubt) = scene(false).await;
    let session = scene.open().await;
    doubt.is_due.store(true, Ordering::SeqCst);
    let told = scene.submit(session, "in doubt").await.err();
    assert!(matches!(told, Some(EngineError::RecordsUnavailable(_))), "{told:?}");
    scene.answered(session, "next").await;
    assert_eq!(scene.talker.asked(), ["in doubt", "next"]);
    let turns = scene.opened.store.sessions.turns(session, 0, 9).await.unwrap();
    assert_eq!(turns.iter().map(|turn| turn.turn.index).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn a_turn_in_doubt_that_is_not_on_record_leaves_nothing() {
    let (scene, doubt) = scene(true).await;
    let session = scene.open().await;
    doubt.is_due.store(true, Ordering::SeqCst);
    assert!(scene.submit(session, "in doubt").await.is_err());
    scene.answered(session, "next").await;
    assert_eq!(scene.talker.asked(), ["next"]);
    let turns = scene.opened.store.sessions.turns(session, 0, 9).await.unwrap();
    assert_eq!(turns.iter().map(|turn| turn.turn.index).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_change_in_doubt_is_told_as_done_only_where_it_is_on_record() {
    for does_nothing in [false, true] {
        let (scene, doubt) = scene(does_nothing).await;
        let session = scene.open().await;
        doubt.is_due.store(true, Ordering::SeqCst);
        let change = SessionChange { model: Some(Some("large".to_owned())), ..SessionChange::default() };
        let told = scene.engine.change_session(&scene.by, session, change, scene.engine.request_id()).await;
        let record = scene.engine.session(&scene.by, session).await.unwrap().record;
        let model = record.session.conversation.unwrap().model;
        match told {
            Ok(view) => assert_eq!((view.record.session.conversation.unwrap().model, does_nothing), (model, false)),
            Err(EngineError::RecordsUnavailable(_)) => assert_eq!((model, does_nothing), (None, true)),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_fork_in_doubt_is_told_as_made_only_where_it_is_on_record_and_else_leaves_nothing() {
    for does_nothing in [false, true] {
        let (scene, doubt) = scene(does_nothing).await;
        let session = scene.open().await;
        scene.answered(session, "hello").await;
        doubt.is_due.store(true, Ordering::SeqCst);
        let request = scene.engine.request_id();
        let told = scene.engine.fork_session(&scene.by, session, SessionChange::default(), request, None).await;
        let there = scene.engine.sessions(&scene.by, true).await.unwrap().len();
        let folders = std::fs::read_dir(scene.dir.path().join("sessions")).unwrap().count();
        let forgotten = scene.talker.forgotten.lock().unwrap().len();
        assert_eq!(
            (told.is_ok(), there, folders, forgotten),
            match does_nothing {
                false => (true, 2, 2, 0),
                true => (false, 1, 1, 1),
            }
        );
    }
}
