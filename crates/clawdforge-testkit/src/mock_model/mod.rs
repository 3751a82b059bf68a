//! A model provider on loopback that real agents talk to, scripted by the test.
//!
//! It speaks the Anthropic Messages API well enough for Claude Code, and OpenAI's Responses and chat completions for Codex
//! and Copilot (streaming only): with errors, slowness, silence and broken connections. A test decides every answer, either in advance ([`MockModel::reply_next`]) or
//! by a closure that sees the request ([`MockModel::script`]); without either, the model echoes the prompt.
//!
//! Invariants:
//! - Every request to a model is recorded before it is answered, and checked against the rules of the API;
//!   what breaks a rule stands in [`MockModel::violations`], which a test asserts to be empty.
//! - Requests an agent makes on its own account (a session title, a suggestion) are answered apart: they never use
//!   up a scripted reply and never count as a turn.
//! - Nothing leaves loopback, and nothing is shared: each test starts its own.
//! - When it is dropped, open replies break off and its task ends.

mod check;
mod log;
mod openai;
mod reply;
mod request;
mod serve;
mod side;
mod wire;
mod wire_openai;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use self::log::REQUESTS_KEPT_MAX;
pub use self::openai::Api;
pub use self::reply::{Block, Ending, Reply};
pub use self::request::{ModelRequest, ToolAnswer};
pub use self::serve::REQUEST_BYTES_MAX;
pub use self::side::SideRequest;

use self::log::RequestLog;

/// A running mock model. Dropping it ends it.
pub struct MockModel {
    address: SocketAddr,
    shared: Arc<Shared>,
}

type Script = Box<dyn FnMut(&ModelRequest) -> Reply + Send>;

/// What the handle and the server both hold.
struct Shared {
    log: RequestLog,
    queue: Mutex<VecDeque<Reply>>,
    script: Mutex<Option<Script>>,
    stop: watch::Sender<bool>,
}

impl MockModel {
    /// Starts a model on a free port of 127.0.0.1, inside the current Tokio runtime.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("bind the mock model to loopback")?;
        let address = listener.local_addr().context("read the mock model's address")?;
        let (stop, _) = watch::channel(false);
        let shared =
            Arc::new(Shared { log: RequestLog::new(), queue: Mutex::default(), script: Mutex::default(), stop });
        serve::spawn(listener, Arc::clone(&shared));
        Ok(Self { address, shared })
    }

    /// Host and port, as rules about the network name them.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// The base URL to hand to an agent, without a trailing slash: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers every turn's request with what the closure returns, from now on. Replies queued by
    /// [`Self::reply_next`] go first. The closure runs while no other is running and must not block.
    pub fn script(&self, script: impl FnMut(&ModelRequest) -> Reply + Send + 'static) {
        *self.shared.script.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(script));
    }

    /// Queues the answer to one request of a turn; a retry by the agent is a request of its own.
    pub fn reply_next(&self, reply: Reply) {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(reply);
    }

    /// The requests to `/v1/messages` so far, oldest first, side requests included; the last
    /// [`REQUESTS_KEPT_MAX`] of them.
    #[must_use]
    pub fn requests(&self) -> Vec<ModelRequest> {
        self.shared.log.requests()
    }

    /// As [`Self::requests`], without side requests: what the agent asked on behalf of its prompt.
    #[must_use]
    pub fn turn_requests(&self) -> Vec<ModelRequest> {
        self.requests().into_iter().filter(|request| !request.is_side_request()).collect()
    }

    /// Everything else that was asked of the server, as `METHOD path`: token counts, greetings, strays.
    #[must_use]
    pub fn other_requests(&self) -> Vec<String> {
        self.shared.log.others()
    }

    /// What broke the rules of the API, one sentence each, with the number of the request.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.log.violations()
    }

    /// Forgets the recorded requests, so that a long benchmark does not keep them all. Counters go on.
    pub fn forget_requests(&self) {
        self.shared.log.forget();
    }

    /// Waits until at least `count` requests of turns arrived since the start.
    ///
    /// # Errors
    /// When fewer arrived within `deadline`; the message says how many.
    pub async fn wait_for_requests(&self, count: u64, deadline: Duration) -> anyhow::Result<()> {
        let mut progress = self.shared.log.progress();
        let arrived = tokio::time::timeout(deadline, progress.wait_for(|now| now.turn_requests >= count)).await;
        anyhow::ensure!(
            arrived.is_ok(),
            "waited {deadline:?} for {count} model requests; {} arrived",
            self.shared.log.now().turn_requests
        );
        Ok(())
    }

    /// How many replies are being sent right now. A stalled reply counts until its client hangs up.
    #[must_use]
    pub fn open_replies(&self) -> usize {
        self.shared.log.now().open_replies
    }

    /// Waits until no reply is being sent: every client has its answer or has hung up.
    ///
    /// # Errors
    /// When replies are still open after `deadline`; the message says how many.
    pub async fn wait_until_idle(&self, deadline: Duration) -> anyhow::Result<()> {
        let mut progress = self.shared.log.progress();
        let idle = tokio::time::timeout(deadline, progress.wait_for(|now| now.open_replies == 0)).await;
        anyhow::ensure!(
            idle.is_ok(),
            "waited {deadline:?} for the model to be idle; {} replies are open",
            self.open_replies()
        );
        Ok(())
    }
}

impl Drop for MockModel {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
    }
}

impl Shared {
    /// The reply to a request of a turn: queued, else scripted, else an echo.
    fn reply_to(&self, request: &ModelRequest) -> Reply {
        let queued = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(reply) = queued {
            return reply;
        }
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        match script.as_mut() {
            Some(script) => script(request),
            None => Reply::echo(request),
        }
    }
}
