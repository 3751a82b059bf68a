//! The decision core of a turn: inputs in, effects out.
//!
//! The owner of a turn feeds what happens into [`TurnMachine::step`] and performs the effects in
//! order; an effect after a record is performed only once the record is durable. Slow effects
//! (opening, closing) run beside the owner and come back as inputs, so a timer or a drain is always
//! heard. Nothing here waits, so every story is a unit test.
//!
//! Invariants:
//! - exactly one [`Effect::RecordEnd`] per turn, and nothing is recorded after it;
//! - a turn that ended by our decision (time, silence, close, drain, refused record) is recorded as
//!   ended only after its agent has stopped: by its own word, where the link is one to keep, or else
//!   by the end of its process tree; a turn that ended by the agent's word is recorded at once;
//! - [`Effect::Stop`] comes last, after the tree is gone or when the link may be kept;
//! - a turn that asked for data is completed only by an answer that was found to fit, and asks for another at most
//!   [`OUTPUT_RETRIES_MAX`] times.

use std::time::Duration;

use crate::agent::{AgentSignal, Exit, Failure, FailureKind, TurnEnd, Usage};
use crate::event::{ContextSource, EventBody};
use crate::limits::{EVENT_BYTES_PER_TURN_MAX, EVENTS_PER_TURN_MAX};
use crate::output::{OUTPUT_RETRIES_MAX, Verdict, Violation, asked_again};
use crate::session::OnContextLoss;

#[cfg(test)]
mod tests;
mod words;

pub use words::cancelled;
use words::{closed, crashed, cut, cut_name, cut_value, interrupted, invalid, unwritten};

/// How long an agent may take to stop when it is told to, before its process is ended. Claude's adapter
/// takes a few milliseconds.
pub const CANCEL_WAIT_MAX: Duration = Duration::from_secs(10);

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
    /// The session was closed.
    SessionClosed,
    /// The app wants the turn stopped.
    CancelAsked,
    /// The workspace holds more than it may.
    WorkspaceFull(Failure),
    /// The answer was looked at.
    OutputChecked(Verdict),
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
    /// The longest time an agent may take to stop when told to.
    Cancel,
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
    /// Look whether what the agent answered fits the schema, and come back with [`Input::OutputChecked`].
    CheckOutput(Box<TurnEnd>),
    /// Give the agent this as its next prompt.
    AskAgain(String),
    /// Tell the agent to stop its turn.
    CancelTurn,
    /// End the process tree (politely, then not) and come back with [`Input::LinkClosed`].
    CloseLink,
    /// Arm or move a timer.
    SetTimer(Timer, Duration),
    /// Record the outcome, durably; the number counts events that were not kept.
    RecordEnd(TurnEnd, u64),
    /// The story is over. A link that was not closed may be kept.
    Stop,
}

/// What becomes of the link when the agent ends its turn by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterTurn {
    /// It is closed: a run has no other turn.
    Close,
    /// It is kept for the next turn, and the agent can be told to stop without ending it.
    Keep,
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
    /// The agent has answered and waits; the turn ends with this if the answer fits.
    Checking(Box<TurnEnd>),
    /// The agent was told to stop; afterwards the turn is recorded with this failure.
    Cancelling(Failure),
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
    after: AfterTurn,
    on_context_loss: OnContextLoss,
    events: u64,
    event_bytes: usize,
    events_dropped: u64,
    /// The last event was a piece of text that another one can go on with.
    flowing: Option<std::mem::Discriminant<EventBody>>,
    /// How often the agent was asked again, where the answer is to fit a schema.
    asked_again: Option<u64>,
    /// What the answers used that did not fit.
    used: Usage,
}

impl TurnMachine {
    /// Starts a turn: what to do first.
    #[must_use]
    pub fn start(limits: TurnLimits, after: AfterTurn, on_context_loss: OnContextLoss) -> (Self, Vec<Effect>) {
        let machine = Self {
            state: State::Opening,
            limits,
            after,
            on_context_loss,
            events: 1,
            event_bytes: 0,
            events_dropped: 0,
            flowing: None,
            asked_again: None,
            used: Usage::default(),
        };
        let effects = vec![
            Effect::Record(EventBody::Started),
            Effect::SetTimer(Timer::Total, limits.total),
            Effect::SetTimer(Timer::Silence, limits.silence),
            Effect::OpenLink,
        ];
        (machine, effects)
    }

    /// The same where the answer is to fit a schema.
    #[must_use]
    pub fn expecting_output(self) -> Self {
        Self { asked_again: Some(0), ..self }
    }

