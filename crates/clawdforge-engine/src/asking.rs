//! What apps may ask about their runs and turns, and how they have them stopped.
//!
//! What is unknown and what is another app's looks the same, after the same query.

use std::sync::Arc;

use clawdforge_core::agent::AgentName;
use clawdforge_core::app::AppToken;
use clawdforge_core::commit::{Commit, Expect, Write};
use clawdforge_core::event::{Event, EventBody, EventSeq, TurnOutcome};
use clawdforge_core::file::File;
use clawdforge_core::id::{FileId, RequestId, RunId, SessionId, TurnId};
use clawdforge_core::ledger::{LedgerFact, UsageSum};
use clawdforge_core::session::{DriverName, Session};
use clawdforge_core::time::Timestamp;
use clawdforge_core::turn::{TurnRecord, TurnState};
use clawdforge_store::{CommitError, EventBounds, RunRecord};

use crate::conversation::SessionView;
use crate::engine::{Engine, Shared};
use crate::error::EngineError;
use crate::follow::{EventStream, Until};

/// Bytes of events in one page, and one event more. An event may have 24 MiB, and a page a thousand of them; what is
/// usual, a thousand pieces of text, has less than one.
const EVENTS_PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A page of events, as it is there now.
#[derive(Debug, Clone, PartialEq)]
pub struct EventsPage {
    /// In their order.
    pub events: Vec<Event>,
    /// Whether there were events behind them when it was read.
    pub has_more: bool,
}

/// A turn as its app sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnView {
    /// What is recorded.
    pub record: TurnRecord,
    /// Its outcome, once it has ended.
    pub outcome: Option<TurnOutcome>,
}

/// A run as its app sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// The session that holds it.
    pub session: Session,
    /// Its one turn.
    pub turn: TurnView,
}

/// An agent that conversations can be opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentView {
    /// Its name.
    pub name: AgentName,
    /// Whether it is the one of those that name none.
    pub is_default: bool,
    /// Whether its program was found.
    pub is_present: bool,
    /// Its version, once known.
    pub version: Option<String>,
    /// How it can be spoken to, the preferred way first.
    pub drivers: Vec<DriverName>,
    /// Whether sessions can be given text for its system prompt.
    pub takes_system_prompt: bool,
}

