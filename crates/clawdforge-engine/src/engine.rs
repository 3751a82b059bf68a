//! The handle the server holds.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clawdforge_agent::{AgentDriver, Agents, SessionAgents};
use clawdforge_core::app::{AppName, AppToken, TokenHash};
use clawdforge_core::commit::Commit;
use clawdforge_core::event::{Event, EventSeq};
use clawdforge_core::file::File;
use clawdforge_core::id::{RequestId, RunId, SessionId, TurnId};
use clawdforge_core::idempotency::IdempotencyKey;
use clawdforge_core::ledger::{FailedSignIns, LedgerEntry, LedgerFact, LedgerLine};
use clawdforge_core::principal::Principal;
use clawdforge_core::run::RunRequest;
use clawdforge_core::session::Session;
use clawdforge_process::Spawner;
use clawdforge_store::{LedgerQuery, Store};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::cancels::Cancels;
use crate::conversation::registry::Registry;
use crate::conversation::{SessionChange, SessionView, SessionWish, TurnRequest, TurnTicket};
use crate::error::EngineError;
use crate::files::{Files, Upload, UploadWish};
use crate::homes::Homes;
use crate::hosts::Hosts;
use crate::hub::{Ended, Tails};
use crate::ids::Ids;
use crate::keys::{KeysInUse, Submitted};
use crate::options::EngineOptions;
use crate::output::Checks;
use crate::record::Recorder;
use crate::recovery::{self, RecoveryReport};
use crate::runs::RunTicket;
use crate::slots::{SlotLimits, Slots};
use crate::tasks::{OnError, TaskKind, Tasks};
use crate::tokens::{Minted, TokenWish, Tokens};
use crate::workspace::Workspaces;
use crate::{drain, sweep};

/// The agent the first versions report on in `/healthz`.
const CLAUDE: &str = "claude";

const SUBMIT: TaskKind = TaskKind { name: "submit", on_error: OnError::Log };

/// What an engine is made of; chosen by the binary.
pub struct Parts {
    /// Where everything is recorded.
    pub store: Store,
    /// The agents of runs.
    pub agents: Arc<Agents>,
    /// The agents of conversations.
    pub session_agents: Arc<SessionAgents>,
    /// The `acpx` program; `/healthz` tells of it.
    pub acpx: Arc<dyn AgentDriver>,
    /// Where processes come from.
    pub spawner: Spawner,
    /// Time and randomness.
    pub ids: Ids,
    /// SHA-256 of the admin token.
    pub operator: TokenHash,
    /// What the operator set.
    pub options: EngineOptions,
}

/// The service without its HTTP surface. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

/// What every part of the engine may reach.
pub(crate) struct Shared {
    pub store: Store,
    pub recorder: Recorder,
    pub agents: Arc<Agents>,
    pub session_agents: Arc<SessionAgents>,
    pub acpx: Arc<dyn AgentDriver>,
    pub registry: Registry,
    /// Sessions that are written or followed.
    pub tails: Tails,
    /// Turns that can be told to stop.
    pub cancels: Cancels,
    /// Requests that may be sent again, while they are looked at.
    pub keys_in_use: KeysInUse,
    /// Looks whether answers fit their schemas.
    pub checks: Checks,
    /// Agent processes that no conversation has to itself from birth.
    pub hosts: Hosts,
    /// Open conversations, counted here because `/healthz` asks no disk.
    pub open_sessions: AtomicU64,
    pub default_driver: Arc<dyn AgentDriver>,
    pub spawner: Spawner,
    pub ids: Ids,
    pub options: EngineOptions,
    pub tokens: Tokens,
    pub files: Files,
    pub workspaces: Workspaces,
    pub homes: Homes,
    pub slots: Slots,
    pub operator: TokenHash,
    /// Owners and submissions: what a drain waits for.
    pub work: Tasks,
    /// Loops that end when told to.
    pub background: Tasks,
    /// No new work from here on.
    pub stopping: CancellationToken,
    /// Running work is interrupted from here on.
    pub expired: CancellationToken,
}

