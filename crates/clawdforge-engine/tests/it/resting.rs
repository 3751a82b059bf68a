//! Turns that find their agent at rest: accepted and begun in one commit, whatever becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use clawdforge_core::agent::FailureKind;
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::{ContextSource, Event, EventBody, EventSeq};
use clawdforge_core::id::{SessionId, TurnId};
use clawdforge_engine::{EngineError, TurnTicket};
use clawdforge_store::{CommitDoor, CommitError, EventBounds, EventReads, ReadError, Store};
use tokio::sync::Semaphore;

use crate::scene::{Scene, ended, failure, soon, until};

/// What becomes of the first commit that accepts and begins a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    /// Its answer is lost.
    Unanswered,
    /// It did not happen, and nobody says so.
    Lost,
    /// It waits before it is done.
    HeldBefore,
    /// It is done, and its answer waits.
    HeldAfter,
}

struct Door {
    inner: Arc<dyn CommitDoor>,
    fate: Fate,
    /// Such a commit came.
    met: AtomicBool,
    /// How often the log cannot be read once it is over.
    blind: AtomicUsize,
    go: Semaphore,
}

#[async_trait]
impl CommitDoor for Door {
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let has = |wanted: fn(&Write) -> bool| commit.writes.iter().any(wanted);
        let both =
            has(|write| matches!(write, Write::QueueTurn(..))) && has(|write| matches!(write, Write::StartTurn(..)));
        if !both || self.met.swap(true, Ordering::SeqCst) {
            return self.inner.commit(commit).await;
        }
        let hold = async || self.go.acquire().await.unwrap().forget();
        match self.fate {
            Fate::Done => return self.inner.commit(commit).await,
            Fate::HeldBefore => {
                hold().await;
                return self.inner.commit(commit).await;
            }
            Fate::HeldAfter => {
                self.inner.commit(commit).await?;
                hold().await;
                return Ok(());
            }
            Fate::Unanswered => self.inner.commit(commit).await?,
            Fate::Lost => {}
        }
        Err(CommitError::Unknown("injected fault".to_owned()))
    }
}

struct Log(Arc<dyn EventReads>, Arc<Door>);

#[async_trait]
impl EventReads for Log {
    async fn events_within(
        &self,
        session: SessionId,
        after: EventSeq,
        bounds: EventBounds,
    ) -> Result<Vec<Event>, ReadError> {
        self.0.events_within(session, after, bounds).await
    }

    async fn first_of_turn(&self, session: SessionId, turn: TurnId) -> Result<Option<EventSeq>, ReadError> {
        self.0.first_of_turn(session, turn).await
    }

    async fn last_of_turn(&self, session: SessionId, turn: TurnId) -> Result<Option<Event>, ReadError> {
        self.0.last_of_turn(session, turn).await
    }

    async fn head(&self, session: SessionId) -> Result<EventSeq, ReadError> {
        let left = self.1.blind.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if self.1.met.load(Ordering::SeqCst) && left.is_ok() {
            return Err(ReadError("injected fault".to_owned()));
        }
        self.0.head(session).await
    }
}

/// A session of which the agent was asked until one turn found it at rest; what came of that one.
struct Story {
    scene: Scene,
    door: Arc<Door>,
    session: SessionId,
    /// The prompts so far, the one at rest included.
    prompts: Vec<String>,
}

impl Story {
    async fn new(fate: Fate, blind: usize) -> Self {
        let mut door = None;
        let scene = Scene::over(
            true,
            |_| {},
            |store| {
                let inner = Arc::clone(&store.door);
                let (met, blind, go) = (AtomicBool::new(false), AtomicUsize::new(blind), Semaphore::new(0));
                let made = Arc::new(Door { inner, fate, met, blind, go });
                door = Some(Arc::clone(&made));
                let events = Arc::new(Log(Arc::clone(&store.events), Arc::clone(&made)));
                Store { door: made, events, ..store }
            },
        )
        .await;
        let session = scene.open().await;
        Self { scene, door: door.unwrap(), session, prompts: Vec::new() }
    }

    /// A turn's owner may still be on its way to rest when its end is told, so the next turn may come too early for this.
    async fn at_rest(&mut self, prompt: &str) -> Result<TurnTicket, EngineError> {
        soon(async {
            loop {
                self.prompts.push(format!("{prompt} {}", self.prompts.len()));
                let told = self.scene.submit(self.session, self.prompts.last().unwrap()).await;
                if self.door.met.load(Ordering::SeqCst) {
                    return told;
                }
                ended(told.unwrap()).await;
            }
        })
        .await
    }

