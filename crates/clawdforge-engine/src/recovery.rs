//! What happens at start: the store is made true again.
//!
//! Process trees of the last service are ended first, so that "interrupted" is true when it is
//! recorded. A run that had not begun is ended as interrupted as well: its caller went with the
//! connection, and an answer for nobody would still cost money (docs/decisions/0003).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use clawdforge_core::agent::{Failure, FailureKind};
use clawdforge_core::event::{EventBody, TurnOutcome};
use clawdforge_core::ledger::RunFacts;
use clawdforge_core::turn::TurnState;
use clawdforge_process::{TreeMark, reaper};
use clawdforge_store::{EndedTurn, UnfinishedTurn};

use crate::engine::Shared;
use crate::error::EngineError;
use crate::record::EndRecord;
use crate::workspace::remove_stray;

/// How long ending the last service's processes may hold up the start.
const LEFTOVERS_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long after its recorded end a process tree may still have been there when the last service died: the
/// longest grace an operator can give agents (60 s), and the seconds that killing and counting may take.
const CLOSING_MAX: Duration = Duration::from_secs(90);

/// What recovery found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Runs that had no outcome and now have one.
    pub interrupted: usize,
    /// Processes of the last service that were ended.
    pub processes_ended: usize,
    /// Processes that could not be ended.
    pub processes_left: usize,
    /// Uploads and directories without a record that were removed.
    pub strays_removed: usize,
}

pub(crate) async fn recover(shared: &Arc<Shared>) -> Result<RecoveryReport, EngineError> {
    let unfinished = shared.store.sessions.unfinished_turns().await?;
    let ended = shared.store.sessions.turns_just_ended(CLOSING_MAX).await?;
    let mut report = end_processes(&unfinished, &ended).await;
    for found in unfinished {
        end_turn(shared, found).await?;
        report.interrupted += 1;
    }
    report.strays_removed = remove_strays(shared).await?;
    Ok(report)
}

async fn end_processes(unfinished: &[UnfinishedTurn], ended: &[EndedTurn]) -> RecoveryReport {
    let running = unfinished.iter().filter(|found| found.turn.state == TurnState::Running);
    let running = running.map(|found| (found.turn.id, &found.process));
    let closing = ended.iter().map(|found| (found.turn, &found.process));
    let leftovers: Vec<_> = running
        .chain(closing)
        .filter_map(|(turn, process)| {
            let mark = TreeMark::new(turn.to_string()).ok()?;
            let identity = process.as_deref().and_then(|text| text.parse().ok());
            Some(reaper::Leftover { mark, identity })
        })
        .collect();
    if leftovers.is_empty() {
        return RecoveryReport::default();
    }
    let ended = reaper::end_leftovers(&leftovers, LEFTOVERS_WAIT_MAX).await;
    RecoveryReport { processes_ended: ended.ended, processes_left: ended.survivors, ..RecoveryReport::default() }
}

async fn end_turn(shared: &Arc<Shared>, found: UnfinishedTurn) -> Result<(), EngineError> {
    let UnfinishedTurn { session, turn, .. } = found;
    let head = shared.store.events.head(session.id).await?;
    let first = shared.store.events.events_after(session.id, 0, 1).await?;
    let (model, prompt_chars) = match first.into_iter().next().map(|event| event.body) {
        Some(EventBody::Prompt { model, text, .. }) => (model, text.chars().count() as u64),
        _ => (String::new(), 0),
    };
    let message = match turn.state {
        TurnState::Queued => "the service was restarted before an agent was started; send the request again",
        TurnState::Running | TurnState::Ended => "the service was restarted while the agent was at work",
    };
    let now = shared.ids.now();
    let outcome = TurnOutcome {
        answer: None,
        stop_reason: None,
        failure: Some(Failure::new(FailureKind::Interrupted, message)),
        stderr: String::new(),
        duration_ms: u64::try_from(now.since(turn.queued_at).as_millis()).unwrap_or(u64::MAX),
        usage: clawdforge_core::agent::Usage::default(),
        events_dropped: 0,
    };
    let run = RunFacts { run: session.id.into(), agent: session.agent.to_string(), model, prompt_chars };
    let end = EndRecord {
        session: session.id,
        turn: turn.id,
        at: now,
        app: session.app_name,
        request: turn.request,
        run,
        principal: "service",
        outcome,
    };
    shared.recorder.end(Vec::new(), head + 1, end).await.map(drop)
}

/// Removes what a crash can leave without a record: halves of uploads, uploads whose commit did not
/// happen, directories of runs.
async fn remove_strays(shared: &Arc<Shared>) -> Result<usize, EngineError> {
    let failed = |error: io::Error| EngineError::Internal(format!("cannot tidy the data directory: {error}"));
    let (whole, other) = shared.files.on_disk().map_err(failed)?;
    let mut removed = shared.workspaces.remove_all().map_err(failed)?;
    removed += other.iter().filter(|path| remove_stray(path)).count();
    for id in whole {
        if shared.store.files.file(id).await?.is_none() {
            removed += usize::from(remove_stray(&shared.files.path(id)));
        }
    }
    Ok(removed)
}
