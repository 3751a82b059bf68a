//! One conversation with one agent process.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::v1::schema::{CancelNotification, CloseSessionRequest, PromptRequest, PromptResponse};
use agent_client_protocol::{Error, ErrorCode, is_connection_terminated, is_incoming_transport_closed};
use async_trait::async_trait;
use clawdforge_core::agent::{AgentSignal, Exit, Failure, FailureKind, TurnEnd, Usage};
use clawdforge_process::{ExitReport, LeaderWatch};
use tokio::time::{Instant, timeout};

use super::blocks;
use super::host::AcpHost;
use super::peer::{Inbound, Over, Peer};
use super::quirks::Quirks;
use super::translate::{Turn, is_without_program};
use crate::waiting::{present, until};
use crate::{AgentLink, CloseReport, LinkContext, Prompt};

/// How long to wait for the exit of an agent whose output has ended: it may live on without one.
const EXIT_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long to wait for the end of the output of an agent that has exited: a process it left behind may
/// hold it open.
const REST_WAIT_MAX: Duration = Duration::from_millis(200);

/// Bytes of an oversized line that are shown.
const SHOWN_BYTES_MAX: usize = 256;

type Prompting = Pin<Box<dyn Future<Output = Result<PromptResponse, Error>> + Send>>;

/// The link of one conversation.
pub(super) struct AcpLink {
    host: Arc<AcpHost>,
    /// Closing the link ends the process: it is there for this conversation alone.
    owns: bool,
    leader: LeaderWatch,
    peer: Peer,
    context: LinkContext,
    turn: Option<Turn>,
    /// What the conversation has cost so far.
    cost: Option<f64>,
    /// What the agent said of tokens when it spoke of them last.
    told: Usage,
    prompting: Option<Prompting>,
    ready: VecDeque<AgentSignal>,
    exit: Option<ExitReport>,
    /// Nothing more will come from it.
    silent: bool,
    /// When to stop waiting for what is missing of the end.
    end_by: Option<Instant>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Turns may be begun.
    Usable,
    /// The agent lives, but has lost the conversation.
    Forgotten,
    /// The agent lives and has the conversation, but nobody listened to it for too long.
    Overrun,
    /// The agent is gone, and that was told.
    Gone,
}

impl AcpLink {
    pub(super) fn new(host: Arc<AcpHost>, owns: bool, leader: LeaderWatch, peer: Peer, context: LinkContext) -> Self {
        Self {
            host,
            owns,
            leader,
            peer,
            context,
            turn: None,
            cost: None,
            told: Usage::default(),
            prompting: None,
            ready: VecDeque::new(),
            exit: None,
            silent: false,
            end_by: None,
            state: State::Usable,
        }
    }

    fn take_in(&mut self, inbound: Inbound) {
        // What comes outside of a turn belongs to none.
        let Some(turn) = &mut self.turn else { return };
        match inbound {
            Inbound::Update(update) => self.ready.extend(turn.update(*update)),
            Inbound::Oversized { bytes, head } => {
                let head = String::from_utf8_lossy(head.get(..SHOWN_BYTES_MAX).unwrap_or(&head)).into_owned();
                self.ready.push_back(AgentSignal::Unrecognised { raw: format!("[a line of {bytes} bytes] {head}") });
            }
        }
    }

    fn answered(&mut self, answer: Result<PromptResponse, Error>) {
        self.prompting = None;
        // All updates of the turn were handed in before its answer.
        while let Some(inbound) = self.peer.next_now() {
            self.take_in(inbound);
        }
        match answer {
            Err(error) if is_incoming_transport_closed(&error) || is_connection_terminated(&error) => {
                self.end_by.get_or_insert_with(|| Instant::now() + EXIT_WAIT_MAX);
            }
            Err(error) if self.turn.as_ref().is_some_and(|turn| turn.is_lost_by(&error)) => {
                self.state = State::Forgotten;
                self.turn = None;
                let message = "the agent lost the conversation before it took the prompt; send the prompt again";
                let failure = Some(Failure::new(FailureKind::Crashed, message));
                self.ready.push_back(AgentSignal::TurnEnded(TurnEnd { failure, ..TurnEnd::default() }));
            }
            answer => {
                if let Err(error) = &answer {
                    tracing::debug!(%error, "a prompt was answered with an error");
                    if is_without_program(error) {
                        self.state = State::Forgotten;
                    }
                }
                if let Some(mut turn) = self.turn.take() {
                    self.ready.extend(turn.ended(answer));
                    self.cost = turn.cost();
                    self.told = turn.told_usage();
                }
            }
        }
    }

    /// What the agent says after this is lost, and the turn with it. The agent is not told: closing the link ends its turn.
    fn overrun(&mut self) {
        self.state = State::Overrun;
        if self.turn.take().is_some() {
            let message = "the service did not keep up with what the agent said, and lost some; send the prompt again";
            let failure = Some(Failure::new(FailureKind::Internal, message));
            self.ready.push_back(AgentSignal::TurnEnded(TurnEnd { failure, ..TurnEnd::default() }));
        }
    }

