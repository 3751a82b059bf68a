//! What the operator may set about the engine.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clawdforge_core::isolation::Isolation;

/// Which agents live in one home, with their settings, sign-ins, transcripts and caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgentHome {
    /// Those of one name and one app.
    #[default]
    App,
    /// The agent of one session, or of one run; the home is erased with it.
    Session,
    /// All of them, in the home of the service's user.
    Shared,
}

/// How long events are gathered before they are committed: short enough to watch, long enough that a burst costs
/// one flush of the disk.
pub const EVENT_GATHER: Duration = Duration::from_millis(40);

/// Plain settings; the configuration table holds their defaults and bounds.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Where uploads (`files/`) and the directories of runs under way (`runs/`) and of conversations
    /// (`sessions/`) lie.
    pub data_dir: PathBuf,
    /// How well agents are kept apart, as it was measured.
    pub isolation: Isolation,
    /// The numbers of the users that agents run as, one for each app; `None` leaves them the service's own.
    pub users: Option<RangeInclusive<u32>>,
    /// Whose home an agent has.
    pub agent_home: AgentHome,
    /// Agent process trees at the same time.
    pub slots: usize,
    /// Accepted runs that may wait for a slot, over all apps.
    pub queue_max: usize,
    /// Accepted runs of one app that may wait for a slot.
    pub queue_per_app_max: usize,
    /// Longest wait for a slot.
    pub queue_wait_max: Duration,
    /// Longest time an agent may give no sign of life.
    pub silence_max: Duration,
    /// How long an agent may take to leave when asked, before it is killed.
    pub kill_grace: Duration,
    /// How long events are gathered before they are committed; [`EVENT_GATHER`] outside of tests.
    pub event_gather: Duration,
    /// Bytes that the workspace of a run or a conversation may take on the disk; `None` leaves it to the disk.
    pub workspace_bytes_max: Option<u64>,
    /// Bytes of one upload.
    pub upload_bytes_max: u64,
    /// How long prompt, answer and events of an ended run are kept.
    pub run_retention: Duration,
    /// How long ledger lines are kept; `None` means for ever.
    pub ledger_retention: Option<Duration>,
    /// How long an agent of a conversation may be idle before its process is ended. The conversation stays
    /// open.
    pub session_warm_max: Duration,
    /// Whether the agent of a conversation is started when it is opened, so that its first turn finds it ready.
    pub session_warm_up: bool,
    /// Conversations of one app and agent that may share a process; 1 gives each its own.
    pub sessions_per_process: usize,
    /// How long a conversation may see no turn before it is closed.
    pub session_ttl: Duration,
    /// How long a closed conversation is kept before it is erased with its workspace.
    pub session_hard_ttl: Duration,
    /// Time between two sweeps.
    pub sweep_interval: Duration,
}
