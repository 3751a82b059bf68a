//! One conversation with one agent behind acpx.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_core::agent::{AgentSignal, Exit, Failure, FailureKind, TurnEnd};
use clawdforge_core::limits::AGENT_LINE_BYTES_MAX;
use clawdforge_process::lines::{Line, LineReader};
use clawdforge_process::{ExitReport, Kin, StdinMode};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::call::Caller;
use super::stream::Stream;
use super::talk::{Doing, Leaving, Talk};
use crate::acp::blocks;
use crate::waiting::{present, until};
use crate::{AgentLink, CloseReport, LinkContext, Prompt};

/// The time limit that acpx is told. Ours always comes first (a day at most, and then the time a cancel may
/// take): its own would end with the agent, and starts to act only 1 to 5 s after it has passed.
const TIMEOUT: Duration = Duration::from_secs(86_400 + 600);

/// Bytes of a prompt with all its blocks as JSON. The owner takes 10 MiB with what acpx adds, and says of
/// more only that it does not know what became of it.
const PROMPT_BYTES_MAX: usize = 9 * 1024 * 1024;

/// How long a cancel may take; it is at the agent after 0.15 s.
const CANCEL_CALL_MAX: Duration = Duration::from_secs(5);

/// Before a turn is cancelled again whose prompt had not reached its owner yet.
const CANCEL_PAUSE: Duration = Duration::from_millis(250);

/// How long `sessions close` may take, which waits for the owner: 1.2 to 3.4 s were seen.
const CLOSE_CALL_MAX: Duration = Duration::from_secs(6);

/// Between two looks for an owner that has ended, while acpx waits for that.
const REAP_PAUSE: Duration = Duration::from_millis(20);

/// How long to wait for the exit of a call whose output has ended, and for the end of the output of one that
/// has exited.
const EXIT_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long a call may stay after its result: acpx waits for a second of silence, 5 s at most.
const LINGER_MAX: Duration = Duration::from_secs(10);

/// The link of one conversation.
pub(super) struct AcpxLink {
    caller: Caller,
    /// The agent's own id of the conversation; none when what it stands for is lost.
    session: Option<String>,
    context: LinkContext,
    ttl: Duration,
    turn: Option<Talk>,
    /// The call of the turn before, which stays a second longer than it has to.
    leaving: Option<Leaving>,
    cancelling: Option<Doing<bool>>,
    /// The owner that acpx keeps, the agent, and whatever that started. Dropped after the calls: an owner below a
    /// living call is the call's.
    kin: Kin,
    /// What the conversation has cost so far.
    cost: Option<f64>,
    ready: VecDeque<AgentSignal>,
    /// A prompt was given, so there is an owner.
    has_owner: bool,
    /// The agent has been told something, so it has something to remember.
    has_memory: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Turns may be begun.
    Usable,
    /// The owner may live, but what it would do with another prompt is not known.
    Spoilt,
    /// The owner is gone, and that was told.
    Gone,
}

/// What happened during a turn.
enum Noticed {
    Line(Option<Line>),
    Fed,
    Cancelled(bool),
    Exit(ExitReport),
    TimeUp,
}

impl AcpxLink {
    pub(super) fn new(caller: Caller, kin: Kin, session: String, context: LinkContext, ttl: Duration) -> Self {
        Self {
            caller,
            kin,
            session: Some(session),
            context,
            ttl,
            turn: None,
            leaving: None,
            cancelling: None,
            cost: None,
            ready: VecDeque::new(),
            has_owner: false,
            has_memory: context == LinkContext::Resumed,
            state: State::Usable,
        }
    }

    async fn notice(&mut self) -> Noticed {
        let Some(turn) = &mut self.turn else { return pending().await };
        // Every branch is cancel-safe: what is under way lives in fields.
        tokio::select! {
            biased;
            line = turn.lines.next_line(), if !turn.silent => Noticed::Line(line.unwrap_or_else(|error| {
                tracing::warn!(%error, "what acpx says could not be read any more");
                None
            })),
            () = present(&mut turn.feeding) => Noticed::Fed,
            took = present(&mut self.cancelling) => Noticed::Cancelled(took),
            exit = turn.tree.wait(), if turn.exit.is_none() => Noticed::Exit(exit),
            () = until(turn.end_by) => Noticed::TimeUp,
        }
    }

