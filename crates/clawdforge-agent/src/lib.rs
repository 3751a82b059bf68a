//! Drivers: the code that knows how to speak to one family of agents.
//!
//! A driver opens links; a link is one live connection to one agent process tree and speaks in
//! [`AgentSignal`]s. Nothing here knows of sessions, stores or HTTP. A new agent that behaves like a
//! known one needs no code, only a [`Profile`].

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_core::agent::{AgentName, AgentSignal, Failure};
use clawdforge_core::isolation::Isolation;
use clawdforge_core::network::AppNetwork;
use clawdforge_core::output::OutputSchema;
use clawdforge_core::run::{Effort, SystemMode};
use clawdforge_core::tools::ToolServer;
use clawdforge_process::TreeMark;
use tokio_util::sync::CancellationToken;

pub mod acp;
pub mod acpx;
pub mod confine;
pub mod demo;
pub mod environment;
mod files;
mod furnish;
pub mod home;
pub mod locate;
pub mod network;
pub mod oneshot;
pub mod profile;
pub mod registry;
pub mod sign_in;
pub mod surroundings;
pub mod version;
mod waiting;

pub use acp::{AcpDriver, Choices};
pub use acpx::AcpxDriver;
pub use home::Home;
pub use network::Network;
pub use oneshot::OneShotDriver;
pub use profile::{Dialect, Profile};
pub use registry::{Agents, SessionAgent, SessionAgents};
pub use sign_in::SignIn;
pub use surroundings::{surroundings, tmp_dir};
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

    /// Whether it can be told to answer by this schema when it is opened, rather than in words.
    fn takes_schema(&self, schema: &OutputSchema) -> bool {
        let _ = schema;
        false
    }

    /// What the operator allows this agent, where that is less than others may.
    fn limits(&self) -> AgentLimits {
        AgentLimits::default()
    }

    /// Whether conversations can be given text for the agent's system prompt.
    fn takes_system_prompt(&self) -> bool {
        false
    }

    /// Whether its processes get namespaces of their own where the service makes some.
    fn has_namespaces(&self) -> bool {
        true
    }

    /// Opens a link. For a one-shot agent this only checks that the program is there; the process starts
    /// with the prompt. For a conversation the agent runs, and has taken up the conversation or begun one.
    ///
    /// # Errors
    /// [`Failure`] of kind `NotInstalled` or `StartFailed`, with what the operator should do.
    async fn open(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, Failure>;

    /// Why no conversation can be forked through this driver, whatever its agent offers; `None` where that is for the agent
    /// to say.
    fn cannot_fork(&self) -> Option<&'static str> {
        Some("it is spoken to in a way that knows no forks")
    }

    /// As [`Self::open`], with a fork of the conversation that `spec.resume` names: a new one with a key of its own, that
    /// knows what the other one knows now. The other one stays as it is, and may have an agent at rest.
    ///
    /// # Errors
    /// [`NotForked`]. After [`NotForked::Failed`] the agent's side may keep a copy that nobody has the key of.
    async fn fork(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, NotForked> {
        drop(spec);
        Err(NotForked::NotOffered)
    }

    /// How to start processes that conversations can begin in later; `None` where each conversation has its
    /// own from the start.
    fn hosting(&self) -> Option<&dyn Hosting> {
        None
    }

    /// Erases what the agent's side keeps of conversations that are about to be erased: their records and
    /// transcripts outside of their directories. All had agents in the home of `place`. Called when these are long gone;
    /// their directories are still there. Safe to repeat. Where a process has to be started for it, there is one at most,
    /// at `place`, and it is gone when this returns; whoever asks cancels `given_up` when it takes too long.
    async fn forget(&self, forgotten: Vec<Forgotten>, place: HostSpec) -> ForgetReport {
        drop((forgotten, place));
        ForgetReport::default()
    }
}

/// Why a conversation was not forked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotForked {
    /// The agent has no way to.
    NotOffered,
    /// The agent does not know the conversation, or nothing was said in it.
    Unknown,
    /// It could not be started, or would not.
    Failed(Failure),
}

