//! Forking a conversation: another one that knows what it knows now.
//!
//! The acceptance lock of the source is held from the first look to the commit, so no turn comes in between; its agent
//! may rest meanwhile and is not touched. The workspace is copied first, then an agent process of its own, in the
//! workspace of the fork, forks the source's record by its key; the row, where it came from, the new key, the ledger's line
//! and the idempotency key are one commit, made as soon as the agent has answered. Whatever is refused leaves neither a
//! directory nor a record of the agent's; after a commit in doubt both stay, and the next start removes the directory
//! where there is no row.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use clawdforge_agent::{AgentDriver, ForgetReport, Forgotten, Home, HostSpec, NotForked, OpenSpec};
use clawdforge_core::agent::{Failure, FailureKind};
use clawdforge_core::app::AppToken;
use clawdforge_core::commit::{Commit, Expect, Write};
use clawdforge_core::id::{AppId, HostId, RequestId, SessionId};
use clawdforge_core::idempotency::IdempotencyKey;
use clawdforge_core::ledger::{AgentAsked, LedgerFact};
use clawdforge_core::session::{Equipment, ForkPoint, Session, SessionRecord};
use clawdforge_core::turn::TurnState;
use clawdforge_process::TreeMark;
use clawdforge_store::CommitError;
use tokio_util::sync::CancellationToken;

use super::calls::may_give;
use super::{SessionChange, SessionView};
use crate::copying::{Bounds, NotCopied, copy};
use crate::engine::Shared;
use crate::erasing::{Asking, ask};
use crate::error::EngineError;
use crate::keys::{self, Submitted};
use crate::options::AgentHome;
use crate::owner::run::waited_too_long;
use crate::owner::tell_of_closing;
use crate::slots::{Slot, Ticket, Use, granted};

/// Why a fork was not made.
enum NotMade {
    /// It is not on record.
    Refused(EngineError),
    /// It may be on record: neither the commit nor the store said.
    InDoubt(EngineError),
}

impl From<EngineError> for NotMade {
    fn from(error: EngineError) -> Self {
        Self::Refused(error)
    }
}

/// A fork that is being made.
struct Fork {
    session: Session,
    from: ForkPoint,
    /// The agent's own id of the source.
    source_key: String,
    driver: Arc<dyn AgentDriver>,
    home: Option<Home>,
    /// What its agent is given, as that of the source was.
    equipment: Equipment,
    given_up: CancellationToken,
}

