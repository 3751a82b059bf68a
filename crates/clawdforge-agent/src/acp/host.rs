//! One agent process, the connection to it, and the conversations that begin in it.

use std::ffi::OsString;
use std::mem;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema::{
    AgentCapabilities, ClientCapabilities, Implementation, InitializeRequest, InitializeResponse,
};
use agent_client_protocol::{Error, is_connection_terminated, is_incoming_transport_closed};
use async_trait::async_trait;
use clawdforge_core::agent::{AgentName, Failure, FailureKind};
use clawdforge_process::{LeaderWatch, SpawnSpec, Spawner, StdinMode, Tree};
use serde_json::json;
use tokio::fs::DirBuilder;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::driver::Choices;
use super::link::AcpLink;
use super::opening::{Opened, choose, conversation, let_go};
use super::peer::Connection;
use super::servers;
use super::translate::failure;
use crate::confine;
use crate::home::{Home, hand_over};
use crate::locate::locate;
use crate::network::{self, Passage};
use crate::oneshot::not_started;
use crate::profile::Profile;
use crate::surroundings::{surroundings, tmp_dir};
use crate::{AgentHost, AgentLink, CloseReport, HostSpec, OpenSpec};

/// How long an agent may take to greet, and again to begin a conversation. The slowest known takes 3 s
/// for both on a busy machine; agents that hang here are known as well.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long an agent may take to end by itself once its input is closed, a part of the grace it is given: half at most,
/// the rest is for what it does when asked by a signal. Claude's adapter takes 80 ms.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// How long an agent that could not begin may take to leave when asked.
pub(super) const FAILED_GRACE: Duration = Duration::from_millis(500);

/// How long an agent whose process others share may take to let go of a conversation that could not begin: first for
/// the answer to what it was asked before it was given up, then for the close.
const LET_GO_MAX: Duration = Duration::from_secs(2);

/// An agent process that has greeted.
pub(super) struct AcpHost {
    pub(super) name: AgentName,
    pub(super) choices: Choices,
    offered: InitializeResponse,
    process: String,
    /// Absent once it is closed.
    connection: Mutex<Option<Connection>>,
    tree: tokio::sync::Mutex<Option<Tree>>,
    /// Its way to the network.
    _passage: Passage,
    /// The end of its error stream, once it is closed.
    last_words: Mutex<String>,
    /// It may hold a conversation that nobody has.
    holds_stray: AtomicBool,
}

/// A conversation that is beginning in a shared process. Dropped, it is one that nobody has.
struct Beginning<'a>(&'a AtomicBool);

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A process that has not greeted yet.
struct Newborn {
    name: AgentName,
    tree: Tree,
    passage: Passage,
}

impl AcpHost {
    /// Starts the process and lets it greet.
    pub(super) async fn start(
        profile: &Profile,
        choices: Choices,
        spawner: &Spawner,
        spec: HostSpec,
    ) -> Result<Self, Failure> {
        let given_up = spec.given_up.clone();
        // Dropping the tree ends it as well; whoever drops this does not see when.
        let (tree, passage) = spawn(profile, spawner, spec).await?;
        let mut newborn = Newborn { name: profile.name.clone(), tree, passage };
        let greeted = within(&profile.name, &given_up, newborn.greet()).await;
        match greeted {
            Ok((connection, offered)) => Ok(Self {
                name: newborn.name,
                choices,
                offered,
                process: newborn.tree.identity().to_string(),
                connection: Mutex::new(Some(connection)),
                tree: tokio::sync::Mutex::new(Some(newborn.tree)),
                _passage: newborn.passage,
                last_words: Mutex::default(),
                holds_stray: AtomicBool::new(false),
            }),
            Err(failure) => {
                tell_survivors(&newborn.name, newborn.tree.end(FAILED_GRACE).await.survivors);
                Err(failure)
            }
        }
    }

    /// Takes up the conversation of the specification, or begins one. A link that owns the process ends it when it is
    /// closed; else a conversation that could not begin is closed, and a process that cannot be brought to that is
    /// known for it.
    pub(super) async fn converse(self: &Arc<Self>, spec: &OpenSpec, owns: bool) -> Result<AcpLink, Failure> {
        let mut begin = Box::pin(self.begin(spec, owns));
        if owns {
            return within(&self.name, &spec.given_up, begin).await;
        }
        let beginning = Beginning(&self.holds_stray);
        let mut is_over = false;
        let begun = async {
            let begun = begin.as_mut().await;
            is_over = true;
            begun
        };
        let begun = within(&self.name, &spec.given_up, begun).await;
        // What the agent was asked last may have begun the conversation all the same.
        let is_settled = is_over
            || match timeout(LET_GO_MAX, begin).await {
                Ok(Ok(mut link)) => link.leave(LET_GO_MAX).await,
                Ok(Err(_)) => true,
                Err(_) => false,
            };
        if is_settled {
            // It is somebody's, or closed, or `begin` has said that it is neither.
            mem::forget(beginning);
        }
        begun
    }

