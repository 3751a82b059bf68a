//! One turn in motion: its agent, its machine and its event numbers.
//!
//! Whoever owns a turn (the task of a run, or of a conversation) has one [`Player`] for it, which feeds
//! what happens into the machine and performs the effects in order.

pub(crate) mod log;
pub(crate) mod run;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use clawdforge_agent::{AgentLimits, AgentLink, CloseReport, Prompt};
use clawdforge_core::agent::{AgentSignal, Failure, FailureKind, TurnEnd};
use clawdforge_core::commit::Write;
use clawdforge_core::event::{ContextSource, EventBody};
use clawdforge_core::machine::{AfterTurn, Effect, Input, Timer, TurnLimits, TurnMachine};
use clawdforge_core::output::{OutputSchema, Verdict};
use clawdforge_core::session::OnContextLoss;
use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cancels::Cancel;
use crate::conversation::mailbox::{self, Mailbox};
use crate::engine::Shared;
use crate::quota::Meter;

use self::log::{TurnLog, outcome};

/// How long, beyond the grace of its agent, a turn whose owner panicked may take to be closed.
const CLOSE_AFTER_PANIC_MAX: Duration = Duration::from_secs(10);

/// An agent that is ready for the turn's prompt.
pub(crate) struct Opened {
    /// A new link; absent where the turn goes on with the one that was warm.
    pub link: Option<Box<dyn AgentLink>>,
    /// What it is asked.
    pub prompt: Prompt,
    /// What it knows of the turns before; conversations only.
    pub context: Option<ContextSource>,
}

/// Everything slow between a slot and an agent that is ready.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<Opened, Failure>> + Send>>;
type Overflow = Pin<Box<dyn Future<Output = Failure> + Send>>;
type Checking = Pin<Box<dyn Future<Output = Verdict> + Send>>;
type Closing = Pin<Box<dyn Future<Output = CloseReport> + Send>>;

/// One turn being played.
pub(crate) struct Player {
    pub log: TurnLog,
    /// The agent. Between turns of a conversation it is taken out.
    pub link: Option<Box<dyn AgentLink>>,
    /// The agent of the turn before, until the opening is done.
    pub warm: Option<Box<dyn AgentLink>>,
    /// The agent's own id of the conversation that is on record, or about to be.
    pub resume_noted: Option<String>,
    /// Where a conversation's orders arrive; a run has none.
    pub mailbox: Option<Mailbox>,
    /// Tells what is still opening that nobody wants it any more.
    pub given_up: CancellationToken,
    /// What its agent is allowed.
    pub limits: AgentLimits,
    /// What its answer is to fit.
    pub output_schema: Option<OutputSchema>,
    /// What its workspace may take on the disk, where that is limited.
    pub meter: Option<Arc<Meter>>,
    /// An agent was closed, or could not be opened, and processes of it may still be there.
    pub may_survive: bool,
    /// Whether the turn is to be stopped.
    pub cancel: Cancel,
    shared: Arc<Shared>,
    started: Option<Instant>,
    opening: Option<Opening>,
    closing: Option<Closing>,
    checking: Option<Checking>,
    /// Resolves when the workspace holds too much.
    overflow: Option<Overflow>,
    prompt: Option<Prompt>,
    total_at: Option<Instant>,
    silence_at: Option<Instant>,
    cancel_at: Option<Instant>,
    flush_at: Option<Instant>,
    drain_told: bool,
    close_told: bool,
    cancel_told: bool,
    /// The agent has the prompt.
    has_begun: bool,
    /// The agent was started for the turn.
    is_new: bool,
    /// The agent knows the conversation.
    is_fed: bool,
    /// When something of what it did was last committed.
    seen_at: Option<Instant>,
}

impl Player {
    pub fn new(shared: Arc<Shared>, log: TurnLog, cancel: Cancel) -> Self {
        Self {
            log,
            link: None,
            warm: None,
            resume_noted: None,
            mailbox: None,
            given_up: CancellationToken::new(),
            limits: AgentLimits::default(),
            output_schema: None,
            meter: None,
            may_survive: false,
            cancel,
            shared,
            started: None,
            opening: None,
            closing: None,
            checking: None,
            overflow: None,
            prompt: None,
            total_at: None,
            silence_at: None,
            cancel_at: None,
            flush_at: None,
            drain_told: false,
            close_told: false,
            cancel_told: false,
            has_begun: false,
            is_new: true,
            // A warm one does; of every other the opening says so.
            is_fed: true,
            seen_at: None,
        }
    }

