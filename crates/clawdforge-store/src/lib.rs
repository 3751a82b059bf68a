//! What storage must offer: one narrow door in, many small windows out.
//!
//! Writing is one method over the closed list of [`Commit`]s, so everything that must be atomic is,
//! and faults can be injected in one place ([`faults`]). Reading is several small traits; a
//! component takes only the windows it looks through.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_core::app::{App, AppName, AppToken};
use clawdforge_core::commit::Commit;
use clawdforge_core::event::{Event, EventBody, EventSeq};
use clawdforge_core::file::File;
use clawdforge_core::id::{AppId, FileId, HostId, RunId, SessionId, TurnId};
use clawdforge_core::idempotency::KeptKey;
use clawdforge_core::ledger::UsageSum;
pub use clawdforge_core::ledger::{LedgerLine, LedgerQuery, Order};
use clawdforge_core::session::{Equipment, Session, SessionRecord};
use clawdforge_core::time::Timestamp;
use clawdforge_core::turn::{Turn, TurnRecord};

pub mod faults;

/// The only way to change the store.
#[async_trait]
pub trait CommitDoor: Send + Sync {
    /// Makes one atomic change. When it returns `Ok`, the change is on disk.
    async fn commit(&self, commit: Commit) -> Result<(), CommitError>;
}

/// Why a change did not happen, or may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A precondition no longer held, or numbers did not follow on; nothing happened.
    #[error("precondition {index} did not hold")]
    Unexpected {
        /// Place of the failed precondition in the commit; `expects.len()` stands for the writes.
        index: usize,
    },
    /// Nothing happened; it may be tried again.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It may have happened; read before trying again.
    #[error("the store did not say whether the change happened: {0}")]
    Unknown(String),
}

/// A read that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store could not be read: {0}")]
pub struct ReadError(pub String);

/// Apps and their live tokens.
#[async_trait]
pub trait TokenReads: Send + Sync {
    /// All live tokens, by app name.
    async fn live_tokens(&self) -> Result<Vec<AppToken>, ReadError>;
    /// The app of a name, whether or not it has a live token.
    async fn app(&self, name: &AppName) -> Result<Option<App>, ReadError>;
}

/// The users that agents run as.
#[async_trait]
pub trait AgentUserReads: Send + Sync {
    /// The number of the user of an app's agents, once it has one.
    async fn agent_user(&self, app: AppId) -> Result<Option<u32>, ReadError>;
    /// The greatest number that was given to any app.
    async fn last_agent_user(&self) -> Result<Option<u32>, ReadError>;
}

/// Uploads.
#[async_trait]
pub trait FileReads: Send + Sync {
    /// The file of an id, whoever owns it and whether or not it has expired.
    async fn file(&self, id: FileId) -> Result<Option<File>, ReadError>;
    /// Files whose life ended before `now`, oldest first.
    async fn expired_files(&self, now: Timestamp, limit: usize) -> Result<Vec<File>, ReadError>;
    /// All files, oldest first, from after `after` on: for comparing the store with the disk.
    async fn files_after(&self, after: Option<FileId>, limit: usize) -> Result<Vec<FileId>, ReadError>;
}

/// Sessions and their turns.
#[async_trait]
pub trait SessionReads: Send + Sync {
    /// Turns that have no outcome yet, with their sessions and the process they noted, oldest first.
    async fn unfinished_turns(&self) -> Result<Vec<UnfinishedTurn>, ReadError>;
    /// The turn of an id, whoever's it is.
    async fn turn(&self, id: TurnId) -> Result<Option<TurnRecord>, ReadError>;
    /// Turns of a session from after place `after` on, in order.
    async fn turns(&self, session: SessionId, after: u32, limit: usize) -> Result<Vec<TurnRecord>, ReadError>;
    /// The run of an id with its one turn, whoever owns it.
    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, ReadError>;
    /// Runs of an app that were accepted before the run `before`, newest first.
    async fn runs(&self, app: AppId, before: Option<RunId>, limit: usize) -> Result<Vec<RunRecord>, ReadError>;
    /// The prompt of a conversation's turn that has not started; later the log has it.
    async fn queued_prompt(&self, turn: TurnId) -> Result<Option<EventBody>, ReadError>;
    /// Turns whose end was recorded within `window` before the newest recorded end. An end may be recorded
    /// before the process tree is gone, so after a crash these trees may still be there.
    async fn turns_just_ended(&self, window: Duration) -> Result<Vec<EndedTurn>, ReadError>;
    /// The conversation of an id, whoever owns it and whether or not it is closed.
    async fn conversation(&self, id: SessionId) -> Result<Option<SessionRecord>, ReadError>;
    /// What the agent of a conversation is given; nothing where it is unknown or was opened without.
    async fn equipment(&self, session: SessionId) -> Result<Equipment, ReadError>;
    /// Conversations of an app that were opened before the conversation `before`, newest first.
    async fn conversations(
        &self,
        app: AppId,
        include_closed: bool,
        before: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionRecord>, ReadError>;
    /// How many conversations of all apps are open.
    async fn open_conversations(&self) -> Result<u64, ReadError>;
    /// Conversations with the process trees they noted and did not take back.
    async fn linked_conversations(&self) -> Result<Vec<(SessionId, String)>, ReadError>;
    /// Agent processes that were noted to be shared and not forgotten, oldest first.
    async fn hosts(&self) -> Result<Vec<HostId>, ReadError>;
    /// Open conversations that have no unfinished turn and saw nothing since `before`, longest idle first.
    async fn conversations_idle_since(&self, before: Timestamp, limit: usize) -> Result<Vec<Session>, ReadError>;
    /// Conversations that were closed before `before` and have no unfinished turn, oldest first.
    async fn conversations_closed_before(&self, before: Timestamp, limit: usize) -> Result<Vec<Session>, ReadError>;
    /// Runs that ended before `before`, oldest first.
    async fn runs_ended_before(&self, before: Timestamp, limit: usize) -> Result<Vec<Session>, ReadError>;
}

/// A run: the session that holds it, and its one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// The session.
    pub session: Session,
    /// The turn.
    pub turn: TurnRecord,
}