    /// As [`Self::converse`], for whoever has just started the process for this one conversation: where the
    /// conversation cannot begin, the process is ended.
    pub(super) async fn converse_or_close(self: Arc<Self>, spec: &OpenSpec) -> Result<AcpLink, Failure> {
        let begun = self.converse(spec, true).await;
        if begun.is_err() {
            tell_survivors(&self.name, self.end(FAILED_GRACE).await.survivors);
        }
        begun
    }

    /// What the agent said about itself.
    pub(super) fn offered(&self) -> &InitializeResponse {
        &self.offered
    }

    pub(super) fn capabilities(&self) -> &AgentCapabilities {
        &self.offered.agent_capabilities
    }

    /// The end of its error stream.
    pub(super) async fn last_words(&self) -> String {
        let words = self.tree.lock().await.as_ref().map(Tree::stderr_tail);
        words.unwrap_or_else(|| self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// As [`Self::last_words`], once all of them have arrived from a process that has ended.
    pub(super) async fn all_last_words(&self) -> String {
        if let Some(tree) = self.tree.lock().await.as_mut() {
            tree.wait().await;
        }
        self.last_words().await
    }

    /// The connection, while there is one.
    pub(super) fn connection(&self) -> Option<Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The process in the text form recovery needs.
    pub(super) fn process_text(&self) -> &str {
        &self.process
    }

    /// Ends the process and all it started.
    pub(super) async fn end(&self, grace: Duration) -> CloseReport {
        // Closes the agent's input, on which agents leave in good order.
        drop(self.connection.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some(mut tree) = self.tree.lock().await.take() else { return CloseReport::default() };
        let asked_at = Instant::now();
        // Passing the time is no failure: the tree is ended next, within what is left of the grace.
        let _ = timeout(LEAVE_MAX.min(grace / 2), tree.wait()).await;
        let stderr = tree.stderr_tail();
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&stderr);
        let report = tree.end(grace.saturating_sub(asked_at.elapsed())).await;
        CloseReport { stderr, killed: report.killed, survivors: report.survivors }
    }

    async fn begin(self: &Arc<Self>, spec: &OpenSpec, owns: bool) -> Result<AcpLink, Failure> {
        let (connection, leader) = self.reached().await?;
        servers::accept(self.name.as_str(), &spec.tool_servers, &self.capabilities().mcp_capabilities)?;
        let opened = match conversation(&self.name, self.capabilities(), &self.choices, spec, &connection).await {
            Ok(opened) => opened,
            Err(error) => return Err(self.refused(&error).await),
        };
        self.settle(opened, spec, owns, leader).await
    }

    /// The connection and the leader of a process that is there.
    pub(super) async fn reached(&self) -> Result<(Connection, LeaderWatch), Failure> {
        let connection = self.connection();
        let leader = self.tree.lock().await.as_ref().map(Tree::watch_leader).transpose();
        let leader = leader.map_err(|error| unwatched(&self.name, &error))?;
        match connection.zip(leader) {
            Some(reached) => Ok(reached),
            None => Err(self.left().await),
        }
    }

    /// Chooses how to work in a conversation that has just been taken up, begun or forked.
    pub(super) async fn settle(
        self: &Arc<Self>,
        opened: Opened,
        spec: &OpenSpec,
        owns: bool,
        leader: LeaderWatch,
    ) -> Result<AcpLink, Failure> {
        let Opened { mut peer, context, offered } = opened;
        if let Err(failure) = choose(&self.name, &self.choices, spec, &mut peer, offered).await {
            if !owns && !let_go(&mut peer, LET_GO_MAX).await {
                self.holds_stray.store(true, Ordering::Relaxed);
            }
            return Err(failure);
        }
        Ok(AcpLink::new(Arc::clone(self), owns, leader, peer, context))
    }

    pub(super) async fn refused(&self, error: &Error) -> Failure {
        if is_incoming_transport_closed(error) || is_connection_terminated(error) {
            return self.left().await;
        }
        not_begun(&self.name, error)
    }

    async fn left(&self) -> Failure {
        let all = timeout(LEAVE_MAX, self.all_last_words()).await;
        let words = match all {
            Ok(words) => words,
            Err(_) => self.last_words().await,
        };
        left(&self.name, &words)
    }
}

#[async_trait]
impl AgentHost for Arc<AcpHost> {
    async fn open(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, Failure> {
        Ok(Box::new(self.converse(&spec, false).await?))
    }

    fn process(&self) -> String {
        self.process.clone()
    }

    fn ends_conversations(&self) -> bool {
        self.capabilities().session_capabilities.close.is_some()
    }

    async fn takes_in(&self) -> bool {
        if self.holds_stray.load(Ordering::Relaxed) {
            return false;
        }
        match self.tree.lock().await.as_ref() {
            Some(tree) => tree.watch_leader().is_ok_and(|leader| !leader.has_ended()),
            None => false,
        }
    }

    async fn close(&self, grace: Duration) -> CloseReport {
        self.end(grace).await
    }
}

impl Newborn {
    async fn greet(&mut self) -> Result<(Connection, InitializeResponse), Failure> {
        let pipes = self.tree.take_stdin().zip(self.tree.take_stdout());
        let (stdin, stdout) = pipes.ok_or_else(|| Failure::new(FailureKind::Internal, "the agent has no pipes"))?;
        let Ok(connection) = Connection::begin(stdin, stdout).await else { return Err(self.left().await) };
        let request = InitializeRequest::new(ProtocolVersion::V1)
            .client_capabilities(capabilities())
            .client_info(Implementation::new("clawdforge", env!("CARGO_PKG_VERSION")));
        let answer = connection.to_agent().send_request(request).block_task();
        let offered = match connection.wait(answer).await {
            Ok(offered) => offered,
            Err(error) if is_incoming_transport_closed(&error) || is_connection_terminated(&error) => {
                return Err(self.left().await);
            }
            Err(error) => return Err(not_begun(&self.name, &error)),
        };
        if offered.protocol_version != ProtocolVersion::V1 {
            let message = format!("{} does not speak version 1 of the Agent Client Protocol", self.name);
            return Err(Failure::new(FailureKind::StartFailed, message));
        }
        Ok((connection, offered))
    }

    /// Its output has ended; what it says about it may come a moment later.
    async fn left(&mut self) -> Failure {
        // What it has said by then has to do.
        let _ = timeout(LEAVE_MAX, self.tree.wait()).await;
        left(&self.name, &self.tree.stderr_tail())
    }
}

async fn spawn(profile: &Profile, spawner: &Spawner, spec: HostSpec) -> Result<(Tree, Passage), Failure> {
    let HostSpec { cwd, scratch, mark, home, app, .. } = spec;
    let found = locate(profile)?;
    private_dir(profile, home.as_ref(), &tmp_dir(&scratch)).await?;
    let mut env = surroundings(profile, home.as_ref(), &scratch, &mark).await?;
    let args = profile.args.iter().map(OsString::from).collect();
    let passage = network::admit(profile, app.as_ref(), &mut env)?;
    let mut sandbox = confine::sandbox(profile, &env, home.as_ref(), vec![cwd.clone(), scratch]);
    passage.open(sandbox.as_mut(), &mut env);
    let spec = SpawnSpec { program: found.path, args, env, cwd, mark, stdin: StdinMode::Piped, sandbox };
    let mut tree = spawner.spawn(spec).await.map_err(|error| not_started(profile.name.as_str(), &error))?;
    passage.answer(&mut tree).await?;
    Ok((tree, passage))
}

async fn private_dir(profile: &Profile, home: Option<&Home>, dir: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir).await;
    made.and_then(|()| hand_over(home, dir)).map_err(|error| {
        tracing::error!(agent.name = %profile.name, %error, "could not make an agent's private folder");
        Failure::new(FailureKind::StartFailed, "the agent's private folder could not be made; is the disk full?")
    })
}

/// What comes of a step on the way to a conversation, unless it takes too long or nobody wants it any more.
pub(super) async fn within<T>(
    name: &AgentName,
    given_up: &CancellationToken,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = step => done,
        () = sleep(OPEN_WAIT_MAX) => {
            let secs = OPEN_WAIT_MAX.as_secs();
            let message = format!("{name} did not begin a conversation within {secs} s");
            Err(Failure::new(FailureKind::StartFailed, message))
        }
        () = given_up.cancelled() => {
            Err(Failure::new(FailureKind::Interrupted, "the agent was given up before it was ready"))
        }
    }
}

pub(super) fn tell_survivors(name: &AgentName, survivors: usize) {
    if survivors > 0 {
        tracing::error!(agent.name = %name, process.survivors = survivors,
            "processes of an agent that could not begin could not be ended");
    }
}

fn unwatched(name: &AgentName, error: &std::io::Error) -> Failure {
    tracing::error!(agent.name = %name, %error, "an agent's process could not be watched");
    Failure::new(FailureKind::StartFailed, "the agent's process could not be watched; are there too many open files?")
}

fn not_begun(name: &AgentName, error: &Error) -> Failure {
    let failure = failure(error);
    match failure.kind {
        FailureKind::ProviderError => Failure::new(
            FailureKind::StartFailed,
            format!("{name} could not begin a conversation: {}", failure.message),
        ),
        _ => failure,
    }
}

fn left(name: &AgentName, stderr: &str) -> Failure {
    let said = stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let said: String = said.unwrap_or("it said nothing about it").chars().take(500).collect();
    let message = format!("{name} ended before a conversation could begin: {said}");
    Failure::new(FailureKind::StartFailed, message)
}

/// Neither files, terminals nor questions of ours: agents use their own tools then and ask nobody. Notices
/// keep warnings out of the answer.
fn capabilities() -> ClientCapabilities {
    let offered = json!({"session": {"notices": {}, "compaction": {}, "configOptions": {"boolean": {}}}});
    serde_json::from_value(offered).unwrap_or_default()
}
