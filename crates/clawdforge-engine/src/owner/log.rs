//! What the owner of a turn writes: events with their numbers, gathered, then committed in order.

use std::time::Duration;

use clawdforge_core::agent::{Failure, FailureKind, TurnEnd};
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::{Event, EventBody, EventSeq, TurnOutcome};
use clawdforge_core::limits::{ANSWER_BYTES_MAX, EVENT_TEXT_BYTES_MAX};
use clawdforge_core::session::Session;
use clawdforge_core::time::Timestamp;
use clawdforge_core::turn::Turn;

use crate::error::EngineError;
use crate::hub::{Committed, Publisher};
use crate::record::{EndRecord, Facts, Recorder};

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

/// The log of one turn to its end.
pub(crate) struct TurnLog {
    pub turn: Turn,
    pub facts: Facts,
    pub session: Session,
    publisher: Publisher,
    /// The turn's beginning is durable with its acceptance.
    begun: bool,
    /// The end was recorded, or could not be: nothing more is.
    over: bool,
    /// The number of the last event made, durable or waiting.
    last: EventSeq,
    /// All that was made is durable, the end included.
    whole: bool,
    /// Events made since the last commit, and what else belongs to it.
    waiting: Vec<Write>,
    /// What they weigh.
    gathered: Gathered,
}

impl TurnLog {
    /// A log that goes on after event number `last` of the session.
    pub fn new(session: Session, turn: Turn, facts: Facts, publisher: Publisher, last: EventSeq) -> Self {
        Self {
            turn,
            facts,
            session,
            publisher,
            begun: false,
            over: false,
            last,
            whole: false,
            waiting: Vec::new(),
            gathered: Gathered::default(),
        }
    }

    /// Whether the turn began as it was accepted: what comes before an agent has the prompt is on record.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// The number of the last event of the session, once the turn's end is durable.
    pub fn head(&self) -> Option<EventSeq> {
        self.whole.then_some(self.last)
    }

    /// Makes the next event; true when so much waits that it should be committed now.
    pub fn push(&mut self, at: Timestamp, body: EventBody) -> bool {
        self.gathered.bytes += body.weight();
        let Some(body) = self.join(body) else { return self.gathered.bytes >= GATHER_BYTES_MAX };
        self.last += 1;
        self.gathered.events += 1;
        if body == EventBody::Started {
            // In front, so that the events stay together: one commit has no order but for those.
            self.waiting.insert(0, Write::StartTurn(self.turn.id, at));
        }
        let event = Event { session: self.session.id, seq: self.last, turn: self.turn.id, at, body };
        match self.waiting.last_mut() {
            Some(Write::AppendEvents(events)) => events.push(event),
            _ => self.waiting.push(Write::AppendEvents(vec![event])),
        }
        self.gathered.events >= GATHER_EVENTS_MAX || self.gathered.bytes >= GATHER_BYTES_MAX
    }

    /// Agents of conversations speak in words: what goes on with the last waiting event is joined to it.
    fn join(&mut self, body: EventBody) -> Option<EventBody> {
        match self.waiting.last_mut() {
            Some(Write::AppendEvents(events)) if self.session.conversation.is_some() => match events.last_mut() {
                Some(event) => event.body.join(body, EVENT_TEXT_BYTES_MAX),
                None => Some(body),
            },
            _ => Some(body),
        }
    }

    /// Whether somebody follows the session right now.
    pub fn is_followed(&self) -> bool {
        self.publisher.is_followed()
    }

    /// Makes a change with the next commit.
    pub fn note(&mut self, write: Write) {
        self.waiting.push(write);
    }

    /// What is left of the acceptance of a turn, when it begins with that: both in one commit.
    pub fn beginning(&self, mut acceptance: Commit) -> Commit {
        for write in &mut acceptance.writes {
            if let Write::QueueTurn(_, prompt) = write {
                // It is in the log from the start.
                *prompt = None;
            }
        }
        acceptance.writes.extend(self.waiting.iter().cloned());
        acceptance
    }

    /// The number of the last event made, durable or waiting.
    pub fn last(&self) -> EventSeq {
        self.last
    }

    /// The beginning is durable.
    pub fn begun(&mut self) {
        self.begun = true;
        self.told(Committed::after_commit(None, self.last));
    }

    /// Commits what waits. What the store refuses goes on waiting, so that numbers keep following on.
    pub async fn flush(&mut self, recorder: &Recorder) -> Option<EngineError> {
        if self.waiting.is_empty() {
            return None;
        }
        let commit = Commit { writes: self.waiting.clone(), ..Commit::default() };
        match recorder.with_events(commit, self.session.id, self.last).await {
            Ok(committed) => {
                self.told(committed);
                None
            }
            Err(error) => Some(error),
        }
    }

    /// What waited is durable: followers hear of it.
    fn told(&mut self, committed: Committed) {
        let events = std::mem::take(&mut self.waiting).into_iter().filter_map(|write| match write {
            Write::AppendEvents(events) => Some(events),
            _ => None,
        });
        self.gathered = Gathered::default();
        self.publisher.publish(committed, events.flatten().collect());
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
            facts: self.facts.clone(),
            principal: "app",
            outcome,
        };
        tell_of_end(&end);
        let waiting = std::mem::take(&mut self.waiting);
        let bytes = std::mem::take(&mut self.gathered).bytes;
        // Those who wait and those who follow share what the commit takes, so that not each of them has to read it.
        let told = if self.publisher.takes_events(bytes) { end.events(&waiting, self.last + 1) } else { Vec::new() };
        match recorder.end(waiting, self.last + 1, end).await {
            Ok(committed) => {
                self.last += 1;
                self.whole = true;
                self.publisher.publish(committed, told);
            }
            Err(error) => {
                tracing::error!(turn = %self.facts, %error, "the outcome of a turn could not be recorded");
            }
        }
    }
}

/// What is recorded of an end.
pub(crate) fn outcome(end: TurnEnd, events_dropped: u64, lived: Duration) -> TurnOutcome {
    let TurnEnd { mut answer, output, stop_reason, mut failure, usage, stderr } = end;
    if answer.as_ref().is_some_and(|answer| answer.len() > ANSWER_BYTES_MAX) {
        answer = None;
        failure.get_or_insert_with(|| {
            Failure::new(FailureKind::AnswerTooLarge, format!("the answer is larger than {ANSWER_BYTES_MAX} bytes"))
        });
    }
    let stderr = if failure.is_some() { stderr } else { String::new() };
    let duration_ms = u64::try_from(lived.as_millis()).unwrap_or(u64::MAX);
    TurnOutcome {
        answer,
        output: output.map(|output| *output),
        stop_reason,
        failure,
        stderr,
        duration_ms,
        usage,
        events_dropped,
    }
}

fn tell_of_end(end: &EndRecord) {
    let EndRecord { app, request, facts, outcome, .. } = end;
    let (agent, model) = facts.asked();
    tracing::info!(
        turn = %facts, request.id = %request, app.name = app, agent.name = agent, model,
        outcome = outcome.code(), duration_ms = outcome.duration_ms, cost_usd = outcome.usage.cost_usd,
        "a turn ended"
    );
}