/// What came of forgetting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForgetReport {
    /// The marks of conversations of which something may be left: whoever asked asks again later.
    pub left: Vec<TreeMark>,
    /// The marks of those of which the agent keeps its record because it has no way to erase one: asking again is of no
    /// use.
    pub kept: Vec<TreeMark>,
    /// Processes at the place that were still there at the end.
    pub survivors: usize,
}

/// A conversation that is erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The agent's working directory, which no other conversation has.
    pub workspace: PathBuf,
    /// The private directory beside it.
    pub scratch: PathBuf,
    /// The mark its processes carried.
    pub mark: TreeMark,
    /// The agent's own id of the conversation, if it ever had one.
    pub resume_key: Option<String>,
}

/// Starts processes for conversations to come.
#[async_trait]
pub trait Hosting: Send + Sync {
    /// Starts a process, which has greeted when it is returned.
    ///
    /// # Errors
    /// As [`AgentDriver::open`].
    async fn start(&self, spec: HostSpec) -> Result<Box<dyn AgentHost>, Failure>;
}

/// One agent process that holds conversations. Whoever has it ends it with [`Self::close`]; dropping it
/// kills it unseen.
#[async_trait]
pub trait AgentHost: Send + Sync {
    /// Takes up a conversation or begins one. Closing its link ends the conversation and, unless the agent
    /// cannot be brought to leave it, not the process. The marks of the specification are not used.
    ///
    /// # Errors
    /// As [`AgentDriver::open`]. The process stays, without the conversation or without taking in another.
    async fn open(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, Failure>;

    /// The process, in the text form recovery needs.
    fn process(&self) -> String;

    /// Whether one conversation can be ended without the others.
    fn ends_conversations(&self) -> bool;

    /// Whether the process is there and may take in another conversation: not where it was left with one that could not
    /// begin and that it does not let go of.
    async fn takes_in(&self) -> bool;

    /// Ends the process and all it started, and the conversations with it; as [`AgentLink::close`].
    async fn close(&self, grace: Duration) -> CloseReport;
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

    /// The agent's own id of the conversation, by which another link can take it up; it may change while
    /// a turn goes on. None where there is nothing to take up any more.
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
    /// The agent's own name for how it asks for permission; `None` takes what is chosen for all its conversations.
    pub mode: Option<String>,
    /// Tool servers that the conversation gives the agent.
    pub tool_servers: Vec<ToolServer>,
    /// The schema to answer by; only of a driver that takes it.
    pub output_schema: Option<OutputSchema>,
    /// Where the agent lives, where that is not the service's own home.
    pub home: Option<Home>,
    /// What the app that it works for lets it reach.
    pub app: Option<AppNetwork>,
    /// Cancelled when nobody wants the link any more: opening ends then, and with it whatever it started.
    pub given_up: CancellationToken,
}

/// Everything a driver must know to start a process for conversations to come.
#[derive(Debug, Clone)]
pub struct HostSpec {
    /// The directory it starts in. Each conversation has one of its own beside it.
    pub cwd: PathBuf,
    /// A private directory for its temporary files.
    pub scratch: PathBuf,
    /// The mark every process of the tree carries.
    pub mark: TreeMark,
    /// Where the agent lives, where that is not the service's own home.
    pub home: Option<Home>,
    /// What the app that it works for lets it reach; for nobody, it reaches only what it always does.
    pub app: Option<AppNetwork>,
    /// Cancelled when nobody wants the process any more; starting ends then.
    pub given_up: CancellationToken,
}

impl HostSpec {
    /// A process for one conversation alone.
    #[must_use]
    pub fn of(spec: &OpenSpec) -> Self {
        Self {
            cwd: spec.workspace.clone(),
            scratch: spec.scratch.clone(),
            mark: spec.mark.clone(),
            home: spec.home.clone(),
            app: spec.app.clone(),
            given_up: spec.given_up.clone(),
        }
    }
}

/// What the operator allows one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AgentLimits {
    /// Longest time without a sign of life; `None` leaves the service's own.
    pub silence_max: Option<Duration>,
    /// Longest time of one turn, whatever its caller allows; `None` leaves it to the caller.
    pub turn_max: Option<Duration>,
    /// The weakest isolation to run at; `None` takes what the service has.
    pub isolation_min: Option<Isolation>,
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
