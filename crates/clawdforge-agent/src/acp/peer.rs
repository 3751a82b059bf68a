//! The connection to one agent process, over our own pipes and with bounded lines, and one conversation's
//! end of it.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{RequestPermissionRequest, SessionNotification, SessionUpdate};
use agent_client_protocol::{Agent, Client, Error, Lines, on_receive_notification, on_receive_request};
use clawdforge_core::limits::AGENT_LINE_BYTES_MAX;
use clawdforge_process::lines::{Line, LineReader};
use futures_util::future::Shared;
use futures_util::{FutureExt, Sink, Stream, sink, stream};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::permission::decide;
use crate::waiting::present;

/// What came for one conversation and was not looked at yet. When it is full, the agent waits, and with it every
/// conversation in its process.
const INBOX_MAX: usize = 256;

/// How long they wait for a conversation that looks at nothing. An owner looks away while it records, which takes
/// milliseconds; one whose disk hangs for longer than this has lost its turn.
const INBOX_WAIT_MAX: Duration = Duration::from_secs(2);

/// Drives the connection. Every conversation has a clone; whoever is polled drives it for all.
type Driving = Shared<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// What an agent sends of its own accord.
#[derive(Debug, Clone)]
pub(super) enum Inbound {
    /// What it does.
    Update(Box<SessionUpdate>),
    /// A line beyond every limit, which was skipped.
    Oversized {
        /// Its length.
        bytes: u64,
        /// How it began.
        head: Vec<u8>,
    },
}

/// The connection to an agent process. Its pipes close with the last clone and the last [`Peer`].
#[derive(Clone)]
pub(super) struct Connection {
    driving: Driving,
    to_agent: ConnectionTo<Agent>,
    inboxes: Inboxes,
}

/// One conversation's end of a connection. Whoever waits for anything of it must do so through
/// [`Self::wait`] or [`Self::next`], which let the connection go on meanwhile.
pub(super) struct Peer {
    /// Absent once the connection is over.
    driving: Option<Driving>,
    to_agent: ConnectionTo<Agent>,
    inboxes: Inboxes,
    session: String,
    inbox: mpsc::Receiver<Inbound>,
}

/// The agent closed its output, or could not be spoken to from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

/// Why nothing more will come for a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The connection is.
    Closed,
    /// Nobody looked at what came for too long: the rest is lost.
    Overrun,
}

/// Where what comes for a conversation goes, by the agent's own id of it.
#[derive(Clone, Default)]
struct Inboxes(Arc<Mutex<HashMap<String, Inbox>>>);

/// The near end of a conversation's inbox.
struct Inbox {
    sender: mpsc::Sender<Inbound>,
    /// Its turn was cancelled: from then on nothing is permitted.
    is_cancelled: bool,
}

impl Inboxes {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Inbox>> {
        // An entry is there or not, so a poisoned lock is usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes for a conversation nobody has (any more) belongs to none. One that looks at nothing loses its inbox,
    /// so that it does not hold up the others.
    async fn put(&self, session: &str, inbound: Inbound) {
        let Some(inbox) = self.lock().get(session).map(|inbox| inbox.sender.clone()) else { return };
        // The inner error: nobody takes it in any more when the link is being closed.
        if timeout(INBOX_WAIT_MAX, inbox.send(inbound)).await.is_err() {
            tracing::warn!("nobody looked at what an agent sent for a conversation; it is cut off from the agent");
            self.lock().remove(session);
        }
    }

    /// Whether a conversation is under way, so that its agent may be permitted anything.
    fn is_at_work(&self, session: &str) -> bool {
        self.lock().get(session).is_some_and(|inbox| !inbox.is_cancelled)
    }

    fn set_cancelled(&self, session: &str, is_cancelled: bool) {
        if let Some(inbox) = self.lock().get_mut(session) {
            inbox.is_cancelled = is_cancelled;
        }
    }

