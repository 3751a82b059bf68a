//! The sweep: idle conversations are closed, closed ones erased; expired uploads, the contents of old runs, old ledger lines, orphaned zombies.

use std::sync::Arc;

use clawdforge_core::commit::{Commit, Expect, Write};
use clawdforge_core::idempotency::KEY_LIFE;
use clawdforge_core::ledger::{LedgerEntry, LedgerFact};
use clawdforge_core::session::Session;
use clawdforge_core::time::Timestamp;
use futures_util::stream::{self, StreamExt as _};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::engine::Shared;
use crate::erasing::{self, Tries};
use crate::error::EngineError;
use crate::tasks::{OnError, TaskKind};

/// Uploads one commit erases.
const FILES_PER_COMMIT: usize = 100;

/// Conversations looked at at once.
const SESSIONS_PER_LOOK: usize = 100;

/// Conversations closed at once: each may have to wait some seconds for its agent's end.
const CLOSINGS_AT_ONCE: usize = 8;

/// Runs one commit erases. A run may have 20,000 events, which take the store's writer about 140 ms to
/// erase; everybody else waits meanwhile.
const RUNS_PER_COMMIT: usize = 8;

const SWEEP: TaskKind = TaskKind { name: "sweep", on_error: OnError::Shutdown };

/// What one sweep erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// Uploads whose life was over.
    pub files: usize,
    /// Runs whose prompt, answer and events were kept long enough.
    pub runs: usize,
    /// Conversations that nobody had used for a while, and that were closed.
    pub sessions_closed: usize,
    /// Closed conversations that were kept long enough.
    pub sessions: usize,
}

/// Starts the loop; it ends when background tasks are told to.
pub(crate) fn start(shared: &Arc<Shared>) {
    let sweeper = Arc::clone(shared);
    let stop = shared.background.stop_token();
    shared.background.spawn(SWEEP, async move {
        let mut ticks = tokio::time::interval(sweeper.options.sweep_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tries = Tries::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match sweep(&sweeper, &mut tries, &stop).await {
                Ok(report) if report != SweepReport::default() => {
                    tracing::info!(
                        files = report.files,
                        runs = report.runs,
                        sessions = report.sessions,
                        sessions_closed = report.sessions_closed,
                        "the sweep erased what had expired"
                    );
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "the sweep failed; it will try again"),
            }
        }
    });
}

/// One pass. It ends early, after a commit, when told to stop: what is left is for the next one.
async fn sweep(shared: &Arc<Shared>, tries: &mut Tries, stop: &CancellationToken) -> Result<SweepReport, EngineError> {
    let reaped = shared.spawner.reap_orphans();
    if reaped > 0 {
        tracing::debug!(reaped, "collected processes whose parents had left them to the service");
    }
    shared.look_for_lost_hosts().await;
    // After a doubtful commit while the store could not be read either, the memory heals here.
    shared.tokens.refresh().await?;
    let report = SweepReport {
        files: expired_files(shared, stop).await?,
        runs: old_runs(shared, stop).await?,
        sessions_closed: idle_sessions(shared, stop).await?,
        sessions: erasing::closed_sessions(shared, tries, stop).await?,
    };
    // Most passes find none, and a statement that finds none costs nothing.
    let keys = vec![Write::TrimKeys(shared.ids.now().minus(KEY_LIFE))];
    shared.recorder.plain(Commit { writes: keys, ..Commit::default() }).await?;
    if let Some(keep) = shared.options.ledger_retention {
        let before = shared.ids.now().minus(keep);
        while !stop.is_cancelled() && shared.store.ledger.has_lines_before(before).await? {
            let commit = Commit { writes: vec![Write::TrimLedger(before)], ..Commit::default() };
            shared.recorder.plain(commit).await?;
        }
    }
    Ok(report)
}

async fn expired_files(shared: &Arc<Shared>, stop: &CancellationToken) -> Result<usize, EngineError> {
    let mut erased = 0;
    while !stop.is_cancelled() {
        let expired = shared.store.files.expired_files(shared.ids.now(), FILES_PER_COMMIT).await?;
        let Some(last) = expired.len().checked_sub(1) else { return Ok(erased) };
        let commit = Commit {
            writes: expired.iter().map(|file| Write::RemoveFile(file.id)).collect(),
            ledger: expired.iter().map(|file| line(shared, LedgerFact::FileErased(file.id), None)).collect(),
            ..Commit::default()
        };
        shared.recorder.plain(commit).await?;
        for file in &expired {
            // The row is gone; bytes that cannot be removed now are strays for the next start.
            if let Err(error) = shared.files.erase(file.id).await {
                tracing::warn!(file.id = %file.id, %error, "the bytes of an expired upload could not be removed");
            }
        }
        erased += last + 1;
    }
    Ok(erased)
}

async fn old_runs(shared: &Arc<Shared>, stop: &CancellationToken) -> Result<usize, EngineError> {
    let mut erased = 0;
    while !stop.is_cancelled() {
        let before = shared.ids.now().minus(shared.options.run_retention);
        let old = shared.store.sessions.runs_ended_before(before, RUNS_PER_COMMIT).await?;
        let Some(last) = old.len().checked_sub(1) else { return Ok(erased) };
        let commit = Commit {
            writes: old.iter().map(|run| Write::EraseSession(run.id)).collect(),
            ledger: old
                .iter()
                .map(|run| line(shared, LedgerFact::RunErased(run.id.into()), Some(run.app_name.clone())))
                .collect(),
            ..Commit::default()
        };
        shared.recorder.plain(commit).await?;
        erased += last + 1;
    }
    Ok(erased)
}

async fn idle_sessions(shared: &Arc<Shared>, stop: &CancellationToken) -> Result<usize, EngineError> {
    let mut closed = 0;
    while !stop.is_cancelled() {
        let before = shared.ids.now().minus(shared.options.session_ttl);
        let idle = shared.store.sessions.conversations_idle_since(before, SESSIONS_PER_LOOK).await?;
        if idle.is_empty() {
            break;
        }
        let closings = idle.into_iter().map(|session| close_idle(Arc::clone(shared), session, before));
        let closings: Vec<_> = stream::iter(closings).buffer_unordered(CLOSINGS_AT_ONCE).collect().await;
        closed += closings.iter().filter(|closing| matches!(closing, Ok(true))).count();
        if closings.iter().any(Result::is_err) {
            // The next look would find the same ones; everything else of the sweep need not wait for them.
            break;
        }
    }
    Ok(closed)
}

/// Closes a conversation, unless it was used since.
async fn close_idle(shared: Arc<Shared>, session: Session, before: Timestamp) -> Result<bool, EngineError> {
    let (still, fact) = (Expect::SessionIdle(session.id, before), LedgerFact::SessionSwept(session.id));
    shared.close_for(&session, still, None, "service", fact).await.inspect_err(|error| {
        tracing::error!(session.id = %session.id, %error, "an idle session could not be closed; it is tried again");
    })
}

fn line(shared: &Arc<Shared>, fact: LedgerFact, app: Option<String>) -> LedgerEntry {
    LedgerEntry { at: shared.ids.now(), principal: "service", app, request: None, fact }
}