    /// Another turn works, and the record and the agent agree on what was asked, once each, in order.
    async fn goes_on(mut self, at_rest_happened: bool) {
        self.scene.answered(self.session, "next").await;
        if !at_rest_happened {
            self.prompts.pop();
        }
        self.prompts.push("next".to_owned());
        assert_eq!(self.scene.talker.asked(), self.prompts);
        let turns = self.scene.opened.store.sessions.turns(self.session, 0, 1_000).await.unwrap();
        let indices: Vec<_> = turns.iter().map(|turn| turn.turn.index as usize).collect();
        assert_eq!(indices, (1..=self.prompts.len()).collect::<Vec<_>>());
        assert!(turns.iter().all(|turn| turn.outcome.is_some()), "{turns:?}");
        let events = self.scene.opened.store.events.events_after(self.session, 0, 1_000).await.unwrap();
        assert!(events.iter().map(|event| event.seq).eq(1..=events.len() as u64), "no number is missing");
        let of = |wanted: fn(&EventBody) -> bool| events.iter().filter(|event| wanted(&event.body)).count();
        let prompts = of(|body| matches!(body, EventBody::Prompt { .. }));
        let starts = of(|body| *body == EventBody::Started);
        assert_eq!((prompts, starts), (turns.len(), turns.len()));
        let accepted = self.scene.kinds().await.into_iter().filter(|(kind, _)| kind == "turn_accepted").count();
        assert_eq!(accepted, turns.len());
    }
}

#[tokio::test]
async fn a_turn_that_finds_its_agent_at_rest_is_accepted_and_begun_in_one_commit() {
    let mut story = Story::new(Fate::Done, 0).await;
    let ended = ended(story.at_rest("turn").await.unwrap()).await;
    assert_eq!(story.scene.context(story.session, &ended).await, Some(ContextSource::Warm));
    let events = story.scene.engine.turn_events(story.session, &ended, 0, 1_000).await.unwrap();
    assert!(matches!(&events[0].body, EventBody::Prompt { text, .. } if Some(text) == story.prompts.last()));
    assert_eq!((events[1].body.clone(), events.len()), (EventBody::Started, 5), "{events:?}");
    assert_eq!(ended.events.as_deref(), Some(&*events), "its end brings along what the log has");
    story.goes_on(true).await;
}

#[tokio::test]
async fn a_beginning_whose_answer_was_lost_is_looked_for_in_the_log() {
    let mut story = Story::new(Fate::Unanswered, 0).await;
    assert_eq!(failure(&ended(story.at_rest("turn").await.unwrap()).await), None);
    story.goes_on(true).await;

    let mut story = Story::new(Fate::Lost, 0).await;
    let told = story.at_rest("turn").await.err();
    assert!(matches!(told, Some(EngineError::RecordsUnavailable(_))), "{told:?}");
    story.goes_on(false).await;
}

#[tokio::test]
async fn a_beginning_in_doubt_is_played_before_the_next_turn_where_it_is_on_record() {
    for (fate, happened) in [(Fate::Unanswered, true), (Fate::Lost, false)] {
        let mut story = Story::new(fate, 2).await;
        let told = story.at_rest("turn").await.err();
        assert!(matches!(told, Some(EngineError::RecordsUnavailable(_))), "{told:?}");
        story.goes_on(happened).await;
    }
}

#[tokio::test]
async fn a_session_that_is_closed_before_the_beginning_is_on_record_refuses_it() {
    let mut story = Story::new(Fate::HeldBefore, 0).await;
    let (engine, by) = (story.scene.engine.clone(), Arc::clone(&story.scene.by));
    let (door, session, store) = (Arc::clone(&story.door), story.session, story.scene.opened.store.clone());
    let close = async {
        until(|| door.met.load(Ordering::SeqCst)).await;
        let release = async {
            soon(async {
                while store.sessions.conversation(session).await.unwrap().unwrap().closed_at.is_none() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            door.go.add_permits(1);
        };
        let (closed, ()) = tokio::join!(engine.close_session(&by, session, engine.request_id()), release);
        closed.unwrap()
    };
    let (told, closed) = tokio::join!(story.at_rest("turn"), close);
    assert_eq!((told.err(), closed), (Some(EngineError::SessionClosed), true));
    story.prompts.pop();
    assert_eq!(story.scene.talker.asked(), story.prompts);
}

#[tokio::test]
async fn a_cancel_that_comes_before_the_beginning_was_answered_keeps_the_prompt_from_the_agent() {
    let mut story = Story::new(Fate::HeldAfter, 0).await;
    let (engine, by) = (story.scene.engine.clone(), Arc::clone(&story.scene.by));
    let (door, session, store) = (Arc::clone(&story.door), story.session, story.scene.opened.store.clone());
    let cancel = async {
        let unfinished = soon(async {
            loop {
                let turns = store.sessions.turns(session, 0, 1_000).await.unwrap();
                match turns.last().filter(|turn| turn.outcome.is_none() && door.met.load(Ordering::SeqCst)) {
                    Some(turn) => return turn.turn.id,
                    None => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        engine.cancel_turn(&by, session, unfinished, engine.request_id()).await.unwrap();
        door.go.add_permits(1);
    };
    let (told, ()) = tokio::join!(story.at_rest("turn"), cancel);
    assert_eq!(failure(&ended(told.unwrap()).await), Some(FailureKind::Cancelled));
    story.prompts.pop();
    assert_eq!(story.scene.talker.asked(), story.prompts);
}