    fn take_in(&mut self, noticed: Noticed) {
        let Some(turn) = &mut self.turn else { return };
        let end_by = || Instant::now() + EXIT_WAIT_MAX;
        match noticed {
            Noticed::Line(Some(Line::Whole(line))) => {
                let signals = turn.stream.take(&line);
                // The id of an unannounced new conversation is never on record, not even until the turn ends: a crash
                // in between would have it resumed as though it remembered.
                if turn.stream.has_lost_context() {
                    self.session = None;
                } else if let Some(session) = turn.stream.session() {
                    self.session = Some(session.to_owned());
                }
                let is_over = matches!(signals.last(), Some(AgentSignal::TurnEnded(_)));
                self.ready.extend(signals);
                if is_over {
                    self.end_turn(true);
                }
            }
            Noticed::Line(Some(Line::Oversized { bytes, head })) => {
                let raw = format!("[a line of {bytes} bytes] {}", String::from_utf8_lossy(&head));
                self.ready.push_back(AgentSignal::Unrecognised { raw });
            }
            Noticed::Line(None) => {
                turn.silent = true;
                turn.end_by.get_or_insert_with(end_by);
                if turn.exit.is_some() {
                    self.end_without_result();
                }
            }
            Noticed::Fed => turn.feeding = None,
            Noticed::Cancelled(took) => {
                self.cancelling = None;
                // It was told before the prompt had reached its owner.
                if !took && turn.cancelled {
                    self.cancelling = Some(cancel(self.caller.clone(), CANCEL_PAUSE));
                }
            }
            Noticed::Exit(exit) => {
                turn.exit = Some(exit);
                turn.end_by.get_or_insert_with(end_by);
                if turn.silent {
                    self.end_without_result();
                }
            }
            Noticed::TimeUp => self.end_without_result(),
        }
    }

    fn end_turn(&mut self, has_result: bool) {
        let Some(Talk { tree, lines, stream, .. }) = self.turn.take() else { return };
        self.cost = stream.cost();
        self.has_memory = true;
        // Another link asks the agent again and, if its context was lost, begins anew in the open.
        if !has_result || stream.has_lost_context() || stream.has_lost_program() {
            self.state = State::Spoilt;
        }
        self.leaving = Some(Leaving { tree, lines, until: Instant::now() + LINGER_MAX });
    }

    /// No result line is a failure, whatever the exit code.
    fn end_without_result(&mut self) {
        let Some(turn) = &self.turn else { return };
        let agent = &self.caller.agent;
        let stderr = turn.tree.stderr_tail();
        let failure = match turn.stream.refusal() {
            Some(refusal) => {
                tracing::warn!(agent.name = agent, error = refusal.message(), "acpx ended a turn with an error");
                refusal.failure(agent)
            }
            None => {
                let code = turn.exit.unwrap_or_default().code;
                tracing::warn!(agent.name = agent, process.code = code, stderr, "acpx ended a turn without a result");
                Failure::new(FailureKind::Crashed, "acpx ended without the agent's answer; send the prompt again")
            }
        };
        self.end_turn(false);
        self.ready.push_back(AgentSignal::TurnEnded(TurnEnd { failure: Some(failure), stderr, ..TurnEnd::default() }));
    }

    /// Between turns: waits until the owner is gone.
    async fn idle(&mut self) -> AgentSignal {
        if let Some(leaving) = &mut self.leaving {
            leaving.gone().await;
        }
        if let Some(leaving) = self.leaving.take() {
            // Its exit was waited for; dropped here, it would be killed as well.
            leaving.tree.end(Duration::ZERO).await;
        }
        if let Some(cancelling) = &mut self.cancelling {
            cancelling.await;
            self.cancelling = None;
        }
        if self.state == State::Gone || !self.has_owner {
            return pending().await;
        }
        self.kin.eldest_gone().await;
        self.state = State::Gone;
        AgentSignal::Exited(Exit::default())
    }
}