    /// Plays the turn to its recorded end, also where something in it panics.
    pub async fn play(&mut self, open: Opening, after: AfterTurn) {
        if AssertUnwindSafe(self.live(open, after)).catch_unwind().await.is_err() {
            tracing::error!(turn = %self.log.facts, "the owner of a turn panicked; the turn is ended as failed");
            let failure = Failure::new(FailureKind::Internal, "the service failed while it looked after this turn");
            self.close_whatever_is_open().await;
            self.end_with(failure, self.started.map_or(Duration::ZERO, |at| at.elapsed())).await;
        }
    }

    async fn live(&mut self, open: Opening, after: AfterTurn) {
        let silence = self.limits.silence_max.unwrap_or(self.shared.options.silence_max);
        let asked = self.log.turn.timeout;
        let limits = TurnLimits { total: self.limits.turn_max.map_or(asked, |most| asked.min(most)), silence };
        let on_context_loss =
            self.log.session.conversation.as_ref().map_or_else(OnContextLoss::default, |chosen| chosen.on_context_loss);
        let (mut machine, mut effects) = TurnMachine::start(limits, after, on_context_loss);
        if self.output_schema.is_some() {
            machine = machine.expecting_output();
        }
        self.started = Some(Instant::now());
        self.overflow = self.meter.clone().map(|meter| Box::pin(meter.full_in_turn()) as Overflow);
        let mut open = Some(open);
        loop {
            let mut input = None;
            for effect in effects {
                if effect == Effect::Stop {
                    return;
                }
                input = self.perform(effect, &mut open).await;
                if input.is_some() {
                    // What could not be performed is news for the machine; the rest no longer applies.
                    break;
                }
            }
            let input = match input {
                Some(input) => input,
                None => self.next_input().await,
            };
            effects = machine.step(input);
        }
    }

    /// Performs one effect. What comes back at once, if anything, is the next input.
    async fn perform(&mut self, effect: Effect, open: &mut Option<Opening>) -> Option<Input> {
        match effect {
            // On record with its acceptance.
            Effect::Record(EventBody::Started) if self.log.has_begun() => None,
            Effect::Record(body) => {
                let full = self.log.push(self.shared.ids.now(), body);
                if full || self.is_awaited() {
                    return self.flush().await;
                }
                let gather = self.shared.options.event_gather;
                self.flush_at.get_or_insert_with(|| Instant::now() + gather);
                None
            }
            Effect::OpenLink => {
                // What was recorded must be durable before an agent can act on it. Where one is there already it
                // can do so only when the turn begins, and one flush less is a quarter of a warm turn.
                let refused = if self.warm.is_some() { None } else { self.flush().await };
                if refused.is_none() {
                    self.opening = open.take();
                }
                refused
            }
            Effect::BeginTurn => self.begin_turn().await,
            Effect::CheckOutput(end) => {
                let (shared, schema) = (Arc::clone(&self.shared), self.output_schema.clone());
                self.checking =
                    schema.map(|schema| Box::pin(async move { shared.checks.answer(schema, *end).await }) as Checking);
                None
            }
            Effect::AskAgain(text) => self.ask_again(text).await,
            Effect::CancelTurn => {
                if let Some(link) = self.link.as_mut() {
                    link.cancel_turn();
                }
                None
            }
            Effect::CloseLink => {
                self.given_up.cancel();
                if self.opening.is_some() || self.closing.is_some() {
                    return None;
                }
                let Some(link) = self.link.take() else {
                    return Some(Input::LinkClosed { stderr: String::new() });
                };
                self.closing = Some(Box::pin(link.close(self.shared.options.kill_grace)));
                None
            }
            Effect::SetTimer(timer, after) => {
                let at = Some(Instant::now() + after);
                match timer {
                    Timer::Total => self.total_at = at,
                    Timer::Silence => self.silence_at = at,
                    Timer::Cancel => self.cancel_at = at,
                }
                None
            }
            Effect::RecordEnd(end, events_dropped) => {
                let lived = self.started.map_or(Duration::ZERO, |at| at.elapsed());
                self.record_end(end, events_dropped, lived).await;
                None
            }
            Effect::Stop => None,
        }
    }

