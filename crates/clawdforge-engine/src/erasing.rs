//! Erasing conversations that were closed long ago: first what their agents keep of them, then their rows, then
//! their directories.
//!
//! A row is what the rest is found by, so it goes only when the agent's side has: a service that ends in between, an
//! agent that cannot be asked now and a commit that fails all leave it for the next sweep. An agent that cannot be
//! brought to it does not keep the row for ever: after some sweeps it is erased all the same, which the ledger says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use clawdforge_agent::{AgentDriver, ForgetReport, Forgotten, Home};
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::id::{HostId, SessionId};
use clawdforge_core::ledger::LedgerFact;
use clawdforge_core::session::Session;
use clawdforge_process::TreeMark;
use clawdforge_store::CommitError;
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::engine::Shared;
use crate::error::EngineError;
use crate::hosts::is_gone;

/// Conversations that are erased together: each agent is started once for its own of them.
const SESSIONS_PER_FORGETTING: usize = 32;

/// How long one driver may take for its own of those.
const FORGET_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a driver may take to come to an end when it is told to: an agent to leave, and to be killed. A drain waits
/// for it.
const FORGET_END_MAX: Duration = Duration::from_secs(8);

/// Sweeps in which a conversation's agent is asked in vain before its row goes without. With the usual sweep, an
/// agent that is being replaced has five minutes to come back.
const FORGET_TRIES_MAX: u32 = 5;

/// Conversations that one sweep leaves before it looks for no more: each 32 of them may have taken their time.
const LEFT_MAX: usize = 256;

/// In how many sweeps the agents of conversations that are still there were asked in vain. Lost with the service: the next
/// one begins to count anew.
#[derive(Debug, Default)]
pub(crate) struct Tries(HashMap<SessionId, u32>);

impl Tries {
    /// One more in vain; whether it was the last.
    fn are_over(&mut self, session: SessionId) -> bool {
        let tries = self.0.entry(session).or_default();
        *tries += 1;
        *tries >= FORGET_TRIES_MAX
    }
}

/// What became of the agent's side of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AgentSide {
    Gone,
    /// Something may be left.
    Left,
    /// It has no way to erase its record.
    Kept,
    /// There is nobody to ask any more.
    Unknown,
}

/// Erases what is due, as far as it can be; how many conversations that were comes back.
pub(crate) async fn closed_sessions(
    shared: &Arc<Shared>,
    tries: &mut Tries,
    stop: &CancellationToken,
) -> Result<usize, EngineError> {
    let mut erased = 0;
    let mut left = HashSet::new();
    while !stop.is_cancelled() && left.len() < LEFT_MAX {
        let before = shared.ids.now().minus(shared.options.session_hard_ttl);
        let limit = SESSIONS_PER_FORGETTING + left.len();
        let mut due = shared.store.sessions.conversations_closed_before(before, limit).await?;
        due.retain(|session| !left.contains(&session.id));
        if due.is_empty() {
            break;
        }
        // What is being closed would write down again what was erased; it is for the next sweep.
        left.extend(due.iter().map(|session| session.id).filter(|id| shared.registry.is_owned(*id)));
        due.retain(|session| !left.contains(&session.id));
        left.extend(survived(shared, &due).await?);
        due.retain(|session| !left.contains(&session.id));
        for (session, side) in forget(shared, due, stop).await? {
            if side == AgentSide::Left && stop.is_cancelled() {
                // Perhaps only because of that.
                continue;
            }
            if side == AgentSide::Left && !tries.are_over(session.id) {
                left.insert(session.id);
                continue;
            }
            if side != AgentSide::Gone {
                tracing::warn!(
                    session.id = %session.id, agent.name = %session.agent, is_configured = side != AgentSide::Unknown,
                    "a session is erased although its agent may keep its own record of it"
                );
            }
            erase(shared, &session, side == AgentSide::Gone).await?;
            tries.0.remove(&session.id);
            erased += 1;
        }
    }
    Ok(erased)
}

/// Those of which a process is on record that could not be ended, and still cannot be.
async fn survived(shared: &Arc<Shared>, due: &[Session]) -> Result<Vec<SessionId>, EngineError> {
    let linked: HashSet<_> =
        shared.store.sessions.linked_conversations().await?.into_iter().map(|(id, _)| id).collect();
    let mut survived = Vec::new();
    for session in due.iter().filter(|session| linked.contains(&session.id)) {
        if !is_gone(&session.id).await {
            survived.push(session.id);
        }
    }
    Ok(survived)
}