/// A turn without an outcome, as recovery needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedTurn {
    /// The session.
    pub session: Session,
    /// The turn.
    pub turn: Turn,
    /// Somebody asked for it to be stopped.
    pub is_cancelled: bool,
    /// The process tree it noted, in the process crate's text form.
    pub process: Option<String>,
}

/// A turn with its outcome recorded, as recovery needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedTurn {
    /// The turn.
    pub turn: TurnId,
    /// The process tree it noted, in the process crate's text form.
    pub process: Option<String>,
}

/// How much of a session's log one read may take into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventBounds {
    /// Events at most.
    pub rows_max: usize,
    /// Bytes as stored, after which no further event is begun: the last one may go beyond, so there is always one.
    pub bytes_max: usize,
}

/// The event log.
#[async_trait]
pub trait EventReads: Send + Sync {
    /// Events of a session with numbers above `after`, in order, as many as a page may hold.
    async fn events_within(
        &self,
        session: SessionId,
        after: EventSeq,
        bounds: EventBounds,
    ) -> Result<Vec<Event>, ReadError>;
    /// The same with no bound on their bytes: for few events, and for those that are known to be small.
    async fn events_after(&self, session: SessionId, after: EventSeq, limit: usize) -> Result<Vec<Event>, ReadError> {
        self.events_within(session, after, EventBounds { rows_max: limit, bytes_max: usize::MAX }).await
    }
    /// The number of the first event of a turn, once it has begun.
    async fn first_of_turn(&self, session: SessionId, turn: TurnId) -> Result<Option<EventSeq>, ReadError>;
    /// The last event of a turn so far, which is its end once it has ended.
    async fn last_of_turn(&self, session: SessionId, turn: TurnId) -> Result<Option<Event>, ReadError>;
    /// The highest number in a session; 0 when it has no events.
    async fn head(&self, session: SessionId) -> Result<EventSeq, ReadError>;
}

/// Requests that may be sent again.
#[async_trait]
pub trait KeyReads: Send + Sync {
    /// What came of the request that an app used a key for.
    async fn kept(&self, app: AppId, key: &str) -> Result<Option<KeptKey>, ReadError>;
}

/// The ledger.
#[async_trait]
pub trait LedgerReads: Send + Sync {
    /// A page of lines.
    async fn ledger(&self, query: LedgerQuery) -> Result<Vec<LedgerLine>, ReadError>;
    /// What the runs and turns of the app of this name used and cost, of those that ended from `from` on and before `to`.
    async fn usage(&self, app: &AppName, from: Option<Timestamp>, to: Option<Timestamp>)
    -> Result<UsageSum, ReadError>;
    /// Whether there are lines older than `before`.
    async fn has_lines_before(&self, before: Timestamp) -> Result<bool, ReadError>;
}

/// A whole store: the door and all windows. Components take only what they need of it.
#[derive(Clone)]
pub struct Store {
    /// The way in.
    pub door: Arc<dyn CommitDoor>,
    /// Apps and tokens.
    pub tokens: Arc<dyn TokenReads>,
    /// Users of agents.
    pub agent_users: Arc<dyn AgentUserReads>,
    /// Uploads.
    pub files: Arc<dyn FileReads>,
    /// Sessions and turns.
    pub sessions: Arc<dyn SessionReads>,
    /// The event log.
    pub events: Arc<dyn EventReads>,
    /// Requests that may be sent again.
    pub keys: Arc<dyn KeyReads>,
    /// The ledger.
    pub ledger: Arc<dyn LedgerReads>,
}