/// What `/healthz` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The `claude` program was found.
    pub claude_present: bool,
    /// Its version, once known.
    pub claude_version: Option<String>,
    /// The `acpx` program was found.
    pub acpx_present: bool,
    /// Its version, once known.
    pub acpx_version: Option<String>,
    /// Open conversations of all apps.
    pub open_sessions: u64,
}

impl Engine {
    /// Makes the store true again after whatever ended the last service, and starts the sweep.
    ///
    /// # Errors
    /// When the store cannot be read or a directory cannot be made.
    pub async fn start(parts: Parts) -> Result<(Self, RecoveryReport), EngineError> {
        let Parts { store, agents, session_agents, acpx, spawner, ids, operator, options } = parts;
        let recorder = Recorder { door: Arc::clone(&store.door), events: Arc::clone(&store.events) };
        let tokens = Tokens::load(Arc::clone(&store.tokens), recorder.clone(), ids.clone()).await?;
        let limits = SlotLimits {
            slots: options.slots,
            queue_max: options.queue_max,
            queue_per_app_max: options.queue_per_app_max,
        };
        let default_driver = agents.get(agents.default_name()).map(Arc::clone);
        let default_driver =
            default_driver.ok_or_else(|| EngineError::Internal("the default agent is not configured".to_owned()))?;
        let open_sessions = store.sessions.open_conversations().await?;
        let shared = Arc::new(Shared {
            default_driver,
            files: Files::new(&options.data_dir, options.upload_bytes_max)?,
            workspaces: Workspaces::new(&options.data_dir, options.users.is_some())?,
            homes: Homes::new(&options)?,
            slots: Slots::new(limits),
            work: Tasks::default(),
            background: Tasks::default(),
            stopping: CancellationToken::new(),
            expired: CancellationToken::new(),
            store,
            recorder,
            agents,
            session_agents,
            acpx,
            registry: Registry::default(),
            tails: Tails::default(),
            cancels: Cancels::default(),
            checks: Checks::new(),
            keys_in_use: KeysInUse::default(),
            hosts: Hosts::default(),
            open_sessions: AtomicU64::new(open_sessions),
            spawner,
            ids,
            options,
            tokens,
            operator,
        });
        let (report, promised) = recovery::recover(&shared).await?;
        recovery::go_on(&shared, promised).await;
        sweep::start(&shared);
        Ok((Self { shared }, report))
    }

    /// The app token behind a bearer, if it is live.
    #[must_use]
    pub fn app(&self, bearer: &str) -> Option<Arc<AppToken>> {
        self.shared.tokens.find(bearer)
    }

    /// Whether a bearer is the admin token.
    #[must_use]
    pub fn is_operator(&self, bearer: &str) -> bool {
        TokenHash::of(bearer) == self.shared.operator
    }