impl Shared {
    /// Forks a conversation of this app that has no turn under way. The fork takes over what was chosen for it, with the
    /// changes that are wished.
    pub(crate) async fn fork_session(
        self: Arc<Self>,
        by: Arc<AppToken>,
        source: SessionId,
        change: SessionChange,
        id: RequestId,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted<SessionView, SessionId>, EngineError> {
        let _alone = self.enter(&by, key.as_ref()).await;
        if let Some(session) = self.known(&by, key.as_ref()).await? {
            return Ok(Submitted::Known(session));
        }
        if self.stopping.is_cancelled() {
            return Err(EngineError::Stopping);
        }
        // Whose it is comes first, as everywhere.
        self.own_session(&by, source).await?;
        let caller = self.call(source, by.app.id);
        let _no_turn_comes = caller.desk().accepting.lock().await;
        let record = self.own_session(&by, source).await?;
        may_give(&by, record.session.conversation.as_ref().map_or(&[], |chosen| &chosen.tool_servers))?;
        let fork = self.fork_of(record, change).await?;
        let _slot = self.slot_for_a_fork(by.app.id).await?;
        match self.make(&fork, id, key.clone()).await {
            Ok(view) => {
                self.open_sessions.fetch_add(1, Ordering::Relaxed);
                Ok(Submitted::New(view))
            }
            Err(error) => {
                let known = self.known(&by, key.as_ref()).await;
                // Somebody sent it at the same time.
                known.ok().flatten().map(Submitted::Known).ok_or(error)
            }
        }
    }

    /// What is to be made, where the source can be forked now.
    async fn fork_of(&self, source: SessionRecord, change: SessionChange) -> Result<Fork, EngineError> {
        let SessionRecord { session, closed_at, resume_key, turns, .. } = source;
        let Some(chosen) = session.conversation.as_ref().filter(|_| closed_at.is_none()) else {
            return Err(EngineError::SessionClosed);
        };
        let driver = Arc::clone(self.driver_of(&session).map_err(EngineError::AgentUnavailable)?);
        let cannot = |why: &str| Err(EngineError::ForkImpossible(format!("{}: {why}", session.agent)));
        if let Some(why) = driver.cannot_fork() {
            return cannot(why);
        }
        if self.options.agent_home == AgentHome::Session {
            return cannot(
                "its sessions have a home each (agent_home), in which no other finds the record of this one",
            );
        }
        let last = self.store.sessions.turns(session.id, turns.saturating_sub(1), 1).await?;
        let Some(last) = last.into_iter().next() else {
            return cannot("nothing was said in this session yet; open a new one instead");
        };
        if last.turn.state != TurnState::Ended {
            return Err(EngineError::SessionBusy);
        }
        let Some(source_key) = resume_key else {
            return cannot("it keeps no record of this session that it could go on with");
        };
        self.enough_isolation_for(&session, driver.as_ref()).map_err(EngineError::IsolationTooWeak)?;
        driver.check().map_err(EngineError::AgentUnavailable)?;
        let from = ForkPoint { session: session.id, turn_index: turns };
        let conversation = Some(change.of(chosen));
        let isolation = Some(self.isolation_of_session(&session));
        let id = self.ids.make(SessionId::new);
        let session = Session { id, created_at: self.ids.now(), isolation, conversation, ..session };
        let workspace = self.workspaces.of_conversation(id);
        let home = self.home_of(session.app, &session.agent, &workspace).await;
        let home = home.map_err(EngineError::AgentUnavailable)?;
        let equipment = self.store.sessions.equipment(from.session).await?;
        Ok(Fork { session, from, source_key, driver, home, equipment, given_up: self.stopping.child_token() })
    }

    /// A fork takes a slot as a run does: it ends by itself.
    async fn slot_for_a_fork(&self, app: AppId) -> Result<Slot, EngineError> {
        let waiting = match self.slots.admit(app, Use::Run)? {
            Ticket::Ready(slot) => return Ok(slot),
            Ticket::Waiting(waiting) => waiting,
        };
        let wait_max = self.options.queue_wait_max;
        tokio::select! {
            biased;
            slot = granted(waiting, &self.stopping) => slot.ok_or(EngineError::Stopping),
            () = tokio::time::sleep(wait_max) => Err(EngineError::AgentUnavailable(waited_too_long(wait_max))),
        }
    }

    /// Copies the workspace, has the agent fork its record, and records the fork. Where one fails, nothing is left.
    async fn make(
        self: &Arc<Self>,
        fork: &Fork,
        id: RequestId,
        key: Option<IdempotencyKey>,
    ) -> Result<SessionView, EngineError> {
        let made = async {
            self.copy_workspace(fork).await?;
            self.fork_record(fork, id, key).await
        };
        let refused = match made.await {
            Ok(view) => return Ok(view),
            Err(NotMade::InDoubt(error)) => return Err(error),
            Err(NotMade::Refused(error)) => error,
        };
        let workspace = self.workspaces.of_conversation(fork.session.id);
        if tokio::task::spawn_blocking(move || workspace.remove()).await.is_err() {
            tracing::error!(session.id = %fork.session.id, "removing the directory of a fork panicked");
        }
        Err(refused)
    }

    async fn copy_workspace(&self, fork: &Fork) -> Result<(), EngineError> {
        let from = self.workspaces.of_conversation(fork.from.session).work();
        let to = self.workspaces.of_conversation(fork.session.id);
        let (home, given_up) = (fork.home.clone(), fork.given_up.clone());
        let bounds = Bounds::of(self.options.workspace_bytes_max);
        let copied = tokio::task::spawn_blocking(move || {
            let owner = home.as_ref().and_then(|home| home.owner);
            to.begin_closed()?;
            copy(&from, &to.work(), owner, bounds, &given_up)?;
            Ok(to.make(home.as_ref()))
        });
        let copied = copied.await.map_err(|_| EngineError::Internal("copying a workspace panicked".to_owned()))?;
        match copied {
            Ok(made) => made.map_err(EngineError::AgentUnavailable),
            Err(NotCopied::GivenUp) => Err(EngineError::Stopping),
            Err(NotCopied::TooMuch(which)) => {
                Err(EngineError::ForkImpossible(format!("the session's workspace cannot be copied: {which}")))
            }
            Err(NotCopied::Failed(error)) => Err(match error.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => EngineError::DiskFull,
                _ => EngineError::Internal(format!("the workspace of {} cannot be copied: {error}", fork.from.session)),
            }),
        }
    }

    /// Starts an agent for it, which is on record as a process to be shared is, so that no end of the service leaves it
    /// behind.
    async fn fork_record(
        self: &Arc<Self>,
        fork: &Fork,
        id: RequestId,
        key: Option<IdempotencyKey>,
    ) -> Result<SessionView, NotMade> {
        let host = self.ids.make(HostId::new);
        let dir = self.workspaces.of_host(host);
        let noted = self.note_host(host, &dir, fork.home.clone(), fork.given_up.clone()).await;
        let forked = match noted {
            Ok(place) => fork.driver.fork(self.spec_of(fork, place)).await,
            Err(failure) => Err(NotForked::Failed(failure)),
        };
        let link = match forked {
            Ok(link) => link,
            Err(refused) => {
                self.look_for_host(host).await;
                return Err(self.refused(fork, refused).into());
            }
        };
        let forked_key = link.resume_key();
        let recorded = self.record_fork(fork, forked_key.clone(), id, key).await;
        let report = link.close(self.options.kill_grace).await;
        tell_of_closing(&host, &report);
        if report.survivors == 0 {
            self.forget_host(host).await;
        } else {
            self.look_for_host(host).await;
        }
        if let Err(NotMade::Refused(_)) = recorded {
            self.take_back(fork, forked_key).await;
        }
        recorded
    }

