//! The owner of a turn: one task that has its agent, its machine and its event numbers.
//!
//! It waits for a slot, then feeds what happens into the machine and performs the effects in order.
//! Everything it owns goes when it ends: the agent's process tree, the run's directory, the slot.

mod log;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use clawdforge_agent::{AgentDriver, AgentLink, CloseReport, OpenSpec, Prompt};
use clawdforge_core::agent::{AgentSignal, Failure, FailureKind, TurnEnd};
use clawdforge_core::event::EventBody;
use clawdforge_core::file::File;
use clawdforge_core::id::SessionId;
use clawdforge_core::ledger::RunFacts;
use clawdforge_core::machine::{Effect, Input, Timer, TurnLimits, TurnMachine};
use clawdforge_core::run::RunRequest;
use clawdforge_core::session::Session;
use clawdforge_core::turn::Turn;
use clawdforge_process::TreeMark;
use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::Shared;
use crate::hub::Publisher;
use crate::runs::PROMPT_SEQ;
use crate::slots::{Slot, Ticket};
use crate::tasks::{OnError, TaskKind};
use crate::workspace::Workspace;

use self::log::{TurnLog, outcome};

/// How long events are gathered before they are committed: short enough to watch, long enough that a
/// burst costs one flush of the disk.
const GATHER: Duration = Duration::from_millis(40);

/// How long, beyond the grace of its agent, a run whose owner panicked may take to be closed.
const CLOSE_AFTER_PANIC_MAX: Duration = Duration::from_secs(10);

const OWNER: TaskKind = TaskKind { name: "owner", on_error: OnError::Log };

/// A turn that was accepted, with all it needs.
pub(crate) struct Work {
    pub session: Session,
    pub turn: Turn,
    pub request: RunRequest,
    pub facts: RunFacts,
    pub attachments: Vec<File>,
    pub driver: Arc<dyn AgentDriver>,
    pub place: Ticket,
    pub publisher: Publisher,
}

type Opening = Pin<Box<dyn Future<Output = Result<(Box<dyn AgentLink>, String), Failure>> + Send>>;
type Closing = Pin<Box<dyn Future<Output = CloseReport> + Send>>;

/// Starts the task that owns the turn.
pub(crate) fn start(shared: &Arc<Shared>, work: Work) {
    shared.work.spawn(OWNER, own(Arc::clone(shared), work));
}

async fn own(shared: Arc<Shared>, work: Work) {
    let Work { session, turn, mut request, facts, attachments, driver, place, publisher } = work;
    let waits = matches!(place, Ticket::Waiting(_));
    if waits {
        // The log has them; a long queue of large prompts must not be held in memory.
        (request.prompt, request.system) = (String::new(), None);
    }
    let workspace = shared.workspaces.of(session.id.into());
    let waiting_since = Instant::now();
    let mut owner = Owner {
        log: TurnLog::new(session, turn, facts, publisher),
        started: None,
        shared,
        link: None,
        opening: None,
        closing: None,
        prompt: None,
        total_at: None,
        silence_at: None,
        flush_at: None,
        drain_told: false,
        given_up: CancellationToken::new(),
    };
    let slot = match wait_for_slot(&owner.shared, place).await {
        Ok(slot) => slot,
        Err(failure) => {
            let end = TurnEnd { failure: Some(failure), ..TurnEnd::default() };
            owner.record_end(end, 0, waiting_since.elapsed()).await;
            return;
        }
    };
    if waits && let Err(failure) = read_prompt(&owner.shared, owner.log.turn.session, &mut request).await {
        let end = TurnEnd { failure: Some(failure), ..TurnEnd::default() };
        owner.record_end(end, 0, waiting_since.elapsed()).await;
        return;
    }
    let story = owner.live(request, attachments, driver, workspace.clone());
    if AssertUnwindSafe(story).catch_unwind().await.is_err() {
        tracing::error!(run.id = %owner.log.facts.run, "the owner of a run panicked; the run is ended as failed");
        let failure = Failure::new(FailureKind::Internal, "the service failed while it looked after this run");
        owner.close_whatever_is_open().await;
        let lived = owner.started.map_or(Duration::ZERO, |at| at.elapsed());
        owner.record_end(TurnEnd { failure: Some(failure), ..TurnEnd::default() }, 0, lived).await;
    }
    if tokio::task::spawn_blocking(move || workspace.remove()).await.is_err() {
        tracing::error!("removing the directory of a run panicked");
    }
    drop::<Slot>(slot);
}

