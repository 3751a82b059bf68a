//! Drivers: the code that knows how to speak to one family of agents.
//!
//! A driver opens links; a link is one live connection to one agent process tree and speaks in
//! [`AgentSignal`]s. Nothing here knows of sessions, stores or HTTP. A new agent that behaves like a
//! known one needs no code, only a [`Profile`].

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_core::agent::{AgentName, AgentSignal, Failure};
use clawdforge_core::run::{Effort, SystemMode};
use clawdforge_process::TreeMark;
use tokio_util::sync::CancellationToken;

pub mod acp;
pub mod confine;
pub mod demo;
pub mod environment;
mod files;
pub mod locate;
pub mod oneshot;
pub mod profile;
pub mod registry;
pub mod version;

pub use acp::AcpDriver;
pub use confine::AppUser;
pub use oneshot::OneShotDriver;
pub use profile::{Dialect, Profile};
pub use registry::Agents;
pub use version::Versions;

/// Knows how to start one configured agent and how to speak to it.
#[async_trait]
pub trait AgentDriver: Send + Sync {
    /// The operator's name for the agent.
    fn name(&self) -> &AgentName;

    /// Where the agent's program is and which version, as far as known without waiting.
    fn presence(&self) -> Presence;

    /// Whether the agent's program is there, without starting it.
    ///
    /// # Errors
    /// [`Failure`] of kind `NotInstalled`, with what the operator should do.
    fn check(&self) -> Result<(), Failure>;

    /// Opens a link. For a one-shot agent this only checks that the program is there; the process starts
    /// with the prompt. For a conversation the agent runs, and has taken up the conversation or begun one.
    ///
    /// # Errors
    /// [`Failure`] of kind `NotInstalled` or `StartFailed`, with what the operator should do.
    async fn open(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, Failure>;
}

/// One live connection to one agent process tree, owned by one session.
#[async_trait]
pub trait AgentLink: Send {
    /// Gives the agent its prompt.
    ///
    /// # Errors
    /// A [`Failure`] where the agent could not be started or would not take it.
    async fn begin_turn(&mut self, prompt: Prompt) -> Result<(), Failure>;

    /// Asks the agent to stop its turn, which then ends like any other. Only for conversations.
    fn cancel_turn(&mut self) {}

    /// What the agent knows of the turns before.
    fn context(&self) -> LinkContext {
        LinkContext::Fresh
    }

    /// The agent's own id of the conversation, by which another link can take it up.
    fn resume_key(&self) -> Option<String> {
        None
    }

    /// Whether another turn can be begun once this one is over.
    fn is_usable(&self) -> bool {
        false
    }

    /// The process tree, in the text form recovery needs, once there is one.
    fn process(&self) -> Option<String>;

    /// The next thing the agent did. Cancel-safe: dropping the future loses no signal. Between turns it
    /// waits for [`AgentSignal::Exited`], after that for ever.
    async fn next_signal(&mut self) -> AgentSignal;

    /// Ends the whole process tree: politely for `grace`, then not; returns when it is gone.
    async fn close(self: Box<Self>, grace: Duration) -> CloseReport;
}

/// What an agent is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompt {
    /// The request.
    pub text: String,
    /// What the agent must know before it, such as the transcript of turns it has forgotten.
    pub before: Option<String>,
    /// Attached files, by their paths in the workspace.
    pub attachments: Vec<PathBuf>,
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }
}

/// What an agent knows of the turns before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkContext {
    /// Nothing.
    Fresh,
    /// It took up its own record of them.
    Resumed,
}

/// Everything a driver must know to open a link.
#[derive(Debug, Clone)]
pub struct OpenSpec {
    /// The agent's working directory.
    pub workspace: PathBuf,
    /// A private directory beside it, for temporary files and what the agent must not see as input.
    pub scratch: PathBuf,
    /// The mark every process of the tree carries.
    pub mark: TreeMark,
    /// The model by the agent's own name for it; `None` leaves it to the agent.
    pub model: Option<String>,
    /// The agent's own id of the conversation to take up.
    pub resume: Option<String>,
    /// Text for the system prompt.
    pub system: Option<String>,
    /// What becomes of the agent's own system prompt.
    pub system_mode: SystemMode,
    /// How hard the model should think.
    pub effort: Option<Effort>,
    /// Who the agent is, where it is not the service's own user.
    pub user: Option<AppUser>,
    /// Cancelled when nobody wants the link any more: opening ends then, and with it whatever it started.
    pub given_up: CancellationToken,
}

/// What is known of an agent's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Where it is; `None` when it was not found.
    pub program: Option<PathBuf>,
    /// What it says its version is (`2.1.330 (Claude Code)`); `None` while unknown.
    pub version: Option<String>,
}

/// How a link ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CloseReport {
    /// The end of the agent's error stream.
    pub stderr: String,
    /// Processes that had to be killed.
    pub killed: usize,
    /// Processes that were still there at the end; anything but 0 is an alarm.
    pub survivors: usize,
}