    /// What cannot be told to belong to one conversation is for all of them.
    async fn put_to_all(&self, inbound: &Inbound) {
        let sessions: Vec<String> = self.lock().keys().cloned().collect();
        for session in sessions {
            self.put(&session, inbound.clone()).await;
        }
    }
}

impl Connection {
    /// Begins to speak over these pipes.
    pub(super) async fn begin(stdin: ChildStdin, stdout: ChildStdout) -> Result<Self, Closed> {
        let inboxes = Inboxes::default();
        let transport = Lines::new(outgoing(stdin), incoming(stdout, inboxes.clone()));
        let (hand_out, handed) = oneshot::channel();
        let (receiving, asking) = (inboxes.clone(), inboxes.clone());
        let connecting = Client
            .v1()
            .name("clawdforge")
            .on_receive_notification(
                async move |notification: SessionNotification, _| {
                    let session = notification.session_id.to_string();
                    receiving.put(&session, Inbound::Update(Box::new(notification.update))).await;
                    Ok(())
                },
                on_receive_notification!(),
            )
            .on_receive_request(
                async move |request: RequestPermissionRequest, responder, _| {
                    let is_at_work = asking.is_at_work(&request.session_id.to_string());
                    responder.respond(decide(&request, is_at_work))
                },
                on_receive_request!(),
            )
            .connect_with(transport, async move |to_agent: ConnectionTo<Agent>| {
                // The connection lasts as long as this does.
                let closed = to_agent.clone();
                drop(hand_out.send(to_agent));
                closed.incoming_closed().await;
                Ok(())
            });
        let connecting: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            if let Err(error) = connecting.await {
                tracing::debug!(%error, "the connection to an agent ended with an error");
            }
        });
        let driving = connecting.shared();
        let to_agent = tokio::select! {
            biased;
            handed = handed => handed.map_err(|_| Closed)?,
            () = driving.clone() => return Err(Closed),
        };
        Ok(Self { driving, to_agent, inboxes })
    }

    /// The way to send.
    pub(super) fn to_agent(&self) -> &ConnectionTo<Agent> {
        &self.to_agent
    }

    /// Waits for an answer.
    pub(super) async fn wait<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answered = &mut answer => answered,
            // The answer comes all the same: that nothing more will.
            () = self.driving.clone() => answer.await,
        }
    }

    /// A conversation's own end. What the agent sent for it before is passed over.
    pub(super) fn of(&self, session: &str) -> Peer {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        self.inboxes.lock().insert(session.to_owned(), Inbox { sender, is_cancelled: false });
        Peer {
            driving: Some(self.driving.clone()),
            to_agent: self.to_agent.clone(),
            inboxes: self.inboxes.clone(),
            session: session.to_owned(),
            inbox,
        }
    }
}

impl Peer {
    /// The way to send.
    pub(super) fn to_agent(&self) -> &ConnectionTo<Agent> {
        &self.to_agent
    }

    /// The agent's own id of the conversation.
    pub(super) fn session(&self) -> &str {
        &self.session
    }

    /// From now on, until the next turn begins, the agent is permitted nothing in this conversation.
    pub(super) fn turn_is_cancelled(&self) {
        self.inboxes.set_cancelled(&self.session, true);
    }

    /// A turn begins.
    pub(super) fn turn_begins(&self) {
        self.inboxes.set_cancelled(&self.session, false);
    }

    /// Waits for an answer; what the agent sends meanwhile is passed over.
    pub(super) async fn wait<T>(&mut self, answer: impl Future<Output = T>) -> T {
        tokio::pin!(answer);
        let mut is_cut_off = false;
        loop {
            tokio::select! {
                biased;
                answered = &mut answer => return answered,
                passed_over = self.inbox.recv(), if !is_cut_off => is_cut_off = passed_over.is_none(),
                () = present(&mut self.driving) => self.driving = None,
            }
        }
    }

    /// The next thing the agent sent, or that nothing more will come. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Inbound, Over> {
        loop {
            if self.driving.is_none() {
                return self.inbox.try_recv().map_err(|_| Over::Closed);
            }
            tokio::select! {
                biased;
                inbound = self.inbox.recv() => return inbound.ok_or(Over::Overrun),
                () = present(&mut self.driving) => self.driving = None,
            }
        }
    }

    /// What it sent and is here already.
    pub(super) fn next_now(&mut self) -> Option<Inbound> {
        self.inbox.try_recv().ok()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.inboxes.lock().remove(&self.session);
    }
}

fn outgoing(stdin: ChildStdin) -> impl Sink<String, Error = io::Error> + Send + 'static {
    sink::unfold(stdin, async |mut stdin: ChildStdin, mut line: String| {
        line.push('\n');
        stdin.write_all(line.as_bytes()).await?;
        stdin.flush().await?;
        Ok(stdin)
    })
}

fn incoming(stdout: ChildStdout, inboxes: Inboxes) -> impl Stream<Item = io::Result<String>> + Send + 'static {
    let lines = LineReader::new(stdout, AGENT_LINE_BYTES_MAX);
    stream::try_unfold((lines, inboxes), async |(mut lines, inboxes)| {
        loop {
            match lines.next_line().await? {
                None => return Ok(None),
                Some(Line::Whole(bytes)) => {
                    let text = String::from_utf8(bytes)
                        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
                    return Ok(Some((text, (lines, inboxes))));
                }
                Some(Line::Oversized { bytes, head }) => inboxes.put_to_all(&Inbound::Oversized { bytes, head }).await,
            }
        }
    })
}