    async fn gone(&mut self) -> AgentSignal {
        let stderr = match self.exit {
            Some(_) => self.host.all_last_words().await,
            None => self.host.last_words().await,
        };
        self.state = State::Gone;
        self.turn = None;
        let exit = self.exit.unwrap_or_default();
        AgentSignal::Exited(Exit { code: exit.code, signal: exit.signal, stderr })
    }

    /// Leaves the conversation and lets the process go on with others; false where the agent does not let go.
    pub(super) async fn leave(&mut self, grace: Duration) -> bool {
        if self.state == State::Gone || self.exit.is_some() {
            return true;
        }
        let request = CloseSessionRequest::new(self.peer.session().to_owned());
        let closing = self.peer.to_agent().send_request(request).block_task();
        // A turn that is under way is ended by that as well; its end must come before others can be trusted to go on.
        let prompting = self.prompting.take();
        let both = async {
            let (closed, _ended) = tokio::join!(closing, async {
                match prompting {
                    Some(prompting) => Some(prompting.await),
                    None => None,
                }
            });
            closed
        };
        match timeout(grace, self.peer.wait(both)).await {
            Ok(Ok(_)) => true,
            // What the agent does not know it does not hold.
            Ok(Err(error)) => error.code == ErrorCode::RESOURCE_NOT_FOUND || self.state == State::Forgotten,
            Err(_) => false,
        }
    }
}

enum Noticed {
    Inbound(Inbound),
    Overrun,
    Closed,
    Answered(Result<PromptResponse, Error>),
    Exit(ExitReport),
    TimeUp,
}

#[async_trait]
impl AgentLink for AcpLink {
    async fn begin_turn(&mut self, prompt: Prompt) -> Result<(), Failure> {
        if self.turn.is_some() || self.state != State::Usable {
            return Err(Failure::new(FailureKind::Internal, "the agent cannot take a prompt now"));
        }
        let embeds = self.host.capabilities().prompt_capabilities.embedded_context;
        let blocks = blocks(prompt, embeds).await;
        let request = PromptRequest::new(self.peer.session().to_owned(), blocks);
        let quirks = Quirks::of(self.host.offered());
        self.peer.turn_begins();
        self.turn = Some(Turn::after(self.cost).of(quirks, self.told.clone()));
        self.prompting = Some(Box::pin(self.peer.to_agent().send_request(request).block_task()));
        Ok(())
    }

    fn cancel_turn(&mut self) {
        self.peer.turn_is_cancelled();
        if let Err(error) =
            self.peer.to_agent().send_notification(CancelNotification::new(self.peer.session().to_owned()))
        {
            // Whoever cancels waits for the end with a limit.
            tracing::debug!(%error, "a cancel could not be sent");
        }
    }

    fn context(&self) -> LinkContext {
        self.context
    }

    fn resume_key(&self) -> Option<String> {
        Some(self.peer.session().to_owned())
    }

    fn is_usable(&self) -> bool {
        self.state == State::Usable && self.exit.is_none() && !self.leader.has_ended()
    }

    fn process(&self) -> Option<String> {
        Some(self.host.process_text().to_owned())
    }

    async fn next_signal(&mut self) -> AgentSignal {
        loop {
            if let Some(signal) = self.ready.pop_front() {
                return signal;
            }
            if self.state == State::Gone {
                return pending().await;
            }
            // Every branch is cancel-safe: what is under way lives in fields.
            let noticed = tokio::select! {
                biased;
                inbound = self.peer.next(), if !self.silent && self.state != State::Overrun => match inbound {
                    Ok(inbound) => Noticed::Inbound(inbound),
                    Err(Over::Closed) => Noticed::Closed,
                    Err(Over::Overrun) => Noticed::Overrun,
                },
                answer = present(&mut self.prompting) => Noticed::Answered(answer),
                exit = self.leader.exited(), if self.exit.is_none() => Noticed::Exit(exit),
                () = until(self.end_by) => Noticed::TimeUp,
            };
            match noticed {
                Noticed::Inbound(inbound) => self.take_in(inbound),
                Noticed::Overrun => self.overrun(),
                Noticed::Answered(answer) => self.answered(answer),
                Noticed::Exit(exit) => {
                    self.exit = Some(exit);
                    if self.silent {
                        return self.gone().await;
                    }
                    self.end_by = Some(Instant::now() + REST_WAIT_MAX);
                }
                // How it ended is told a moment later, if it has ended.
                Noticed::Closed if self.exit.is_none() => {
                    self.silent = true;
                    self.end_by.get_or_insert_with(|| Instant::now() + EXIT_WAIT_MAX);
                }
                Noticed::Closed | Noticed::TimeUp => return self.gone().await,
            }
        }
    }

    async fn close(mut self: Box<Self>, grace: Duration) -> CloseReport {
        if !self.owns && self.leave(grace).await {
            return CloseReport::default();
        }
        let Self { host, peer, prompting, .. } = *self;
        drop((prompting, peer));
        host.end(grace).await
    }
}