#[async_trait]
impl AgentLink for AcpxLink {
    async fn begin_turn(&mut self, prompt: Prompt) -> Result<(), Failure> {
        if self.turn.is_some() || self.state != State::Usable {
            return Err(Failure::new(FailureKind::Internal, "the agent cannot take a prompt now"));
        }
        let blocks = serde_json::to_vec(&blocks(prompt, false).await);
        let blocks = blocks.map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?;
        if blocks.len() > PROMPT_BYTES_MAX {
            let message = format!("acpx takes prompts of at most {PROMPT_BYTES_MAX} bytes; attach long texts as files");
            return Err(Failure::new(FailureKind::RequestTooLarge, message));
        }
        if let Some(cancelling) = self.cancelling.take() {
            // It must not reach the next turn. It ends by itself within its own limit.
            cancelling.await;
        }
        if let Some(leaving) = self.leaving.take() {
            // The owner goes on without it, and takes the next prompt after its second of silence.
            leaving.tree.end(Duration::ZERO).await;
        }
        let (ttl, limit) = (self.ttl.as_secs().to_string(), TIMEOUT.as_secs().to_string());
        let first = ["--ttl", &ttl, "--timeout", &limit];
        let verb = ["prompt", "-s", self.caller.name(), "-f", "-"];
        let mut tree = self.caller.start(&first, &verb, StdinMode::Piped).await?;
        self.has_owner = true;
        let pipes = tree.take_stdin().zip(tree.take_stdout());
        let (mut stdin, stdout) = pipes.ok_or_else(|| Failure::new(FailureKind::Internal, "acpx has no pipes"))?;
        let feeding = async move {
            if let Err(error) = stdin.write_all(&blocks).await {
                // It says itself why it did not read on, or ends without a result.
                tracing::debug!(%error, "acpx did not take the whole prompt");
            }
        };
        self.turn = Some(Talk {
            tree,
            lines: LineReader::new(stdout, AGENT_LINE_BYTES_MAX),
            feeding: Some(Box::pin(feeding)),
            stream: Stream::new(self.cost, self.has_memory),
            exit: None,
            silent: false,
            end_by: None,
            cancelled: false,
        });
        Ok(())
    }

    fn cancel_turn(&mut self) {
        let Some(turn) = &mut self.turn else { return };
        turn.cancelled = true;
        if self.cancelling.is_none() {
            self.cancelling = Some(cancel(self.caller.clone(), Duration::ZERO));
        }
    }

    fn context(&self) -> LinkContext {
        self.context
    }

    fn resume_key(&self) -> Option<String> {
        self.session.clone()
    }

    fn is_usable(&self) -> bool {
        self.state == State::Usable && self.turn.is_none()
    }

    /// No process of ours leads the others: they are found by their mark.
    fn process(&self) -> Option<String> {
        Some(format!("acpx:{}", self.caller.mark))
    }

    async fn next_signal(&mut self) -> AgentSignal {
        loop {
            if let Some(signal) = self.ready.pop_front() {
                return signal;
            }
            if self.turn.is_none() {
                return self.idle().await;
            }
            let noticed = self.notice().await;
            self.take_in(noticed);
        }
    }

    /// Ends the turn and the owner as acpx does it, which may take some seconds beside `grace`; then whatever
    /// carries the mark.
    async fn close(self: Box<Self>, grace: Duration) -> CloseReport {
        let Self { caller, mut kin, turn, leaving, cancelling, has_owner, state, .. } = *self;
        drop(cancelling);
        if has_owner && state != State::Gone {
            let never = CancellationToken::new();
            let verb = ["sessions", "close", caller.name()];
            let closing = caller.ask(&[], &verb, CLOSE_CALL_MAX, &never);
            tokio::pin!(closing);
            loop {
                // It waits for the owner by its number, and would take a zombie for alive.
                let reaped = async {
                    kin.eldest_gone().await;
                    sleep(REAP_PAUSE).await;
                };
                tokio::select! {
                    closed = &mut closing => {
                        if let Err(error) = closed {
                            let Failure { message, .. } = error.into_failure(&caller.agent);
                            tracing::debug!(agent.name = caller.agent, error = message, "acpx did not close a session");
                        }
                        break;
                    }
                    () = reaped => {}
                }
            }
        }
        let mut report = CloseReport::default();
        let calls = turn.map(|turn| turn.tree).into_iter().chain(leaving.map(|leaving| leaving.tree));
        for tree in calls {
            report.stderr = tree.stderr_tail();
            report.survivors += tree.end(Duration::ZERO).await.survivors;
        }
        let ended = kin.end(grace).await;
        report.killed = ended.killed;
        report.survivors += ended.survivors;
        report
    }
}

/// Tells the owner to cancel; whether there was a turn to cancel.
fn cancel(caller: Caller, pause: Duration) -> Doing<bool> {
    Box::pin(async move {
        sleep(pause).await;
        let never = CancellationToken::new();
        let told = caller.ask(&[], &["cancel", "-s", caller.name()], CANCEL_CALL_MAX, &never).await;
        match told {
            Ok(answer) => answer["cancelled"] == true,
            Err(error) => {
                let Failure { message, .. } = error.into_failure(&caller.agent);
                tracing::debug!(agent.name = caller.agent, error = message, "a turn could not be cancelled yet");
                false
            }
        }
    })
}
