//! The decision core of a turn: inputs in, effects out.
//!
//! The owner of a turn feeds what happens into [`TurnMachine::step`] and performs the effects in
//! order; an effect after a record is performed only once the record is durable. Slow effects
//! (opening, closing) run beside the owner and come back as inputs, so a timer or a drain is always
//! heard. Nothing here waits, so every story is a unit test.
//!
//! Invariants:
//! - exactly one [`Effect::RecordEnd`] per turn, and nothing is recorded after it;
//! - a turn that ended by our decision (time, silence, drain, refused record) is recorded as
//!   ended only after its process tree is gone; a turn that ended by the agent's word is recorded at
//!   once, and the tree is ended behind it;
//! - [`Effect::Stop`] comes last, after the tree is gone.

use std::time::Duration;

use crate::agent::{AgentSignal, Exit, Failure, FailureKind, TurnEnd};
use crate::event::EventBody;
use crate::limits::{EVENT_BYTES_PER_TURN_MAX, EVENT_TEXT_BYTES_MAX, EVENTS_PER_TURN_MAX, NAME_BYTES_MAX};

#[cfg(test)]
mod tests;

/// What can happen to a turn that has a slot.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The agent is ready to take the prompt.
    LinkOpened,
    /// The agent could not be opened or given the prompt.
    OpenFailed(Failure),
    /// The agent did something.
    Signal(AgentSignal),
    /// A timer that was set has fired.
    TimerFired(Timer),
    /// The service stops and will wait no longer.
    DrainExpired,
    /// The store refused an event record.
    RecordRefused,
    /// The process tree is gone.
    LinkClosed {
        /// The end of the agent's error stream.
        stderr: String,
    },
}

/// The timers of a turn. Setting one again moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// The longest time from the agent's start to its end.
    Total,
    /// The longest time without any sign of life.
    Silence,
}

/// What the owner must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append this event, durably.
    Record(EventBody),
    /// Open the agent and come back with [`Input::LinkOpened`] or [`Input::OpenFailed`].
    OpenLink,
    /// Give the prompt to the opened agent.
    BeginTurn,
    /// End the process tree (politely, then not) and come back with [`Input::LinkClosed`].
    CloseLink,
    /// Arm or move a timer.
    SetTimer(Timer, Duration),
    /// Record the outcome, durably; the number counts events that were not kept.
    RecordEnd(TurnEnd, u64),
    /// The story is over.
    Stop,
}

/// The time limits of one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnLimits {
    /// Longest time from the agent's start to its end.
    pub total: Duration,
    /// Longest time without a sign of life.
    pub silence: Duration,
}

#[derive(Debug)]
enum State {
    Opening,
    Working,
    /// The tree is being ended; afterwards the turn is recorded with this end.
    Ending(Box<TurnEnd>),
    /// The outcome is recorded; the tree is being ended.
    Closing,
    Stopped,
}

/// One turn from its slot to its outcome.
#[derive(Debug)]
pub struct TurnMachine {
    state: State,
    limits: TurnLimits,
    events: u64,
    event_bytes: usize,
    events_dropped: u64,
}

impl TurnMachine {
    /// Starts a turn: what to do first.
    #[must_use]
    pub fn start(limits: TurnLimits) -> (Self, Vec<Effect>) {
        let machine = Self { state: State::Opening, limits, events: 1, event_bytes: 0, events_dropped: 0 };
        let effects = vec![
            Effect::Record(EventBody::Started),
            Effect::SetTimer(Timer::Total, limits.total),
            Effect::SetTimer(Timer::Silence, limits.silence),
            Effect::OpenLink,
        ];
        (machine, effects)
    }

