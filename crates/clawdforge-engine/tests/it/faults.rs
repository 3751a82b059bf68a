//! The Nth commit fails, for every N: nothing accepted is lost, nothing refused was done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_core::event::{Event, EventBody, EventSeq};
use clawdforge_core::id::{SessionId, TurnId};
use clawdforge_core::ledger::{LedgerQuery, Order};
use clawdforge_engine::{Engine, EngineError};
use clawdforge_process::Spawner;
use clawdforge_store::faults::{Fault, FaultyDoor};
use clawdforge_store::{EventBounds, EventReads, ReadError, Store};

use crate::stage::{answers, app, engine, open_store, request};

/// A run whose `nth` commit (and `times` in all) fails, then a restart. Gives what the caller saw,
/// and whether the story met the fault at all.
async fn story(fault: Fault, nth: usize, times: usize) -> (Result<String, EngineError>, bool) {
    let dir = tempfile::tempdir().unwrap();
    let opened = open_store(dir.path()).await;
    let spawner = Spawner::start().unwrap();
    // The app is there before anything fails.
    let (first, _) = engine(dir.path(), &spawner, opened.store.clone(), Ok(()), Vec::new()).await.unwrap();
    let by = app(&first).await;
    first.drain(Duration::from_secs(5)).await;

    let door = Arc::new(FaultyDoor::new(Arc::clone(&opened.store.door), fault, nth, times));
    let faulty = Store { door: door.clone(), ..opened.store.clone() };
    let (second, _) = engine(dir.path(), &spawner, faulty, Ok(()), answers("hello")).await.unwrap();
    let seen = run(&second, &by).await;
    second.drain(Duration::from_secs(30)).await;
    let met = door.seen() >= nth;

    let (third, report) = engine(dir.path(), &spawner, opened.store.clone(), Ok(()), Vec::new()).await.unwrap();
    third.drain(Duration::from_secs(5)).await;
    check(&opened.store, &seen, report.interrupted).await;
    (seen, met)
}

async fn run(engine: &Engine, by: &Arc<clawdforge_core::app::AppToken>) -> Result<String, EngineError> {
    let ticket = engine.submit_run(by, request(Duration::from_secs(60)), engine.request_id(), None).await?.fresh()?;
    let outcome = ticket.outcome().await?;
    Ok(outcome.answer.clone().unwrap_or_else(|| outcome.code().to_owned()))
}

/// The whole state: every accepted run has exactly one end, the ledger agrees with the events.
async fn check(store: &Store, seen: &Result<String, EngineError>, interrupted: usize) {
    assert_eq!(store.sessions.unfinished_turns().await.unwrap(), Vec::new());
    let query = LedgerQuery { app: None, kind: None, order: Order::OldestFirst, cursor: None, limit: 100 };
    let lines = store.ledger.ledger(query).await.unwrap();
    let of = |kind: &str| lines.iter().filter(|line| line.kind == kind).count();
    assert_eq!(of("run_accepted"), of("run_ended"), "{lines:#?}");
    match seen {
        Ok(_) => assert_eq!((of("run_ended"), interrupted), (1, 0)),
        Err(EngineError::OutcomeUnrecorded) => assert_eq!((of("run_ended"), interrupted), (1, 1)),
        Err(_) => assert_eq!((of("run_ended"), interrupted), (0, 0), "a refused run leaves nothing"),
    }
    let Some(subject) = lines.iter().find(|line| line.kind == "run_ended").and_then(|line| line.subject.clone()) else {
        return;
    };
    let run: clawdforge_core::id::RunId = subject.parse().unwrap();
    let events = store.events.events_after(run.into(), 0, 1_000).await.unwrap();
    assert!(events.iter().enumerate().all(|(place, event)| event.seq == place as u64 + 1), "numbers have no gap");
    let ends = events.iter().filter(|event| matches!(event.body, EventBody::Ended(_))).count();
    assert_eq!((ends, matches!(events.last().map(|e| &e.body), Some(EventBody::Ended(_)))), (1, true));
}