    /// Accepts a run, or refuses it without having started anything. One that was sent before with the same key is
    /// told.
    ///
    /// # Errors
    /// See [`EngineError`]; on any of them the agent was not started.
    pub async fn submit_run(
        &self,
        by: &Arc<AppToken>,
        request: RunRequest,
        id: RequestId,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted<RunTicket, RunId>, EngineError> {
        self.undisturbed(Arc::clone(&self.shared).submit_run(Arc::clone(by), request, id, key)).await
    }

    /// Opens a conversation. No agent is started yet. One that was opened before with the same key is told.
    ///
    /// # Errors
    /// [`EngineError::UnknownAgent`], [`EngineError::AgentUnavailable`], [`EngineError::IsolationTooWeak`], or when it cannot be recorded.
    pub async fn open_session(
        &self,
        by: &Arc<AppToken>,
        wish: SessionWish,
        id: RequestId,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted<Session, SessionId>, EngineError> {
        self.undisturbed(Arc::clone(&self.shared).open_session(Arc::clone(by), wish, id, key)).await
    }

    /// Accepts a turn of a conversation, or refuses it without having started anything. Turns of one
    /// conversation are done one after the other, in the order of their acceptance. One that was sent before with the
    /// same key is told.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::SessionClosed`], [`EngineError::Busy`], [`EngineError::IsolationTooWeak`]; on any error no agent
    /// was started.
    pub async fn submit_turn(
        &self,
        by: &Arc<AppToken>,
        session: SessionId,
        request: TurnRequest,
        id: RequestId,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted<TurnTicket, TurnId>, EngineError> {
        self.undisturbed(Arc::clone(&self.shared).submit_turn(Arc::clone(by), session, request, id, key)).await
    }

    /// A conversation of this app.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where it is unknown or another app's.
    pub async fn session(&self, by: &AppToken, session: SessionId) -> Result<SessionView, EngineError> {
        self.shared.session(by, session).await
    }

    /// The conversations of this app, newest first, at most
    /// [`PAGE_ROWS_MAX`](clawdforge_core::limits::PAGE_ROWS_MAX).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn sessions(&self, by: &AppToken, include_closed: bool) -> Result<Vec<SessionView>, EngineError> {
        self.shared.sessions(by, include_closed).await
    }

    /// Changes a conversation of this app. Turns that begin from now on go by it; one under way goes on.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where it is unknown or another app's, [`EngineError::SessionClosed`].
    pub async fn change_session(
        &self,
        by: &Arc<AppToken>,
        session: SessionId,
        change: SessionChange,
        id: RequestId,
    ) -> Result<SessionView, EngineError> {
        self.undisturbed(Arc::clone(&self.shared).change_session(Arc::clone(by), session, change, id)).await
    }

    /// Forks a conversation of this app that has no turn under way: another one that knows what it knows now, with the same
    /// choices but for the changes that are wished. One that was made before with the same key is told.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::SessionClosed`], [`EngineError::SessionBusy`],
    /// [`EngineError::ForkImpossible`], [`EngineError::AgentUnavailable`], [`EngineError::Busy`]; on any error there is no fork.
    pub async fn fork_session(
        &self,
        by: &Arc<AppToken>,
        source: SessionId,
        change: SessionChange,
        id: RequestId,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted<SessionView, SessionId>, EngineError> {
        self.undisturbed(Arc::clone(&self.shared).fork_session(Arc::clone(by), source, change, id, key)).await
    }

    /// Closes a conversation, and returns when its turns have ended and its agent is gone. False when it was
    /// closed before.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where it is unknown or another app's.
    pub async fn close_session(
        &self,
        by: &Arc<AppToken>,
        session: SessionId,
        id: RequestId,
    ) -> Result<bool, EngineError> {
        self.undisturbed(Arc::clone(&self.shared).close_session(Arc::clone(by), session, id)).await
    }

    /// Events of a turn from after number `after` on, at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn turn_events(
        &self,
        session: SessionId,
        turn: &Ended,
        after: EventSeq,
        limit: usize,
    ) -> Result<Vec<Event>, EngineError> {
        let after = after.max(turn.first - 1);
        let wanted = usize::try_from(turn.last.saturating_sub(after)).unwrap_or(usize::MAX);
        Ok(self.shared.store.events.events_after(session, after, limit.min(wanted)).await?)
    }

    /// Begins an upload of about so many bytes, where somebody said.
    ///
    /// # Errors
    /// [`EngineError::DiskFull`] where there is no room for so many, or when its file cannot be made.
    pub async fn begin_upload(&self, announced: Option<u64>) -> Result<Upload, EngineError> {
        self.shared.files.begin(&self.shared.ids, announced).await
    }

    /// Finishes an upload: from here on it can be attached, for the time also returned. With a key, the same bytes under the
    /// same name are one file, however often they are sent.
    ///
    /// # Errors
    /// When the bytes cannot be flushed or the file cannot be recorded; nothing is left then. [`EngineError::KeyReused`] where
    /// the key was used for something else, [`EngineError::NotFound`] where it is still remembered and its file is not there.
    pub async fn finish_upload(
        &self,
        upload: Upload,
        by: &Arc<AppToken>,
        wish: UploadWish,
        id: RequestId,
    ) -> Result<Submitted<(File, Duration), File>, EngineError> {
        let (shared, by) = (Arc::clone(&self.shared), Arc::clone(by));
        self.undisturbed(async move { shared.finish_upload(upload, &by, wish, id).await }).await
    }

    /// Mints a token for an app, which is registered if its name is new.
    ///
    /// # Errors
    /// [`EngineError::NameTaken`] while the app has a live token.
    pub async fn mint_token(&self, wish: TokenWish, id: RequestId) -> Result<Minted, EngineError> {
        let shared = Arc::clone(&self.shared);
        self.undisturbed(async move { shared.tokens.mint(wish, id).await }).await
    }

    /// Revokes an app's token. Runs under way go on; new requests with it are refused at once.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when the app has no live token.
    pub async fn revoke_token(&self, name: AppName, id: RequestId) -> Result<(), EngineError> {
        let shared = Arc::clone(&self.shared);
        self.undisturbed(async move { shared.tokens.revoke(&name, id).await }).await
    }

    /// All live tokens, by app name.
    #[must_use]
    pub fn tokens(&self) -> Vec<Arc<AppToken>> {
        self.shared.tokens.list()
    }

    /// A page of the ledger.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn ledger(&self, query: LedgerQuery) -> Result<Vec<LedgerLine>, EngineError> {
        Ok(self.shared.store.ledger.ledger(query).await?)
    }

    /// Writes failed sign-ins into the ledger, a line for each burst.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn record_failed_sign_ins(&self, bursts: Vec<FailedSignIns>) -> Result<(), EngineError> {
        let at = self.shared.ids.now();
        let line = |burst| LedgerEntry {
            at,
            principal: Principal::Service.kind(),
            app: None,
            request: None,
            fact: LedgerFact::SignInsFailed(burst),
        };
        let commit = Commit { ledger: bursts.into_iter().map(line).collect(), ..Commit::default() };
        Ok(self.shared.recorder.plain(commit).await?)
    }