impl Engine {
    /// The agents that conversations can be opened with, by name. Waits for nothing.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentView> {
        let agents = &self.shared.session_agents;
        let views = agents.names().filter_map(|name| {
            let agent = agents.get(name)?;
            let spoken = |driver: DriverName| agent.driver(driver).is_some();
            let others =
                DriverName::ALL.into_iter().map(|(_, driver)| driver).filter(|other| *other != agent.preferred);
            let drivers: Vec<_> = std::iter::once(agent.preferred).chain(others).filter(|one| spoken(*one)).collect();
            let preferred = drivers.first().and_then(|driver| agent.driver(*driver));
            let presence = preferred.map(|driver| driver.presence());
            Some(AgentView {
                name: name.clone(),
                is_default: name == agents.default_name(),
                is_present: presence.as_ref().is_some_and(|presence| presence.program.is_some()),
                version: presence.and_then(|presence| presence.version),
                takes_system_prompt: preferred.is_some_and(|driver| driver.takes_system_prompt()),
                drivers,
            })
        });
        views.collect()
    }

    /// An upload of this app.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where it is unknown, expired or another app's.
    pub async fn file(&self, by: &AppToken, file: FileId) -> Result<File, EngineError> {
        self.shared.attachments(by, &[file]).await?.pop().ok_or(EngineError::NotFound("file"))
    }

    /// What this app's runs and turns used and cost, of those that ended from `from` on and before `to`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn usage(
        &self,
        by: &AppToken,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<UsageSum, EngineError> {
        Ok(self.shared.store.ledger.usage(&by.app.name, from, to).await?)
    }

    /// Conversations of this app that were opened before `before`, newest first, at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn sessions_page(
        &self,
        by: &AppToken,
        include_closed: bool,
        before: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionView>, EngineError> {
        self.shared.sessions_page(by, include_closed, before, limit).await
    }

    /// Turns of a conversation of this app from after place `after` on, in order, at most `limit`; without their
    /// outcomes.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where the conversation is unknown or another app's.
    pub async fn turns(
        &self,
        by: &AppToken,
        session: SessionId,
        after: u32,
        limit: usize,
    ) -> Result<Vec<TurnRecord>, EngineError> {
        self.shared.own_session(by, session).await?;
        Ok(self.shared.store.sessions.turns(session, after, limit).await?)
    }

    /// A turn of a conversation of this app.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where either is unknown or another app's.
    pub async fn turn(&self, by: &AppToken, session: SessionId, turn: TurnId) -> Result<TurnView, EngineError> {
        let record = self.shared.own_turn(by, session, turn).await?;
        self.shared.turn_view(record).await
    }

    /// A run of this app.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where it is unknown, erased or another app's.
    pub async fn run(&self, by: &AppToken, run: RunId) -> Result<RunView, EngineError> {
        let RunRecord { session, turn } = self.shared.own_run(by, run).await?;
        Ok(RunView { session, turn: self.shared.turn_view(turn).await? })
    }

    /// Runs of this app that were accepted before `before`, newest first, at most `limit`; without their outcomes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn runs(
        &self,
        by: &AppToken,
        before: Option<RunId>,
        limit: usize,
    ) -> Result<Vec<(Session, TurnRecord)>, EngineError> {
        let runs = self.shared.store.sessions.runs(by.app.id, before, limit).await?;
        Ok(runs.into_iter().map(|RunRecord { session, turn }| (session, turn)).collect())
    }

    /// Events of a conversation of this app from after number `after` on, at most `limit`, and fewer where they are large:
    /// what is there now.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where it is unknown or another app's.
    pub async fn events(
        &self,
        by: &AppToken,
        session: SessionId,
        after: EventSeq,
        limit: usize,
    ) -> Result<EventsPage, EngineError> {
        self.shared.own_session(by, session).await?;
        let log = &self.shared.store.events;
        // The head first, so that pages of a session at work come to an end.
        let head = log.head(session).await?;
        let bounds = EventBounds { rows_max: limit, bytes_max: EVENTS_PAGE_BYTES_MAX };
        let events = log.events_within(session, after, bounds).await?;
        let has_more = events.last().is_some_and(|last| last.seq < head);
        Ok(EventsPage { events, has_more })
    }

    /// Has a turn stopped. It may end by itself before that; one that waits ends without having begun, when it is its
    /// turn. Asking again changes nothing.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] as [`Self::turn`], [`EngineError::AlreadyEnded`], or when it cannot be recorded.
    pub async fn cancel_turn(
        &self,
        by: &Arc<AppToken>,
        session: SessionId,
        turn: TurnId,
        id: RequestId,
    ) -> Result<TurnRecord, EngineError> {
        let (shared, by) = (Arc::clone(&self.shared), Arc::clone(by));
        self.undisturbed(async move {
            let record = shared.own_session(&by, session).await?;
            let turn = shared.own_turn(&by, session, turn).await?;
            let subject = format!("{session}#{}", turn.turn.index);
            shared.ask_cancel(&record.session, turn, subject, id).await
        })
        .await
    }

    /// Has a run stopped, as [`Self::cancel_turn`] does.
    ///
    /// # Errors
    /// As [`Self::cancel_turn`].
    pub async fn cancel_run(&self, by: &Arc<AppToken>, run: RunId, id: RequestId) -> Result<TurnRecord, EngineError> {
        let (shared, by) = (Arc::clone(&self.shared), Arc::clone(by));
        self.undisturbed(async move {
            let RunRecord { session, turn } = shared.own_run(&by, run).await?;
            shared.ask_cancel(&session, turn, run.to_string(), id).await
        })
        .await
    }

    /// Follows a conversation of this app from after event number `after` on, until it is closed and its turns have
    /// ended.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where it is unknown or another app's.
    pub async fn follow_session(
        &self,
        by: &AppToken,
        session: SessionId,
        after: EventSeq,
    ) -> Result<EventStream, EngineError> {
        self.shared.own_session(by, session).await?;
        Ok(EventStream::new(Arc::clone(&self.shared), session, Until::SessionCloses, after))
    }

    /// Follows a turn of a conversation of this app from after event number `after` of the conversation on, to its end.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where either is unknown or another app's.
    pub async fn follow_turn(
        &self,
        by: &AppToken,
        session: SessionId,
        turn: TurnId,
        after: EventSeq,
    ) -> Result<EventStream, EngineError> {
        self.shared.own_turn(by, session, turn).await?;
        // The head first: a turn that begins after it was read has its first event behind it.
        let head = self.shared.store.events.head(session).await?;
        let first = self.shared.store.events.first_of_turn(session, turn).await?;
        let after = after.max(first.map_or(head, |first| first - 1));
        Ok(EventStream::new(Arc::clone(&self.shared), session, Until::TurnEnds(turn), after))
    }

    /// Follows a run of this app from after event number `after` on, to its end.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where it is unknown, erased or another app's.
    pub async fn follow_run(&self, by: &AppToken, run: RunId, after: EventSeq) -> Result<EventStream, EngineError> {
        let record = self.shared.own_run(by, run).await?;
        let until = Until::RunEnds(record.turn.turn.id);
        Ok(EventStream::new(Arc::clone(&self.shared), record.session.id, until, after))
    }
}