/// Reads of the event log, whose first looks at a head fail.
pub struct Blind {
    pub inner: Arc<dyn EventReads>,
    pub looks: AtomicUsize,
}

#[async_trait]
impl EventReads for Blind {
    async fn events_within(
        &self,
        session: SessionId,
        after: EventSeq,
        bounds: EventBounds,
    ) -> Result<Vec<Event>, ReadError> {
        self.inner.events_within(session, after, bounds).await
    }

    async fn first_of_turn(&self, session: SessionId, turn: TurnId) -> Result<Option<EventSeq>, ReadError> {
        self.inner.first_of_turn(session, turn).await
    }

    async fn last_of_turn(&self, session: SessionId, turn: TurnId) -> Result<Option<Event>, ReadError> {
        self.inner.last_of_turn(session, turn).await
    }

    async fn head(&self, session: SessionId) -> Result<EventSeq, ReadError> {
        if self.looks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(ReadError("injected fault".to_owned()));
        }
        self.inner.head(session).await
    }
}

#[tokio::test]
async fn a_lost_answer_that_cannot_be_looked_up_either_still_leaves_one_outcome_without_a_gap() {
    for nth in 2..=4 {
        let dir = tempfile::tempdir().unwrap();
        let opened = open_store(dir.path()).await;
        let spawner = Spawner::start().unwrap();
        let (first, _) = engine(dir.path(), &spawner, opened.store.clone(), Ok(()), Vec::new()).await.unwrap();
        let by = app(&first).await;
        first.drain(Duration::from_secs(5)).await;
        let door = FaultyDoor::new(Arc::clone(&opened.store.door), Fault::LoseAnswer, nth, 1);
        let events = Blind { inner: Arc::clone(&opened.store.events), looks: AtomicUsize::new(1) };
        let store = Store { door: Arc::new(door), events: Arc::new(events), ..opened.store.clone() };
        let (second, _) = engine(dir.path(), &spawner, store, Ok(()), answers("hello")).await.unwrap();
        let seen = run(&second, &by).await;
        second.drain(Duration::from_secs(30)).await;
        assert!(matches!(seen.as_deref(), Ok("hello" | "internal")), "commit {nth}: {seen:?}");
        check(&opened.store, &seen, 0).await;
    }
}

/// Commits of a run's story are few; a loop that goes on beyond this has lost its way.
const COMMITS_MAX: usize = 10;

#[tokio::test]
async fn whichever_commit_is_refused_once_the_run_is_refused_or_gets_its_outcome() {
    let mut refused = 0;
    for nth in 1..=COMMITS_MAX {
        let (seen, met) = story(Fault::Refuse, nth, 1).await;
        match seen {
            Err(EngineError::RecordsUnavailable(_)) => refused += 1,
            Ok(answer) => assert!(["hello", "internal"].contains(&answer.as_str()), "{answer}"),
            Err(other) => panic!("commit {nth}: {other}"),
        }
        if !met {
            assert!(nth > 2, "the story has at least three commits");
            assert_eq!(refused, 1, "only the acceptance is refused to the caller");
            return;
        }
    }
    panic!("the story never came through");
}

#[tokio::test]
async fn whichever_commit_loses_its_answer_the_run_comes_through_unharmed() {
    for nth in 1..=COMMITS_MAX {
        let (seen, met) = story(Fault::LoseAnswer, nth, 1).await;
        assert_eq!(seen, Ok("hello".to_owned()), "commit {nth}");
        if !met {
            return;
        }
    }
    panic!("the story never came through");
}

#[tokio::test]
async fn a_store_that_is_away_for_a_while_delays_the_outcome_but_does_not_lose_it() {
    let (seen, met) = story(Fault::Refuse, 2, 4).await;
    assert!(met);
    assert_eq!(seen, Ok("internal".to_owned()), "the agent is stopped when its events cannot be recorded");
}