    /// Takes one input and says what to do about it, in order.
    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        match (&mut self.state, input) {
            (State::Stopped, _) => Vec::new(),

            (State::Opening, Input::LinkOpened) => {
                self.state = State::Working;
                vec![Effect::BeginTurn]
            }
            (State::Opening | State::Working, Input::OpenFailed(failure)) => {
                self.end_after_close(TurnEnd { failure: Some(failure), ..TurnEnd::default() })
            }
            (State::Opening | State::Working, Input::Signal(signal)) => self.on_signal(signal),
            (State::Opening | State::Working, Input::TimerFired(timer)) => self.end_with(self.timer_failure(timer)),
            (State::Opening | State::Working, Input::DrainExpired) => self.end_with(Failure::new(
                FailureKind::Interrupted,
                "the service was stopped before the agent had finished; send the request again",
            )),
            (State::Opening | State::Working, Input::RecordRefused) => self.end_with(Failure::new(
                FailureKind::Internal,
                "the event log could not be written, so the agent was stopped",
            )),
            (State::Opening | State::Working, Input::LinkClosed { stderr }) => {
                self.state = State::Stopped;
                let exit = Exit { stderr, ..Exit::default() };
                vec![Effect::RecordEnd(crashed(exit), self.events_dropped), Effect::Stop]
            }

            (State::Ending(end), Input::LinkClosed { stderr }) => {
                let mut end = std::mem::take(&mut **end);
                end.stderr = if end.stderr.is_empty() { stderr } else { end.stderr };
                self.state = State::Stopped;
                vec![Effect::RecordEnd(end, self.events_dropped), Effect::Stop]
            }
            // Opening finished after we had decided to end: only now is it known what there is to close.
            (State::Ending(_), Input::LinkOpened | Input::OpenFailed(_)) => vec![Effect::CloseLink],
            (State::Closing, Input::LinkClosed { .. }) => {
                self.state = State::Stopped;
                vec![Effect::Stop]
            }

            (State::Ending(_) | State::Closing, _) | (State::Working, Input::LinkOpened) => Vec::new(),
        }
    }

    fn on_signal(&mut self, signal: AgentSignal) -> Vec<Effect> {
        let body = match signal {
            AgentSignal::Working => return vec![self.alive()],
            AgentSignal::Text(content) => EventBody::Text { content: cut(content) },
            AgentSignal::Thought(content) => EventBody::Thinking { content: cut(content) },
            AgentSignal::ToolCall { call, name, args } => {
                EventBody::ToolCall { call: cut_name(call), name: cut_name(name), args: cut_value(args) }
            }
            AgentSignal::ToolResult { call, result, failed } => {
                EventBody::ToolResult { call: cut_name(call), result: cut_value(result), failed }
            }
            AgentSignal::Retrying { attempt, status, reason } => {
                EventBody::Retry { attempt, status, reason: cut(reason) }
            }
            AgentSignal::Unrecognised { raw } => EventBody::Unrecognised { raw: cut(raw) },
            AgentSignal::TurnEnded(mut end) => {
                end.stop_reason = end.stop_reason.map(cut_name);
                end.usage.model = end.usage.model.map(cut_name);
                end.failure = end.failure.map(|failure| Failure { message: cut(failure.message), ..failure });
                self.state = State::Closing;
                return vec![Effect::RecordEnd(end, self.events_dropped), Effect::CloseLink];
            }
            AgentSignal::Exited(exit) => return self.end_after_close(crashed(exit)),
        };
        let weight = body.weight();
        let full = self.events >= EVENTS_PER_TURN_MAX || self.event_bytes + weight > EVENT_BYTES_PER_TURN_MAX;
        // After the first gap nothing is kept: the log is whole up to some point, never with holes.
        if full || self.events_dropped > 0 {
            self.events_dropped += 1;
            return vec![self.alive()];
        }
        self.events += 1;
        self.event_bytes += weight;
        vec![Effect::Record(body), self.alive()]
    }

    fn alive(&self) -> Effect {
        Effect::SetTimer(Timer::Silence, self.limits.silence)
    }

    fn timer_failure(&self, timer: Timer) -> Failure {
        match timer {
            Timer::Total => Failure::new(
                FailureKind::TimedOut,
                format!(
                    "timed out after {} s; ask for more time with timeout_secs, or for less work",
                    self.limits.total.as_secs()
                ),
            ),
            Timer::Silence => Failure::new(
                FailureKind::Silent,
                format!("the agent gave no sign of life for {} s and was stopped", self.limits.silence.as_secs()),
            ),
        }
    }

    fn end_with(&mut self, failure: Failure) -> Vec<Effect> {
        self.end_after_close(TurnEnd { failure: Some(failure), ..TurnEnd::default() })
    }

    fn end_after_close(&mut self, end: TurnEnd) -> Vec<Effect> {
        self.state = State::Ending(Box::new(end));
        vec![Effect::CloseLink]
    }
}

/// The end of a turn whose agent is gone without having ended it.
fn crashed(exit: Exit) -> TurnEnd {
    let how = match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        (Some(code), None) => format!("exited with code {code}"),
        (None, None) => "ended".to_owned(),
    };
    let said = exit.stderr.lines().rev().find(|line| !line.trim().is_empty()).map(str::trim);
    let message = match said {
        Some(line) => format!("the agent {how} without an answer: {}", cut_to(line.to_owned(), 500)),
        None => format!("the agent {how} without an answer"),
    };
    TurnEnd { failure: Some(Failure::new(FailureKind::Crashed, message)), stderr: exit.stderr, ..TurnEnd::default() }
}

fn cut(text: String) -> String {
    cut_to(text, EVENT_TEXT_BYTES_MAX)
}

fn cut_name(text: String) -> String {
    cut_to(text, NAME_BYTES_MAX)
}

/// The text, cut at a character boundary to at most so many bytes, with a mark where it was cut.
fn cut_to(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let dropped = text.len() - bytes_max;
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push_str(&format!("… [{dropped} bytes cut]"));
    }
    text
}

/// The value, or its text cut, where its JSON would be larger than an event may be.
fn cut_value(value: serde_json::Value) -> serde_json::Value {
    let text = match &value {
        serde_json::Value::String(text) if text.len() <= EVENT_TEXT_BYTES_MAX => return value,
        serde_json::Value::String(text) => text.clone(),
        other => {
            let text = other.to_string();
            if text.len() <= EVENT_TEXT_BYTES_MAX {
                return value;
            }
            text
        }
    };
    serde_json::Value::String(cut(text))
}
