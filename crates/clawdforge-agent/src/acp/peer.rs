//! The connection to one agent process, over our own pipes and with bounded lines.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;

use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    PermissionOptionKind, RequestPermissionOutcome, RequestPermissionRequest, RequestPermissionResponse,
    SelectedPermissionOutcome, SessionNotification, SessionUpdate,
};
use agent_client_protocol::{Agent, Client, Error, Lines, on_receive_notification, on_receive_request};
use clawdforge_core::limits::AGENT_LINE_BYTES_MAX;
use clawdforge_process::lines::{Line, LineReader};
use futures_util::{Sink, Stream, sink, stream};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};

/// What came and was not looked at yet. When it is full, the agent waits.
const INBOX_MAX: usize = 256;

type Connecting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an agent sends of its own accord.
#[derive(Debug)]
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

/// The connection. Whoever waits for anything of it must do so through [`Self::wait`] or
/// [`Self::next`], which let it go on meanwhile.
pub(super) struct Peer {
    connecting: Option<Connecting>,
    to_agent: ConnectionTo<Agent>,
    inbox: mpsc::Receiver<Inbound>,
}

/// The agent closed its output, or could not be spoken to from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

impl Peer {
    /// Begins to speak over these pipes.
    pub(super) async fn connect(stdin: ChildStdin, stdout: ChildStdout) -> Result<Self, Closed> {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let transport = Lines::new(outgoing(stdin), incoming(stdout, sender.clone()));
        let (hand_out, handed) = oneshot::channel();
        let connecting = Client
            .v1()
            .name("clawdforge")
            .on_receive_notification(
                async move |notification: SessionNotification, _| {
                    // Nobody takes it in any more when the link is being closed.
                    let _ = sender.send(Inbound::Update(Box::new(notification.update))).await;
                    Ok(())
                },
                on_receive_notification!(),
            )
            .on_receive_request(
                async move |request: RequestPermissionRequest, responder, _| responder.respond(decide(&request)),
                on_receive_request!(),
            )
            .connect_with(transport, async move |to_agent: ConnectionTo<Agent>| {
                // The connection lasts as long as this does.
                let closed = to_agent.clone();
                drop(hand_out.send(to_agent));
                closed.incoming_closed().await;
                Ok(())
            });
        let mut connecting: Connecting = Box::pin(async move {
            if let Err(error) = connecting.await {
                tracing::debug!(%error, "the connection to an agent ended with an error");
            }
        });
        let to_agent = tokio::select! {
            biased;
            handed = handed => handed.map_err(|_| Closed)?,
            () = &mut connecting => return Err(Closed),
        };
        Ok(Self { connecting: Some(connecting), to_agent, inbox })
    }

    /// The way to send.
    pub(super) fn to_agent(&self) -> &ConnectionTo<Agent> {
        &self.to_agent
    }

    /// Waits for an answer; what the agent sends meanwhile is passed over.
    pub(super) async fn wait<T>(&mut self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::pin!(answer);
        loop {
            tokio::select! {
                biased;
                answered = &mut answer => return answered,
                passed_over = self.inbox.recv() => if passed_over.is_none() { pending::<()>().await },
                () = present(&mut self.connecting) => self.connecting = None,
            }
        }
    }

    /// The next thing it sent, or that nothing more will come. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Inbound, Closed> {
        loop {
            tokio::select! {
                biased;
                inbound = self.inbox.recv() => return inbound.ok_or(Closed),
                () = present(&mut self.connecting) => self.connecting = None,
            }
        }
    }

    /// What it sent and is here already.
    pub(super) fn next_now(&mut self) -> Option<Inbound> {
        self.inbox.try_recv().ok()
    }
}

async fn present(connecting: &mut Option<Connecting>) {
    match connecting {
        Some(connecting) => connecting.await,
        None => pending().await,
    }
}

/// The one place where a permission request is decided. Sessions approve everything, as the first versions
/// did. By kind, never by place or id: those are the agent's own.
fn decide(request: &RequestPermissionRequest) -> RequestPermissionResponse {
    let of_kind = |kind| request.options.iter().find(|option| option.kind == kind);
    let chosen = of_kind(PermissionOptionKind::AllowOnce).or_else(|| of_kind(PermissionOptionKind::AllowAlways));
    RequestPermissionResponse::new(match chosen {
        Some(option) => RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option.option_id.clone())),
        None => RequestPermissionOutcome::Cancelled,
    })
}

fn outgoing(stdin: ChildStdin) -> impl Sink<String, Error = io::Error> + Send + 'static {
    sink::unfold(stdin, async |mut stdin: ChildStdin, mut line: String| {
        line.push('\n');
        stdin.write_all(line.as_bytes()).await?;
        stdin.flush().await?;
        Ok(stdin)
    })
}

fn incoming(
    stdout: ChildStdout,
    inbox: mpsc::Sender<Inbound>,
) -> impl Stream<Item = io::Result<String>> + Send + 'static {
    let lines = LineReader::new(stdout, AGENT_LINE_BYTES_MAX);
    stream::try_unfold((lines, inbox), async |(mut lines, inbox)| {
        loop {
            match lines.next_line().await? {
                None => return Ok(None),
                Some(Line::Whole(bytes)) => {
                    let text = String::from_utf8(bytes)
                        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
                    return Ok(Some((text, (lines, inbox))));
                }
                Some(Line::Oversized { bytes, head }) => {
                    // Nobody takes it in any more when the link is being closed.
                    let _ = inbox.send(Inbound::Oversized { bytes, head }).await;
                }
            }
        }
    })
}