/// Has the agents of conversations erase their side.
async fn forget(
    shared: &Arc<Shared>,
    due: Vec<Session>,
    stop: &CancellationToken,
) -> Result<Vec<(Session, AgentSide)>, EngineError> {
    let mut askings: BTreeMap<_, Asking> = BTreeMap::new();
    let mut sides = Vec::with_capacity(due.len());
    for session in due {
        let workspace = shared.workspaces.of_conversation(session.id);
        let (Ok(driver), Ok(mark)) = (shared.driver_of(&session), TreeMark::new(session.id.to_string())) else {
            sides.push((session, AgentSide::Unknown));
            continue;
        };
        let home = match shared.home_of(session.app, &session.agent, &workspace).await {
            Ok(home) => home,
            Err(failure) => {
                tracing::warn!(session.id = %session.id, reason = failure.message, "an agent cannot be asked to forget now");
                sides.push((session, AgentSide::Left));
                continue;
            }
        };
        let record = shared.store.sessions.conversation(session.id).await?;
        let spoken = session.conversation.as_ref().map(|chosen| chosen.driver);
        // What an agent keeps is where its home is.
        let key = (session.agent.clone(), spoken, home.as_ref().map(|home| home.path.clone()));
        let new = || Asking { driver: Arc::clone(driver), home, forgotten: Vec::new() };
        askings.entry(key).or_insert_with(new).forgotten.push(Forgotten {
            workspace: workspace.work(),
            scratch: workspace.scratch(),
            mark,
            resume_key: record.and_then(|record| record.resume_key),
        });
        sides.push((session, AgentSide::Gone));
    }
    let mut not_gone = HashMap::new();
    for asking in askings.into_values() {
        let ForgetReport { left, kept, .. } = ask(shared, asking, stop).await;
        not_gone.extend(kept.into_iter().map(|mark| (mark.to_string(), AgentSide::Kept)));
        not_gone.extend(left.into_iter().map(|mark| (mark.to_string(), AgentSide::Left)));
    }
    for (session, side) in &mut sides {
        if let Some(found) = not_gone.get(&session.id.to_string()) {
            *side = *found;
        }
    }
    Ok(sides)
}

/// What one driver is asked.
pub(crate) struct Asking {
    pub driver: Arc<dyn AgentDriver>,
    /// Where their agents lived.
    pub home: Option<Home>,
    pub forgotten: Vec<Forgotten>,
}

/// Has one driver forget.
///
/// The agent that it may start for that is on record as a process to be shared is, so that no end of the service
/// leaves it behind. It takes no slot: it does no work, there is one at a time, and it has little time.
pub(crate) async fn ask(shared: &Arc<Shared>, asking: Asking, stop: &CancellationToken) -> ForgetReport {
    let Asking { driver, home, forgotten } = asking;
    let in_vain =
        ForgetReport { left: forgotten.iter().map(|one| one.mark.clone()).collect(), ..ForgetReport::default() };
    if stop.is_cancelled() {
        return in_vain;
    }
    let id = shared.ids.make(HostId::new);
    let (dir, given_up) = (shared.workspaces.of_host(id), stop.child_token());
    let place = match shared.note_host(id, &dir, home, given_up.clone()).await {
        Ok(place) => place,
        Err(failure) => {
            tracing::warn!(agent.name = %driver.name(), reason = failure.message, "an agent cannot be asked to forget now");
            shared.forget_host(id).await;
            return in_vain;
        }
    };
    // What a driver does for tidiness must not stop the sweep.
    let forgetting = AssertUnwindSafe(driver.forget(forgotten, place)).catch_unwind();
    let too_long = async {
        tokio::select! {
            () = tokio::time::sleep(FORGET_WAIT_MAX) => {}
            () = stop.cancelled() => {}
        }
        given_up.cancel();
        tokio::time::sleep(FORGET_END_MAX).await;
    };
    // Dropped, it kills what it has started.
    let report = tokio::select! {
        biased;
        report = forgetting => report.ok(),
        () = too_long => None,
    };
    let report = report.unwrap_or_else(|| {
        tracing::error!(agent.name = %driver.name(), "forgetting sessions that are to be erased panicked or hangs");
        in_vain
    });
    if report.left.is_empty() && report.survivors == 0 {
        // Where all went well it is known to be gone.
        shared.forget_host(id).await;
    } else {
        shared.look_for_host(id).await;
    }
    report
}

/// Erases a conversation from the store, and its directory.
async fn erase(shared: &Arc<Shared>, session: &Session, agent_forgot: bool) -> Result<(), EngineError> {
    let fact = LedgerFact::SessionErased { session: session.id, agent_forgot };
    let commit = Commit {
        writes: vec![Write::EraseSession(session.id)],
        ledger: vec![shared.line_of(session, None, "service", fact)],
        ..Commit::default()
    };
    match shared.recorder.plain(commit).await {
        Ok(()) => {}
        Err(CommitError::Unknown(_)) if shared.store.sessions.conversation(session.id).await?.is_none() => {}
        Err(error) => return Err(error.into()),
    }
    let workspace = shared.workspaces.of_conversation(session.id);
    // The row is gone; a directory that cannot be removed now is a stray for the next start.
    if tokio::task::spawn_blocking(move || workspace.remove()).await.is_err() {
        tracing::error!(session.id = %session.id, "removing the directory of a conversation panicked");
    }
    Ok(())
}