    /// What `/healthz` tells; waits for nothing.
    #[must_use]
    pub fn health(&self) -> Health {
        let claude = self.shared.agents.iter().find(|driver| driver.name().as_str() == CLAUDE);
        let claude = claude.map(|driver| driver.presence());
        let acpx = self.shared.acpx.presence();
        Health {
            claude_present: claude.as_ref().is_some_and(|claude| claude.program.is_some()),
            claude_version: claude.and_then(|claude| claude.version),
            acpx_present: acpx.program.is_some(),
            acpx_version: acpx.version,
            open_sessions: self.shared.open_sessions.load(Ordering::Relaxed),
        }
    }

    /// A new id for a request.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        self.shared.ids.make(RequestId::new)
    }

    /// Whether the service takes new work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.shared.stopping.is_cancelled()
    }

    /// Takes no new work from now on; work that still waits for a slot is ended.
    pub fn stop_taking_work(&self) {
        self.shared.stopping.cancel();
    }

    /// Resolves when something broke without which the service cannot go on.
    pub async fn broken(&self) {
        self.shared.background.broken().await;
    }

    /// Stops in good order: see [`drain`].
    pub async fn drain(&self, deadline: Duration) -> drain::DrainReport {
        drain::drain(&self.shared, deadline).await
    }

    /// Ends a drain's patience: what still runs is interrupted now.
    pub fn interrupt_now(&self) {
        self.shared.expired.cancel();
    }

    /// Lets a change run to its end although whoever asked for it goes away (I9): a commit that was
    /// sent must not lose the steps that follow it.
    pub(crate) async fn undisturbed<T, F>(&self, change: F) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.shared.work.spawn(SUBMIT, async move {
            // Nobody listens any more when the caller has gone; the change stands all the same.
            drop(sender.send(change.await));
        });
        receiver.await.unwrap_or_else(|_| Err(EngineError::Internal("a change panicked".to_owned())))
    }
}