    /// Whether somebody watches, and has seen nothing of what the agent does for as long as events are gathered: what
    /// comes then is not held back, so the first word is seen when it is said. Where nobody watches, that
    /// would be one more flush of the disk for nothing.
    fn is_awaited(&self) -> bool {
        let gather = self.shared.options.event_gather;
        let is_late = |at: Instant| at.elapsed() >= gather;
        self.has_begun && self.log.is_followed() && self.seen_at.is_none_or(is_late)
    }

    async fn begin_turn(&mut self) -> Option<Input> {
        // Where the agent has its memory from, and by which key it is taken up again, is on record before
        // the agent goes on with it.
        if !self.has_rested()
            && let Some(refused) = self.flush().await
        {
            return Some(refused);
        }
        let (Some(link), Some(prompt)) = (self.link.as_mut(), self.prompt.take()) else {
            let failure = Failure::new(FailureKind::Internal, "there is no agent to give the prompt to");
            return Some(Input::OpenFailed(failure));
        };
        if let Err(failure) = link.begin_turn(prompt).await {
            return Some(Input::OpenFailed(failure));
        }
        self.has_begun = true;
        if let Some(process) = link.process().filter(|_| self.log.session.conversation.is_none()) {
            self.log.note(Write::NoteProcess(self.log.turn.id, process));
            return self.flush().await;
        }
        None
    }

    /// Whether the turn is on record as begun, and the agent goes on with what it has and is known by.
    fn has_rested(&self) -> bool {
        let key = self.link.as_ref().filter(|_| !self.is_new).map(|link| link.resume_key());
        self.log.has_begun() && key.is_some_and(|key| key == self.resume_noted)
    }

    /// The next prompt of the same turn. What it says is on record before the agent hears it.
    async fn ask_again(&mut self, text: String) -> Option<Input> {
        if let Some(refused) = self.flush().await {
            return Some(refused);
        }
        let Some(link) = self.link.as_mut() else {
            let failure = Failure::new(FailureKind::Internal, "there is no agent to ask again");
            return Some(Input::OpenFailed(failure));
        };
        let prompt = Prompt { text, ..Prompt::default() };
        link.begin_turn(prompt).await.err().map(Input::OpenFailed)
    }

    fn opened(&mut self, opened: Opened) {
        let Opened { link, prompt, context } = opened;
        let is_new = link.is_some();
        self.is_new = is_new;
        self.link = link.or_else(|| self.warm.take());
        self.prompt = Some(prompt);
        let Some(source) = context else { return };
        self.log.push(self.shared.ids.now(), EventBody::Context { source });
        if let Some(link) = self.link.as_ref().filter(|_| is_new) {
            self.log.note(Write::NoteLink(self.log.session.id, link.process()));
            self.is_fed = source == ContextSource::Resumed;
            self.note_resume_key();
        }
    }

    /// Agents may change their own id of a conversation while it goes on, and lose it. One that has not shown a sign of
    /// having the prompt, and what it is told of the turns before with it, knows nothing that could be taken up again:
    /// until then there is no key.
    fn note_resume_key(&mut self) {
        let Some(link) = self.link.as_ref().filter(|_| self.log.session.conversation.is_some()) else { return };
        let key = link.resume_key().filter(|_| self.is_fed);
        if key != self.resume_noted {
            self.log.note(Write::NoteResume(self.log.session.id, key.clone()));
            self.resume_noted = key;
        }
    }

    async fn next_input(&mut self) -> Input {
        loop {
            let happened = self.next().await;
            let input = if happened.is_some() { happened } else { self.flush().await };
            if let Some(input) = input {
                return input;
            }
        }
    }