    /// Takes one input and says what to do about it, in order.
    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        match (&mut self.state, input) {
            (State::Stopped, _) => Vec::new(),

            (State::Opening, Input::LinkOpened) => {
                self.state = State::Working;
                vec![Effect::BeginTurn]
            }
            (State::Opening | State::Working, Input::OpenFailed(failure)) => self.end_with(failure),
            (State::Opening | State::Working | State::Cancelling(_), Input::Signal(signal)) => self.on_signal(signal),
            (State::Checking(end), input) => {
                let end = std::mem::take(&mut **end);
                self.on_checking(end, input)
            }
            (State::Working, Input::TimerFired(timer)) if self.after == AfterTurn::Keep => {
                self.cancel_for(self.timer_failure(timer))
            }
            (State::Working, Input::WorkspaceFull(failure)) if self.after == AfterTurn::Keep => {
                self.cancel_for(failure)
            }
            (State::Opening | State::Working, Input::WorkspaceFull(failure)) => self.end_with(failure),
            (State::Opening | State::Working, Input::TimerFired(timer)) => self.end_with(self.timer_failure(timer)),
            (State::Cancelling(failure), Input::TimerFired(Timer::Cancel)) => {
                let failure = failure.clone();
                self.end_with(failure)
            }
            (State::Opening | State::Working | State::Cancelling(_), Input::DrainExpired) => {
                self.end_with(interrupted())
            }
            (State::Opening | State::Working | State::Cancelling(_), Input::SessionClosed) => self.end_with(closed()),
            (State::Working, Input::CancelAsked) if self.after == AfterTurn::Keep => self.cancel_for(cancelled()),
            (State::Opening | State::Working, Input::CancelAsked) => self.end_with(cancelled()),
            (State::Opening | State::Working | State::Cancelling(_), Input::RecordRefused) => {
                self.end_with(unwritten())
            }
            (State::Opening | State::Working | State::Cancelling(_), Input::LinkClosed { stderr }) => {
                self.state = State::Stopped;
                let exit = Exit { stderr, ..Exit::default() };
                vec![self.record_end(crashed(exit)), Effect::Stop]
            }

            (State::Ending(end), Input::LinkClosed { stderr }) => {
                let mut end = std::mem::take(&mut **end);
                end.stderr = if end.stderr.is_empty() { stderr } else { end.stderr };
                self.state = State::Stopped;
                vec![self.record_end(end), Effect::Stop]
            }
            // Opening finished after we had decided to end: only now is it known what there is to close.
            (State::Ending(_), Input::LinkOpened | Input::OpenFailed(_)) => vec![Effect::CloseLink],
            (State::Closing, Input::LinkClosed { .. }) => {
                self.state = State::Stopped;
                vec![Effect::Stop]
            }

            (
                State::Cancelling(_),
                Input::LinkOpened
                | Input::OpenFailed(_)
                | Input::CancelAsked
                | Input::WorkspaceFull(_)
                | Input::TimerFired(Timer::Total | Timer::Silence),
            )
            | (State::Opening | State::Working | State::Cancelling(_), Input::OutputChecked(_))
            | (State::Ending(_) | State::Closing, _)
            | (State::Working, Input::LinkOpened) => Vec::new(),
        }
    }

    /// While the answer is looked at the agent waits, so whatever ends the turn now need not stop it first.
    fn on_checking(&mut self, end: TurnEnd, input: Input) -> Vec<Effect> {
        let failed = |failure: Failure| TurnEnd { failure: Some(failure), ..end.clone() };
        match input {
            Input::OutputChecked(Verdict::Fits(output)) => {
                self.finish(TurnEnd { output: Some(Box::new(output)), ..end })
            }
            Input::OutputChecked(Verdict::Misfits(violations)) => self.misfit(end, violations),
            Input::CancelAsked => self.finish(failed(cancelled())),
            Input::TimerFired(Timer::Total) => self.finish(failed(self.timer_failure(Timer::Total))),
            Input::WorkspaceFull(failure) => self.finish(failed(failure)),
            Input::DrainExpired => self.end_after_close(failed(interrupted())),
            Input::SessionClosed => self.end_after_close(failed(closed())),
            Input::RecordRefused => self.end_after_close(failed(unwritten())),
            // The agent is gone, which the next prompt would show; whoever keeps the link looks for itself.
            Input::LinkOpened
            | Input::OpenFailed(_)
            | Input::Signal(_)
            | Input::LinkClosed { .. }
            | Input::TimerFired(Timer::Silence | Timer::Cancel) => {
                self.state = State::Checking(Box::new(end));
                Vec::new()
            }
        }
    }

    /// The agent is told what is wrong, if it can be told and has tries left.
    fn misfit(&mut self, end: TurnEnd, violations: Vec<Violation>) -> Vec<Effect> {
        let attempt = self.asked_again.unwrap_or(0) + 1;
        if self.after == AfterTurn::Close || attempt > OUTPUT_RETRIES_MAX {
            return self.finish(TurnEnd { failure: Some(invalid(attempt, violations)), ..end });
        }
        self.asked_again = Some(attempt);
        self.used.add(end.usage);
        self.state = State::Working;
        let text = asked_again(&violations);
        let mut effects = self.record(EventBody::AskedAgain { attempt, violations, text: text.clone() });
        effects.push(Effect::AskAgain(text));
        effects
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
            AgentSignal::ContextReset => return self.on_context_reset(),
            AgentSignal::Unrecognised { raw } => EventBody::Unrecognised { raw: cut(raw) },
            AgentSignal::TurnEnded(end) => return self.ended_by_the_agent(end),
            AgentSignal::Exited(exit) => {
                return match &self.state {
                    State::Cancelling(failure) => {
                        let failure = failure.clone();
                        self.end_with(failure)
                    }
                    _ => self.end_after_close(crashed(exit)),
                };
            }
        };
        self.record(body)
    }

    /// The agent goes on without what it should know. Whether that may be is the session's to say.
    fn on_context_reset(&mut self) -> Vec<Effect> {
        let mut effects = self.record(EventBody::Context { source: ContextSource::Reset });
        if self.on_context_loss == OnContextLoss::Fail && matches!(self.state, State::Working) {
            effects.extend(self.cancel_for(Failure::new(
                FailureKind::ContextLost,
                "the agent has forgotten the turns before, so this one was stopped; open a new session, or one with on_context_loss \"rebuild\"",
            )));
        }
        effects
    }

    fn cancel_for(&mut self, failure: Failure) -> Vec<Effect> {
        self.state = State::Cancelling(failure);
        vec![Effect::CancelTurn, Effect::SetTimer(Timer::Cancel, CANCEL_WAIT_MAX)]
    }

    fn record(&mut self, body: EventBody) -> Vec<Effect> {
        let weight = body.weight();
        let full = self.events >= EVENTS_PER_TURN_MAX || self.event_bytes + weight > EVENT_BYTES_PER_TURN_MAX;
        // After the first gap nothing is kept: the log is whole up to some point, never with holes.
        if full || self.events_dropped > 0 {
            self.events_dropped += 1;
            return vec![self.alive()];
        }
        // Agents of conversations speak in words, which are recorded as one event as long as nothing comes
        // between them: they do not count, only their bytes do.
        let flows = self.after == AfterTurn::Keep && body.joins();
        let kind = flows.then(|| std::mem::discriminant(&body));
        self.events += u64::from(kind.is_none() || kind != self.flowing);
        self.flowing = kind;
        self.event_bytes += weight;
        vec![Effect::Record(body), self.alive()]
    }

    fn ended_by_the_agent(&mut self, mut end: TurnEnd) -> Vec<Effect> {
        end.stop_reason = end.stop_reason.map(cut_name);
        end.usage.model = end.usage.model.map(cut_name);
        end.failure = end.failure.map(|failure| Failure { message: cut(failure.message), ..failure });
        if let State::Cancelling(failure) = &self.state {
            // What it used counts, also where our reason is the one to tell.
            end.failure = Some(failure.clone());
        }
        if self.asked_again.is_some() && end.failure.is_none() {
            self.state = State::Checking(Box::new(end.clone()));
            return vec![Effect::CheckOutput(Box::new(end))];
        }
        self.finish(end)
    }

    /// The turn is over, and its agent is idle.
    fn finish(&mut self, mut end: TurnEnd) -> Vec<Effect> {
        if end.failure.is_some() || self.asked_again.is_none() {
            end.output = None;
        }
        let close = self.after == AfterTurn::Close;
        self.state = if close { State::Closing } else { State::Stopped };
        vec![self.record_end(end), if close { Effect::CloseLink } else { Effect::Stop }]
    }

    fn record_end(&mut self, mut end: TurnEnd) -> Effect {
        let later = std::mem::replace(&mut end.usage, std::mem::take(&mut self.used));
        end.usage.add(later);
        Effect::RecordEnd(end, self.events_dropped)
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
            Timer::Silence | Timer::Cancel => Failure::new(
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
