//! An engine with one app and one talker, and what is done with it.

use std::sync::Arc;
use std::time::Duration;

use clawdforge_core::agent::FailureKind;
use clawdforge_core::app::AppToken;
use clawdforge_core::event::{ContextSource, EventBody};
use clawdforge_core::id::SessionId;
use clawdforge_engine::{Ended, Engine, EngineError, EngineOptions, SessionWish, Submitted, TurnRequest, TurnTicket};
use clawdforge_process::Spawner;
use clawdforge_store::{LedgerQuery, Order, Store};
use clawdforge_store_sql::Opened;
use tempfile::TempDir;

use crate::stage::{Ticking, app, engine_by, open_store};
use crate::talker::{Talker, TalkerDriver};

/// Longest time for anything a test waits for; far beyond what it takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// An engine with one app and one talker.
pub struct Scene {
    pub dir: TempDir,
    pub spawner: Spawner,
    pub opened: Opened,
    pub clock: Arc<Ticking>,
    pub talker: Arc<Talker>,
    pub engine: Engine,
    pub by: Arc<AppToken>,
}

impl Scene {
    pub async fn new(remembers: bool) -> Self {
        Self::with(remembers, |_| {}).await
    }

    pub async fn with(remembers: bool, change: impl FnOnce(&mut EngineOptions)) -> Self {
        Self::over(remembers, change, |store| store).await
    }

    /// Over a store with something in front of it.
    pub async fn over(
        remembers: bool,
        change: impl FnOnce(&mut EngineOptions),
        behind: impl FnOnce(Store) -> Store,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (opened, spawner) = (open_store(dir.path()).await, Spawner::start().unwrap());
        let talker = Talker::new(remembers);
        let driver = Arc::new(TalkerDriver(Arc::clone(&talker)));
        let (clock, store) = (Arc::<Ticking>::default(), behind(opened.store.clone()));
        let started = engine_by(Arc::clone(&clock), dir.path(), &spawner, store, driver, change).await;
        let engine = started.unwrap().0;
        let by = app(&engine).await;
        Self { dir, spawner, opened, clock, talker, engine, by }
    }

    pub async fn open(&self) -> SessionId {
        self.open_wishing(SessionWish::default()).await
    }

    pub async fn open_wishing(&self, wish: SessionWish) -> SessionId {
        self.engine.open_session(&self.by, wish, self.engine.request_id(), None).await.unwrap().fresh().unwrap().id
    }

    pub async fn submit(&self, session: SessionId, prompt: &str) -> Result<TurnTicket, EngineError> {
        self.submit_within(session, prompt, Duration::from_secs(60)).await
    }

    pub async fn submit_within(
        &self,
        session: SessionId,
        prompt: &str,
        timeout: Duration,
    ) -> Result<TurnTicket, EngineError> {
        let request = asked(prompt, timeout);
        self.submit_request(session, request).await
    }

    /// By somebody who is about to follow what the agent says.
    pub async fn submit_watched(&self, session: SessionId, prompt: &str) -> Result<TurnTicket, EngineError> {
        let request = TurnRequest { will_be_followed: true, ..asked(prompt, Duration::from_secs(60)) };
        self.submit_request(session, request).await
    }

    async fn submit_request(&self, session: SessionId, request: TurnRequest) -> Result<TurnTicket, EngineError> {
        let submitted = self.engine.submit_turn(&self.by, session, request, self.engine.request_id(), None).await;
        submitted.and_then(Submitted::fresh)
    }

    /// A turn to its end.
    pub async fn turn(&self, session: SessionId, prompt: &str) -> Ended {
        ended(self.submit(session, prompt).await.unwrap()).await
    }

    /// A turn that must give an answer, and where the agent had the turns before from.
    pub async fn answered(&self, session: SessionId, prompt: &str) -> ContextSource {
        let ended = self.turn(session, prompt).await;
        assert_eq!(ended.outcome.failure, None);
        assert_eq!(ended.outcome.answer.as_deref(), Some(prompt));
        self.context(session, &ended).await.unwrap()
    }

    pub async fn context(&self, session: SessionId, ended: &Ended) -> Option<ContextSource> {
        let events = self.engine.turn_events(session, ended, 0, 1_000).await.unwrap();
        assert!(ended.events.as_ref().is_none_or(|brought| **brought == *events), "{ended:?} {events:?}");
        events.iter().rev().find_map(|event| match event.body {
            EventBody::Context { source } => Some(source),
            _ => None,
        })
    }

    pub async fn close(&self, session: SessionId) -> Result<bool, EngineError> {
        soon(self.engine.close_session(&self.by, session, self.engine.request_id())).await
    }

    /// Waits until the agent was asked this many times.
    pub async fn asked(&self, times: usize) {
        until(|| self.talker.asked().len() >= times).await;
    }

    /// Waits until no session has a process on record.
    pub async fn until_cold(&self) {
        soon(async {
            while !self.opened.store.sessions.linked_conversations().await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub async fn kinds(&self) -> Vec<(String, Option<String>)> {
        let query =
            LedgerQuery { app: Some("app".into()), kind: None, order: Order::OldestFirst, cursor: None, limit: 100 };
        let lines = self.engine.ledger(query).await.unwrap();
        lines.into_iter().map(|line| (line.kind, line.outcome)).collect()
    }
}

pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it takes too long")
}

fn asked(prompt: &str, timeout: Duration) -> TurnRequest {
    TurnRequest { prompt: prompt.to_owned(), files: Vec::new(), timeout, output_schema: None, will_be_followed: false }
}

pub async fn until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub async fn ended(ticket: TurnTicket) -> Ended {
    soon(ticket.outcome()).await.unwrap()
}

pub fn failure(ended: &Ended) -> Option<FailureKind> {
    ended.outcome.failure.as_ref().map(|failure| failure.kind)
}
