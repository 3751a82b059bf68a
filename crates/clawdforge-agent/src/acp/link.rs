//! One conversation with one agent process.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use agent_client_protocol::v1::schema::{CancelNotification, PromptRequest, PromptResponse};
use agent_client_protocol::{Error, ErrorCode, is_connection_terminated, is_incoming_transport_closed};
use async_trait::async_trait;
use clawdforge_core::agent::{AgentSignal, Exit, Failure, FailureKind, TurnEnd};
use clawdforge_process::{ExitReport, Tree};
use tokio::time::{Instant, sleep_until, timeout};

use super::blocks;
use super::peer::{Closed, Inbound, Peer};
use super::translate::Turn;
use crate::{AgentLink, CloseReport, LinkContext, Prompt};

/// How long an agent may take to end by itself once its input is closed. Claude's adapter takes 80 ms.
const LEAVE_MAX: Duration = Duration::from_secs(1);

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
    tree: Tree,
    peer: Peer,
    session: String,
    context: LinkContext,
    turn: Option<Turn>,
    /// What the conversation has cost so far.
    cost: Option<f64>,
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
    /// The agent is gone, and that was told.
    Gone,
}

impl AcpLink {
    pub(super) fn new(tree: Tree, peer: Peer, session: String, context: LinkContext) -> Self {
        Self {
            tree,
            peer,
            session,
            context,
            turn: None,
            cost: None,
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
            Err(error) if error.code == ErrorCode::RESOURCE_NOT_FOUND => {
                self.state = State::Forgotten;
                self.turn = None;
                let message = "the agent lost the conversation before it took the prompt; send the prompt again";
                let failure = Some(Failure::new(FailureKind::Crashed, message));
                self.ready.push_back(AgentSignal::TurnEnded(TurnEnd { failure, ..TurnEnd::default() }));
            }
            answer => {
                if let Err(error) = &answer {
                    tracing::debug!(%error, "a prompt was answered with an error");
                }
                if let Some(mut turn) = self.turn.take() {
                    self.ready.extend(turn.ended(answer));
                    self.cost = turn.cost();
                }
            }
        }
    }

    fn gone(&mut self) -> AgentSignal {
        self.state = State::Gone;
        self.turn = None;
        let exit = self.exit.unwrap_or_default();
        AgentSignal::Exited(Exit { code: exit.code, signal: exit.signal, stderr: self.tree.stderr_tail() })
    }
}

enum Noticed {
    Inbound(Inbound),
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
        let blocks = blocks(prompt);
        let request = PromptRequest::new(self.session.clone(), blocks);
        self.turn = Some(Turn::after(self.cost));
        self.prompting = Some(Box::pin(self.peer.to_agent().send_request(request).block_task()));
        Ok(())
    }

    fn cancel_turn(&mut self) {
        if let Err(error) = self.peer.to_agent().send_notification(CancelNotification::new(self.session.clone())) {
            // Whoever cancels waits for the end with a limit.
            tracing::debug!(%error, "a cancel could not be sent");
        }
    }

    fn context(&self) -> LinkContext {
        self.context
    }

    fn resume_key(&self) -> Option<String> {
        Some(self.session.clone())
    }

    fn is_usable(&self) -> bool {
        self.state == State::Usable && self.exit.is_none()
    }

    fn process(&self) -> Option<String> {
        Some(self.tree.identity().to_string())
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
                inbound = self.peer.next(), if !self.silent => inbound.map_or_else(|Closed| Noticed::Closed, Noticed::Inbound),
                answer = present(&mut self.prompting) => Noticed::Answered(answer),
                exit = self.tree.wait(), if self.exit.is_none() => Noticed::Exit(exit),
                () = until(self.end_by) => Noticed::TimeUp,
            };
            match noticed {
                Noticed::Inbound(inbound) => self.take_in(inbound),
                Noticed::Answered(answer) => self.answered(answer),
                Noticed::Exit(exit) => {
                    self.exit = Some(exit);
                    if self.silent {
                        return self.gone();
                    }
                    self.end_by = Some(Instant::now() + REST_WAIT_MAX);
                }
                // How it ended is told a moment later, if it has ended.
                Noticed::Closed if self.exit.is_none() => {
                    self.silent = true;
                    self.end_by.get_or_insert_with(|| Instant::now() + EXIT_WAIT_MAX);
                }
                Noticed::Closed | Noticed::TimeUp => return self.gone(),
            }
        }
    }

    async fn close(self: Box<Self>, grace: Duration) -> CloseReport {
        let Self { mut tree, peer, prompting, .. } = *self;
        // Closes the agent's input, on which agents leave in good order.
        drop((prompting, peer));
        // Passing the time is no failure: the tree is ended next.
        let _ = timeout(LEAVE_MAX.min(grace), tree.wait()).await;
        let stderr = tree.stderr_tail();
        let report = tree.end(grace).await;
        CloseReport { stderr, killed: report.killed, survivors: report.survivors }
    }
}

async fn present(prompting: &mut Option<Prompting>) -> Result<PromptResponse, Error> {
    match prompting {
        Some(prompting) => prompting.await,
        None => pending().await,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