impl Shared {
    async fn own_run(&self, by: &AppToken, run: RunId) -> Result<RunRecord, EngineError> {
        let record = self.store.sessions.run(run).await?;
        record.filter(|record| record.session.app == by.app.id).ok_or(EngineError::NotFound("run"))
    }

    async fn own_turn(&self, by: &AppToken, session: SessionId, turn: TurnId) -> Result<TurnRecord, EngineError> {
        self.own_session(by, session).await?;
        let record = self.store.sessions.turn(turn).await?;
        record.filter(|record| record.turn.session == session).ok_or(EngineError::NotFound("turn"))
    }

    async fn turn_view(&self, record: TurnRecord) -> Result<TurnView, EngineError> {
        let (session, turn) = (record.turn.session, record.turn.id);
        let outcome = match record.turn.state {
            TurnState::Ended => match self.store.events.last_of_turn(session, turn).await?.map(|event| event.body) {
                Some(EventBody::Ended(outcome)) => Some(outcome),
                _ => return Err(EngineError::Internal(format!("the end of turn {turn} is not in the log"))),
            },
            TurnState::Queued | TurnState::Running => None,
        };
        Ok(TurnView { record, outcome })
    }

    async fn ask_cancel(
        &self,
        session: &Session,
        record: TurnRecord,
        subject: String,
        id: RequestId,
    ) -> Result<TurnRecord, EngineError> {
        let (turn, now) = (record.turn.id, self.ids.now());
        if record.turn.state == TurnState::Ended {
            return Err(EngineError::AlreadyEnded);
        }
        if record.cancel_asked_at.is_none() {
            let commit = Commit {
                expects: vec![Expect::TurnUnfinished(turn)],
                writes: vec![Write::AskCancel(turn, now)],
                ledger: vec![self.line_of(session, Some(id), "app", LedgerFact::CancelAsked(subject))],
            };
            match self.recorder.plain(commit).await {
                // Asking twice does no harm, so a doubtful commit is as good as one that happened.
                Ok(()) | Err(CommitError::Unknown(_)) => {}
                Err(CommitError::Unexpected { .. }) => return Err(EngineError::AlreadyEnded),
                Err(error @ CommitError::Unavailable(_)) => return Err(error.into()),
            }
        }
        self.cancels.ask(turn);
        Ok(TurnRecord { cancel_asked_at: record.cancel_asked_at.or(Some(now)), ..record })
    }
}