    /// Waits for one thing to happen; `None` means that gathered events are due. Every branch is
    /// cancel-safe: the futures of opening, closing, checking and overflow stay in their fields, a link's signals and a
    /// mailbox's orders are not lost, the rest are timers and flags.
    async fn next(&mut self) -> Option<Input> {
        let input = tokio::select! {
            biased;
            opened = present(&mut self.opening) => {
                self.opening = None;
                match opened {
                    Ok(opened) => {
                        self.opened(opened);
                        Input::LinkOpened
                    }
                    Err(failure) => {
                        self.may_survive = true;
                        Input::OpenFailed(failure)
                    }
                }
            }
            report = present(&mut self.closing) => {
                self.closing = None;
                self.may_survive |= report.survivors > 0;
                self.tell_of_closing(&report);
                Input::LinkClosed { stderr: report.stderr }
            }
            verdict = present(&mut self.checking) => {
                self.checking = None;
                Input::OutputChecked(verdict)
            }
            failure = present(&mut self.overflow) => {
                self.overflow = None;
                Input::WorkspaceFull(failure)
            }
            () = self.shared.expired.cancelled(), if !self.drain_told => {
                self.drain_told = true;
                Input::DrainExpired
            }
            () = mailbox::closed(&mut self.mailbox), if !self.close_told => {
                self.close_told = true;
                Input::SessionClosed
            }
            () = self.cancel.asked(), if !self.cancel_told => {
                self.cancel_told = true;
                Input::CancelAsked
            }
            () = at(self.total_at) => {
                self.total_at = None;
                Input::TimerFired(Timer::Total)
            }
            () = at(self.cancel_at) => {
                self.cancel_at = None;
                Input::TimerFired(Timer::Cancel)
            }
            () = at(self.flush_at) => return None,
            signal = next_signal(&mut self.link) => {
                self.is_fed |= self.has_begun && !matches!(signal, AgentSignal::Exited(_));
                Input::Signal(signal)
            }
            () = at(self.silence_at) => {
                self.silence_at = None;
                Input::TimerFired(Timer::Silence)
            }
        };
        Some(input)
    }

    fn tell_of_closing(&self, report: &CloseReport) {
        tell_of_closing(&self.log.facts, report);
    }

    /// Makes what was recorded durable; an input comes back when the store refuses.
    async fn flush(&mut self) -> Option<Input> {
        self.flush_at = None;
        self.seen_at = self.has_begun.then(Instant::now);
        self.note_resume_key();
        let refused = self.log.flush(&self.shared.recorder).await;
        refused.map(|error| {
            tracing::error!(turn = %self.log.facts, %error, "events of a turn could not be recorded");
            Input::RecordRefused
        })
    }

    /// Ends a turn that never reached an agent, or none any more.
    pub async fn end_with(&mut self, failure: Failure, lived: Duration) {
        self.record_end(TurnEnd { failure: Some(failure), ..TurnEnd::default() }, 0, lived).await;
    }

    async fn record_end(&mut self, end: TurnEnd, events_dropped: u64, lived: Duration) {
        self.flush_at = None;
        self.note_resume_key();
        self.log.end(&self.shared.recorder, self.shared.ids.now(), outcome(end, events_dropped, lived)).await;
    }

    /// After a panic: the tree must be gone before the turn is told to be over, and nobody may still work in
    /// its directory. What panicked may do so again; its tree was dropped then, which kills it.
    async fn close_whatever_is_open(&mut self) {
        self.given_up.cancel();
        self.may_survive = true;
        let grace = self.shared.options.kill_grace;
        let (link, warm) = (self.link.take(), self.warm.take());
        let (opening, closing) = (self.opening.take(), self.closing.take());
        let close = async {
            if let Some(closing) = closing {
                closing.await;
            }
        };
        let close_opened = async {
            let opened = match opening {
                Some(opening) => opening.await.ok().and_then(|opened| opened.link),
                None => link,
            };
            for link in opened.into_iter().chain(warm) {
                link.close(grace).await;
            }
        };
        let (close, close_opened) =
            (AssertUnwindSafe(close).catch_unwind(), AssertUnwindSafe(close_opened).catch_unwind());
        let both = async { (close.await, close_opened.await) };
        match tokio::time::timeout(grace + CLOSE_AFTER_PANIC_MAX, both).await {
            Ok((Ok(()), Ok(()))) => {}
            Ok(_) => {
                tracing::error!(turn = %self.log.facts, "closing an agent panicked; its processes are killed");
            }
            Err(_) => {
                tracing::error!(turn = %self.log.facts, "an agent could not be closed in time; it is killed");
            }
        }
    }
}

/// Says in the log what ending an agent's processes came to, where that was not nothing.
pub(crate) fn tell_of_closing(whose: &impl std::fmt::Display, report: &CloseReport) {
    if report.survivors > 0 {
        tracing::error!(turn = %whose, process.survivors = report.survivors, "processes of a turn could not be ended");
    } else if report.killed > 0 {
        tracing::info!(turn = %whose, process.killed = report.killed, "processes a turn left behind were killed");
    }
}

/// The future's value, or never where there is none.
async fn present<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Waits for the instant, or for ever where there is none.
pub(crate) async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn next_signal(link: &mut Option<Box<dyn AgentLink>>) -> AgentSignal {
    match link {
        Some(link) => link.next_signal().await,
        None => std::future::pending().await,
    }
}
