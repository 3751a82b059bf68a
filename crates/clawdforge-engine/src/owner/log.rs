//! What the owner of a turn writes: events with their numbers, gathered, then committed in order.

use std::time::Duration;

use clawdforge_core::agent::{Failure, FailureKind, TurnEnd};
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::{Event, EventBody, EventSeq, TurnOutcome};
use clawdforge_core::ledger::RunFacts;
use clawdforge_core::limits::ANSWER_BYTES_MAX;
use clawdforge_core::session::Session;
use clawdforge_core::time::Timestamp;
use clawdforge_core::turn::Turn;

use crate::error::EngineError;
use crate::hub::Publisher;
use crate::record::{EndRecord, Recorder};
use crate::runs::PROMPT_SEQ;

/// Events gathered at most before they are committed.
const GATHER_EVENTS_MAX: usize = 256;

/// Bytes of events gathered before they are committed. One event more may come on top (256 KiB), and a
/// commit holds everything twice for its time.
const GATHER_BYTES_MAX: usize = 1024 * 1024;

/// How many events wait to be committed.
#[derive(Default)]
struct Gathered {
    events: usize,
    bytes: usize,
}

/// The log of one turn from its first event after the prompt to its end.
pub(super) struct TurnLog {
    pub turn: Turn,
    pub facts: RunFacts,
    session: Session,
    publisher: Publisher,
    /// The end was recorded, or could not be: nothing more is.
    over: bool,
    /// The number of the last event made, durable or waiting.
    last: EventSeq,
    /// Events made since the last commit, and what else belongs to it.
    waiting: Vec<Write>,
    /// What they weigh.
    gathered: Gathered,
}

impl TurnLog {
    pub fn new(session: Session, turn: Turn, facts: RunFacts, publisher: Publisher) -> Self {
        Self {
            turn,
            facts,
            session,
            publisher,
            over: false,
            last: PROMPT_SEQ,
            waiting: Vec::new(),
            gathered: Gathered::default(),
        }
    }

    /// Makes the next event; true when so much waits that it should be committed now.
    pub fn push(&mut self, at: Timestamp, body: EventBody) -> bool {
        self.last += 1;
        self.gathered.events += 1;
        self.gathered.bytes += body.weight();
        if body == EventBody::Started {
            self.waiting.push(Write::StartTurn(self.turn.id, at));
        }
        let event = Event { session: self.session.id, seq: self.last, turn: self.turn.id, at, body };
        match self.waiting.last_mut() {
            Some(Write::AppendEvents(events)) => events.push(event),
            _ => self.waiting.push(Write::AppendEvents(vec![event])),
        }
        self.gathered.events >= GATHER_EVENTS_MAX || self.gathered.bytes >= GATHER_BYTES_MAX
    }

    /// Remembers the process tree with the next commit.
    pub fn note_process(&mut self, process: String) {
        self.waiting.push(Write::NoteProcess(self.turn.id, process));
    }

    /// Commits what waits. What the store refuses goes on waiting, so that numbers keep following on.
    pub async fn flush(&mut self, recorder: &Recorder) -> Option<EngineError> {
        if self.waiting.is_empty() {
            return None;
        }
        let commit = Commit { writes: self.waiting.clone(), ..Commit::default() };
        match recorder.with_events(commit, self.session.id, self.last).await {
            Ok(committed) => {
                self.waiting.clear();
                self.gathered = Gathered::default();
                self.publisher.publish(committed);
                None
            }
            Err(error) => Some(error),
        }
    }

    /// Commits what waits together with the end, once, trying again for a while. A turn whose end the store
    /// will not take stays unfinished there, and the next start gives it its outcome.
    pub async fn end(&mut self, recorder: &Recorder, at: Timestamp, outcome: TurnOutcome) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let end = EndRecord {
            session: self.session.id,
            turn: self.turn.id,
            at,
            app: self.session.app_name.clone(),
            request: self.turn.request,
            run: self.facts.clone(),
            principal: "app",
            outcome,
        };
        tell_of_end(&end);
        let waiting = std::mem::take(&mut self.waiting);
        self.gathered = Gathered::default();
        match recorder.end(waiting, self.last + 1, end).await {
            Ok(committed) => {
                self.last += 1;
                self.publisher.publish(committed);
            }
            Err(error) => {
                tracing::error!(run.id = %self.facts.run, %error, "the outcome of a run could not be recorded");
            }
        }
    }
}

/// What is recorded of an end.
pub(super) fn outcome(end: TurnEnd, events_dropped: u64, lived: Duration) -> TurnOutcome {
    let TurnEnd { mut answer, stop_reason, mut failure, usage, stderr } = end;
    if answer.as_ref().is_some_and(|answer| answer.len() > ANSWER_BYTES_MAX) {
        answer = None;
        failure.get_or_insert_with(|| {
            Failure::new(FailureKind::AnswerTooLarge, format!("the answer is larger than {ANSWER_BYTES_MAX} bytes"))
        });
    }
    let stderr = if failure.is_some() { stderr } else { String::new() };
    let duration_ms = u64::try_from(lived.as_millis()).unwrap_or(u64::MAX);
    TurnOutcome { answer, stop_reason, failure, stderr, duration_ms, usage, events_dropped }
}

fn tell_of_end(end: &EndRecord) {
    let EndRecord { app, request, run, outcome, .. } = end;
    tracing::info!(
        run.id = %run.run, request.id = %request, app.name = app, agent.name = run.agent, model = run.model,
        outcome = outcome.code(), duration_ms = outcome.duration_ms, cost_usd = outcome.usage.cost_usd,
        "a run ended"
    );
}