    fn spec_of(&self, fork: &Fork, place: HostSpec) -> OpenSpec {
        let workspace = self.workspaces.of_conversation(fork.session.id);
        let chosen = fork.session.conversation.as_ref();
        OpenSpec {
            workspace: workspace.work(),
            scratch: workspace.scratch(),
            mark: place.mark,
            model: chosen.and_then(|chosen| chosen.model.clone()),
            resume: Some(fork.source_key.clone()),
            system: fork.equipment.system.clone(),
            system_mode: chosen.and_then(|chosen| chosen.system_mode).unwrap_or_default(),
            effort: chosen.and_then(|chosen| chosen.effort),
            mode: chosen.and_then(|chosen| chosen.mode.clone()),
            tool_servers: fork.equipment.tool_servers.clone(),
            output_schema: None,
            home: place.home,
            app: Some(self.network_of(fork.session.app)),
            given_up: place.given_up,
        }
    }

    fn refused(&self, fork: &Fork, refused: NotForked) -> EngineError {
        let agent = &fork.session.agent;
        match refused {
            NotForked::Failed(_) if self.stopping.is_cancelled() => EngineError::Stopping,
            NotForked::Failed(failure) => EngineError::AgentUnavailable(failure),
            NotForked::NotOffered => {
                EngineError::ForkImpossible(format!("{agent}: it does not offer to fork sessions"))
            }
            NotForked::Unknown => {
                EngineError::ForkImpossible(format!("{agent}: it has no record of this session any more"))
            }
        }
    }

    async fn record_fork(
        &self,
        fork: &Fork,
        resume_key: Option<String>,
        request: RequestId,
        key: Option<IdempotencyKey>,
    ) -> Result<SessionView, NotMade> {
        let Fork { session, from, equipment, .. } = fork;
        let Some(resume_key) = resume_key else {
            let failure = Failure::new(FailureKind::StartFailed, "the agent gave the fork no name to go on with");
            return Err(EngineError::AgentUnavailable(failure).into());
        };
        let asked = AgentAsked {
            agent: session.agent.to_string(),
            model: session.conversation.as_ref().and_then(|chosen| chosen.model.clone()),
            isolation: session.isolation,
        };
        let writes = [
            Write::OpenSession(session.clone()),
            Write::NoteFork(session.id, *from),
            Write::NoteResume(session.id, Some(resume_key.clone())),
        ];
        let equipped = (*equipment != Equipment::default()).then(|| Write::EquipSession(session.id, equipment.clone()));
        let unused = key.as_ref().map(|key| keys::unused(session.app, key));
        let kept = key.map(|key| self.keep(session.app, key, session.id.to_string()));
        let commit = Commit {
            expects: [Expect::SessionOpen(from.session)].into_iter().chain(unused).collect(),
            writes: writes.into_iter().chain(equipped).chain(kept).collect(),
            ledger: vec![self.line_of(session, Some(request), "app", LedgerFact::SessionForked(session.id, asked))],
        };
        match self.recorder.plain(commit).await {
            Ok(()) => {}
            Err(CommitError::Unexpected { index: 0 }) => return Err(EngineError::SessionClosed.into()),
            Err(CommitError::Unexpected { index: 1 }) => return Err(EngineError::KeyReused.into()),
            // A doubtful commit: it is there, or it is not.
            Err(error @ CommitError::Unknown(_)) => match self.store.sessions.conversation(session.id).await {
                Ok(Some(_)) => {}
                Ok(None) => return Err(EngineError::from(error).into()),
                Err(unread) => return Err(NotMade::InDoubt(unread.into())),
            },
            Err(error) => return Err(EngineError::from(error).into()),
        }
        Ok(self.view(SessionRecord {
            session: session.clone(),
            closed_at: None,
            resume_key: Some(resume_key),
            turns: 0,
            last_turn_at: None,
            forked_from: Some(*from),
        }))
    }

    /// Has the agent erase its record of a fork that is not on ours.
    async fn take_back(self: &Arc<Self>, fork: &Fork, resume_key: Option<String>) {
        let workspace = self.workspaces.of_conversation(fork.session.id);
        let Ok(mark) = TreeMark::new(fork.session.id.to_string()) else { return };
        let forgotten = Forgotten { workspace: workspace.work(), scratch: workspace.scratch(), mark, resume_key };
        let (driver, home) = (Arc::clone(&fork.driver), fork.home.clone());
        let asking = Asking { driver, home, forgotten: vec![forgotten] };
        let ForgetReport { left, kept, .. } = ask(self, asking, &self.stopping).await;
        if !left.is_empty() || !kept.is_empty() {
            tracing::warn!(session.id = %fork.session.id, agent.name = %fork.session.agent,
                "an agent may keep its own record of a fork that could not be recorded");
        }
    }
}