async fn wait_for_slot(shared: &Shared, place: Ticket) -> Result<Slot, Failure> {
    let waiting = match place {
        Ticket::Ready(slot) => return Ok(slot),
        Ticket::Waiting(waiting) => waiting,
    };
    let wait_max = shared.options.queue_wait_max;
    tokio::select! {
        biased;
        slot = waiting => slot.map_err(|_gone| interrupted()),
        () = shared.stopping.cancelled() => Err(interrupted()),
        () = tokio::time::sleep(wait_max) => Err(Failure::new(
            FailureKind::QueueExpired,
            format!("no slot became free within {} s; nothing was started, try again", wait_max.as_secs()),
        )),
    }
}

/// Reads back from the log what was let go of while the turn waited.
async fn read_prompt(shared: &Shared, session: SessionId, request: &mut RunRequest) -> Result<(), Failure> {
    let read = shared.store.events.events_after(session, PROMPT_SEQ - 1, 1).await;
    let error = match read.map(|events| events.into_iter().next().map(|event| event.body)) {
        Ok(Some(EventBody::Prompt { text, system, .. })) => {
            (request.prompt, request.system) = (text, system);
            return Ok(());
        }
        Ok(_) => "the log does not begin with the prompt".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::error!(session.id = %session, error, "the prompt of a run that waited could not be read");
    Err(Failure::new(FailureKind::Internal, "the service could not read the prompt again; nothing was started"))
}

fn interrupted() -> Failure {
    Failure::new(
        FailureKind::Interrupted,
        "the service was stopped before an agent was started; send the request again",
    )
}

struct Owner {
    shared: Arc<Shared>,
    log: TurnLog,
    started: Option<Instant>,
    link: Option<Box<dyn AgentLink>>,
    opening: Option<Opening>,
    closing: Option<Closing>,
    prompt: Option<String>,
    total_at: Option<Instant>,
    silence_at: Option<Instant>,
    flush_at: Option<Instant>,
    drain_told: bool,
    /// Tells what is still opening that nobody wants it any more.
    given_up: CancellationToken,
}

impl Owner {
    async fn live(
        &mut self,
        request: RunRequest,
        attachments: Vec<File>,
        driver: Arc<dyn AgentDriver>,
        workspace: Workspace,
    ) {
        let silence = self.shared.options.silence_max;
        let (mut machine, effects) = TurnMachine::start(TurnLimits { total: request.timeout, silence });
        self.started = Some(Instant::now());
        let mut open = Some(self.opening(request, attachments, driver, workspace));
        let mut effects = effects;
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
            Effect::Record(body) => {
                let full = self.log.push(self.shared.ids.now(), body);
                if full {
                    return self.flush().await;
                }
                self.flush_at.get_or_insert_with(|| Instant::now() + GATHER);
                None
            }
            Effect::OpenLink => {
                // What was recorded must be durable before an agent can act on it.
                let refused = self.flush().await;
                if refused.is_none() {
                    self.opening = open.take();
                }
                refused
            }
            Effect::BeginTurn => self.begin_turn().await,
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
            Effect::SetTimer(Timer::Total, after) => {
                self.total_at = Some(Instant::now() + after);
                None
            }
            Effect::SetTimer(Timer::Silence, after) => {
                self.silence_at = Some(Instant::now() + after);
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

    /// Everything slow between the slot and an agent that is ready: the directory, then the link.
    fn opening(
        &self,
        mut request: RunRequest,
        attachments: Vec<File>,
        driver: Arc<dyn AgentDriver>,
        workspace: Workspace,
    ) -> Opening {
        let files = attachments.into_iter().map(|file| (file.clone(), self.shared.files.path(file.id)));
        let files: Vec<_> = files.collect();
        let mark = self.log.turn.id.to_string();
        let given_up = self.given_up.clone();
        Box::pin(async move {
            let internal = |what: String| {
                tracing::error!(error = what, "a run could not be prepared");
                Failure::new(FailureKind::Internal, "the service could not prepare the run")
            };
            let mark = TreeMark::new(mark).map_err(|error| internal(error.to_string()))?;
            let prompt = std::mem::take(&mut request.prompt);
            let laid = workspace.clone();
            let prepared = tokio::task::spawn_blocking(move || laid.prepare(&files, prompt, &given_up)).await;
            let prompt = prepared.map_err(|error| internal(error.to_string()))??;
            let spec = OpenSpec {
                workspace: workspace.work(),
                scratch: workspace.scratch(),
                mark,
                model: Some(request.model),
                resume: None,
                system: request.system,
                system_mode: request.system_mode,
                effort: request.effort,
            };
            Ok((driver.open(spec).await?, prompt))
        })
    }

    async fn begin_turn(&mut self) -> Option<Input> {
        let (Some(link), Some(prompt)) = (self.link.as_mut(), self.prompt.take()) else {
            let failure = Failure::new(FailureKind::Internal, "there is no agent to give the prompt to");
            return Some(Input::OpenFailed(failure));
        };
        if let Err(failure) = link.begin_turn(Prompt { text: prompt, ..Prompt::default() }).await {
            return Some(Input::OpenFailed(failure));
        }
        if let Some(process) = link.process() {
            self.log.note_process(process);
            return self.flush().await;
        }
        None
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

    /// Waits for one thing to happen; `None` means that gathered events are due. Every branch is cancel-safe: the futures of opening and closing
    /// stay in their fields, a link's signals are not lost, the rest are timers and flags.
    async fn next(&mut self) -> Option<Input> {
        let input = tokio::select! {
            biased;
            opened = present(&mut self.opening) => {
                self.opening = None;
                match opened {
                    Ok((link, prompt)) => {
                        self.link = Some(link);
                        self.prompt = Some(prompt);
                        Input::LinkOpened
                    }
                    Err(failure) => Input::OpenFailed(failure),
                }
            }
            report = present(&mut self.closing) => {
                self.closing = None;
                self.tell_of_closing(&report);
                Input::LinkClosed { stderr: report.stderr }
            }
            () = self.shared.expired.cancelled(), if !self.drain_told => {
                self.drain_told = true;
                Input::DrainExpired
            }
            () = at(self.total_at) => {
                self.total_at = None;
                Input::TimerFired(Timer::Total)
            }
            () = at(self.flush_at) => return None,
            signal = next_signal(&mut self.link) => Input::Signal(signal),
            () = at(self.silence_at) => {
                self.silence_at = None;
                Input::TimerFired(Timer::Silence)
            }
        };
        Some(input)
    }

    fn tell_of_closing(&self, report: &CloseReport) {
        let run = self.log.facts.run;
        if report.survivors > 0 {
            tracing::error!(run.id = %run, process.survivors = report.survivors, "processes of a run could not be ended");
        } else if report.killed > 0 {
            tracing::info!(run.id = %run, process.killed = report.killed, "processes a run left behind were killed");
        }
    }

    /// Makes what was recorded durable; an input comes back when the store refuses.
    async fn flush(&mut self) -> Option<Input> {
        self.flush_at = None;
        let refused = self.log.flush(&self.shared.recorder).await;
        refused.map(|error| {
            tracing::error!(run.id = %self.log.facts.run, %error, "events of a run could not be recorded");
            Input::RecordRefused
        })
    }

    async fn record_end(&mut self, end: TurnEnd, events_dropped: u64, lived: Duration) {
        self.flush_at = None;
        self.log.end(&self.shared.recorder, self.shared.ids.now(), outcome(end, events_dropped, lived)).await;
    }

    /// After a panic: the tree must be gone before the run is told to be over, and nobody may still work in
    /// its directory. What panicked may do so again; its tree was dropped then, which kills it.
    async fn close_whatever_is_open(&mut self) {
        self.given_up.cancel();
        let grace = self.shared.options.kill_grace;
        let (link, opening, closing) = (self.link.take(), self.opening.take(), self.closing.take());
        let close = async {
            if let Some(closing) = closing {
                closing.await;
            }
        };
        let close_opened = async {
            let opened = match opening {
                Some(opening) => opening.await.ok().map(|(link, _)| link),
                None => link,
            };
            if let Some(link) = opened {
                link.close(grace).await;
            }
        };
        let (close, close_opened) =
            (AssertUnwindSafe(close).catch_unwind(), AssertUnwindSafe(close_opened).catch_unwind());
        let both = async { (close.await, close_opened.await) };
        match tokio::time::timeout(grace + CLOSE_AFTER_PANIC_MAX, both).await {
            Ok((Ok(()), Ok(()))) => {}
            Ok(_) => {
                tracing::error!(run.id = %self.log.facts.run, "closing an agent panicked; its processes are killed")
            }
            Err(_) => {
                tracing::error!(run.id = %self.log.facts.run, "an agent could not be closed in time; it is killed")
            }
        }
    }
}

/// The future's value, or never where there is none.
async fn present<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn at(instant: Option<Instant>) {
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
