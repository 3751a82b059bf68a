//! Recording: commits that are tried to their end, and the proof for the hub.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::{Event, EventBody, EventSeq, TurnOutcome};
use clawdforge_core::id::{RequestId, SessionId, TurnId};
use clawdforge_core::ledger::{LedgerEntry, LedgerFact, RunFacts, TurnFacts};
use clawdforge_core::limits::END_RECORD_TRIES_MAX;
use clawdforge_core::time::Timestamp;
use clawdforge_store::{CommitDoor, CommitError, EventReads};

use crate::error::EngineError;
use crate::hub::Committed;

/// First pause before an end is recorded again; each further one is twice as long.
const END_RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Writes a session's log and resolves doubtful commits by reading the log's head.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub door: Arc<dyn CommitDoor>,
    pub events: Arc<dyn EventReads>,
}

/// What a turn is to the ledger.
#[derive(Debug, Clone)]
pub(crate) enum Facts {
    /// The one turn of a run.
    Run(RunFacts),
    /// A turn of a conversation.
    Turn(TurnFacts),
}

impl Facts {
    /// The agent and the model asked for.
    pub fn asked(&self) -> (&str, Option<&str>) {
        match self {
            Self::Run(run) => (&run.agent, Some(&run.model)),
            Self::Turn(turn) => (&turn.asked.agent, turn.asked.model.as_deref()),
        }
    }
}

/// As the ledger names it: `run_…`, or `ses_…#3`.
impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(run) => run.run.fmt(f),
            Self::Turn(turn) => write!(f, "{}#{}", turn.session, turn.index),
        }
    }
}

/// What is recorded with the end of a turn.
pub(crate) struct EndRecord {
    pub session: SessionId,
    pub turn: TurnId,
    pub at: Timestamp,
    pub app: String,
    pub request: RequestId,
    pub facts: Facts,
    pub principal: &'static str,
    pub outcome: TurnOutcome,
}

impl Recorder {
    /// A commit that touches no event log. Whoever keeps something in memory beside it must look again
    /// after a [`CommitError::Unknown`].
    pub async fn plain(&self, commit: Commit) -> Result<(), CommitError> {
        self.door.commit(commit).await
    }

    /// A commit whose events end with number `last` of the session. A doubtful answer is resolved by the
    /// head of the log, since only one writer numbers a session: either the events are there, or nothing
    /// happened. A refusal is doubtful as well: an earlier try may have happened without an answer.
    pub async fn with_events(
        &self,
        commit: Commit,
        session: SessionId,
        last: EventSeq,
    ) -> Result<Committed, EngineError> {
        let ended = ended_in(&commit);
        match self.door.commit(commit).await {
            Ok(()) => {}
            Err(CommitError::Unknown(_) | CommitError::Unexpected { .. })
                if self.events.head(session).await? >= last => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Committed::after_commit(ended, last))
    }

    /// Records the end of a turn together with events that still wait, trying again while the store
    /// is not available: an outcome must not be lost to a passing fault.
    pub async fn end(&self, waiting: Vec<Write>, seq: EventSeq, end: EndRecord) -> Result<Committed, EngineError> {
        let mut commit = end.into_commit(waiting, seq);
        let Some(session) = session_of(&commit) else {
            return Err(EngineError::Internal("an end without a session".to_owned()));
        };
        let mut pause = END_RETRY_PAUSE;
        let mut tries = 1;
        loop {
            match self.with_events(commit.clone(), session, seq).await {
                Err(EngineError::RecordsUnavailable(reason)) if tries < END_RECORD_TRIES_MAX => {
                    tracing::warn!(error = reason, tries, "the end of a turn could not be recorded yet");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    tries += 1;
                }
                // Some of what waited was written without our hearing of it: the rest still has to be.
                Err(EngineError::Internal(_)) if tries < END_RECORD_TRIES_MAX => {
                    without_durable(&mut commit, self.events.head(session).await?);
                    tries += 1;
                }
                result => return result,
            }
        }
    }
}

impl EndRecord {
    /// What the log has more with it: the events that wait, and the end with number `seq`.
    pub fn events(&self, waiting: &[Write], seq: EventSeq) -> Vec<Event> {
        let waiting = waiting.iter().filter_map(|write| match write {
            Write::AppendEvents(events) => Some(events),
            _ => None,
        });
        waiting.flatten().cloned().chain([self.event(seq)]).collect()
    }

    fn event(&self, seq: EventSeq) -> Event {
        let body = EventBody::Ended(self.outcome.clone());
        Event { session: self.session, seq, turn: self.turn, at: self.at, body }
    }

    fn into_commit(self, mut writes: Vec<Write>, seq: EventSeq) -> Commit {
        let event = self.event(seq);
        let usage = self.outcome.usage.clone();
        let answer_chars = self.outcome.answer.as_ref().map_or(0, |answer| answer.chars().count() as u64);
        let (duration_ms, outcome) = (self.outcome.duration_ms, self.outcome.code());
        let fact = match self.facts {
            Facts::Run(run) => LedgerFact::RunEnded { run, usage, answer_chars, duration_ms, outcome },
            Facts::Turn(turn) => LedgerFact::TurnEnded { turn, usage, answer_chars, duration_ms, outcome },
        };
        let (app, request) = (Some(self.app), Some(self.request));
        let entry = LedgerEntry { at: self.at, principal: self.principal, app, request, fact };
        match writes.last_mut() {
            Some(Write::AppendEvents(events)) => events.push(event),
            _ => writes.push(Write::AppendEvents(vec![event])),
        }
        writes.push(Write::EndTurn(self.turn, self.at, self.outcome));
        Commit { expects: Vec::new(), writes, ledger: vec![entry] }
    }
}

/// Takes out of a commit what the log has already, up to its head.
fn without_durable(commit: &mut Commit, head: EventSeq) {
    let is_durable = |event: &Event| event.seq <= head;
    let started = commit.writes.iter().any(|write| match write {
        Write::AppendEvents(events) => events.iter().any(|event| event.body == EventBody::Started && is_durable(event)),
        _ => false,
    });
    for write in &mut commit.writes {
        if let Write::AppendEvents(events) = write {
            events.retain(|event| !is_durable(event));
        }
    }
    // The start of the turn was written with its event.
    commit.writes.retain(|write| !(started && matches!(write, Write::StartTurn(..))));
}

fn ended_in(commit: &Commit) -> Option<Arc<TurnOutcome>> {
    commit.writes.iter().find_map(|write| match write {
        Write::EndTurn(_, _, outcome) => Some(Arc::new(outcome.clone())),
        _ => None,
    })
}

fn session_of(commit: &Commit) -> Option<SessionId> {
    commit.writes.iter().find_map(|write| match write {
        Write::AppendEvents(events) => events.first().map(|event| event.session),
        _ => None,
    })
}
