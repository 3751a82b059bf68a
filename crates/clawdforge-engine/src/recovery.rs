//! What happens at start: the store is made true again.
//!
//! Process trees of the last service are ended first, so that "interrupted" is true when it is
//! recorded. A run that had not begun is ended as interrupted as well: its caller went with the
//! connection, and an answer for nobody would still cost money (docs/decisions/0003). Turns of a
//! conversation that had not begun were promised, and go on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clawdforge_core::agent::{Failure, FailureKind};
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::{EventBody, EventSeq, TurnOutcome};
use clawdforge_core::ledger::{AgentAsked, RunFacts, TurnFacts};
use clawdforge_core::session::Session;
use clawdforge_core::turn::{Turn, TurnState};
use clawdforge_process::reaper::Leftover;
use clawdforge_process::{TreeMark, reaper};
use clawdforge_store::UnfinishedTurn;

use crate::conversation::mailbox::{Accepted, Order};
use crate::engine::Shared;
use crate::error::EngineError;
use crate::hub::Publisher;
use crate::record::{EndRecord, Facts};
use crate::workspace::remove_stray;

/// How long ending the last service's processes may hold up the start.
const LEFTOVERS_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long after its recorded end a process tree may still have been there when the last service died: the
/// longest grace an operator can give agents (60 s), and the seconds that killing and counting may take.
const CLOSING_MAX: Duration = Duration::from_secs(90);

/// Noted links forgotten by one commit.
const LINKS_PER_COMMIT: usize = 500;

/// Events read at once, from the end of a log to its beginning.
const EVENTS_PER_LOOK: u64 = 200;

/// What recovery found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Runs and turns that had no outcome and now have one.
    pub interrupted: usize,
    /// Processes of the last service that were ended.
    pub processes_ended: usize,
    /// Processes that could not be ended.
    pub processes_left: usize,
    /// Uploads and directories without a record that were removed.
    pub strays_removed: usize,
}

/// Turns of conversations that were accepted and had not begun, in the order of their acceptance.
pub(crate) type Promised = Vec<UnfinishedTurn>;

pub(crate) async fn recover(shared: &Arc<Shared>) -> Result<(RecoveryReport, Promised), EngineError> {
    let unfinished = shared.store.sessions.unfinished_turns().await?;
    let leftovers = leftovers(shared, &unfinished).await?;
    let mut report = end_processes(&leftovers).await;
    let is_promised =
        |found: &UnfinishedTurn| found.session.conversation.is_some() && found.turn.state == TurnState::Queued;
    let (promised, lost): (Vec<_>, Vec<_>) = unfinished.into_iter().partition(is_promised);
    for found in lost {
        end_turn(shared, found).await?;
        report.interrupted += 1;
    }
    // What could not be ended stays on record for the sweep and the next start. Which it is, is not known.
    if report.processes_left == 0 {
        forget_links(shared).await?;
    } else {
        shared.lose_hosts(shared.store.sessions.hosts().await?);
    }
    report.strays_removed = remove_strays(shared).await?;
    Ok((report, promised))
}

/// Gives every conversation that has promised turns an owner, which does them.
pub(crate) async fn go_on(shared: &Arc<Shared>, promised: Promised) {
    for UnfinishedTurn { turn, session, is_cancelled, .. } in promised {
        let caller = shared.call(session.id, session.app);
        caller.desk().unfinished.fetch_add(1, Ordering::Relaxed);
        let (publisher, cancel) = (Publisher::new(shared.tails.of(session.id)), shared.cancels.of(turn.id));
        if is_cancelled {
            shared.cancels.ask(turn.id);
        }
        let accepted = Accepted { turn, prompt: None, place: None, publisher, cancel };
        caller.order(Order::Turn(Box::new(accepted))).await;
    }
}

/// The process trees of the last service that may still be there.
async fn leftovers(shared: &Arc<Shared>, unfinished: &[UnfinishedTurn]) -> Result<Vec<Leftover>, EngineError> {
    let ended = shared.store.sessions.turns_just_ended(CLOSING_MAX).await?;
    let linked = shared.store.sessions.linked_conversations().await?;
    let running = unfinished.iter().filter(|found| found.turn.state == TurnState::Running);
    // A conversation's agent has the mark of the conversation, and is there before it is on record.
    let running = running.map(|found| match found.session.conversation {
        Some(_) => (found.session.id.to_string(), None),
        None => (found.turn.id.to_string(), found.process.clone()),
    });
    let closing = ended.into_iter().map(|found| (found.turn.to_string(), found.process));
    let hosts = shared.store.sessions.hosts().await?;
    let hosts = hosts.into_iter().map(|host| (host.to_string(), None));
    let warm = linked.into_iter().map(|(session, process)| (session.to_string(), Some(process)));
    let leftover = |(mark, process): (String, Option<String>)| {
        let identity = process.and_then(|text| text.parse().ok());
        Some(Leftover { mark: TreeMark::new(mark).ok()?, identity })
    };
    Ok(running.chain(closing).chain(warm).chain(hosts).filter_map(leftover).collect())
}

async fn end_processes(leftovers: &[Leftover]) -> RecoveryReport {
    if leftovers.is_empty() {
        return RecoveryReport::default();
    }
    let ended = reaper::end_leftovers(leftovers, LEFTOVERS_WAIT_MAX).await;
    RecoveryReport { processes_ended: ended.ended, processes_left: ended.survivors, ..RecoveryReport::default() }
}

async fn forget_links(shared: &Arc<Shared>) -> Result<(), EngineError> {
    let linked = shared.store.sessions.linked_conversations().await?;
    for some in shared.store.sessions.hosts().await?.chunks(LINKS_PER_COMMIT) {
        let writes = some.iter().map(|host| Write::ForgetHost(*host)).collect();
        shared.recorder.plain(Commit { writes, ..Commit::default() }).await?;
    }
    for some in linked.chunks(LINKS_PER_COMMIT) {
        let writes = some.iter().map(|(session, _)| Write::NoteLink(*session, None)).collect();
        shared.recorder.plain(Commit { writes, ..Commit::default() }).await?;
    }
    Ok(())
}

async fn end_turn(shared: &Arc<Shared>, found: UnfinishedTurn) -> Result<(), EngineError> {
    let UnfinishedTurn { session, turn, .. } = found;
    let head = shared.store.events.head(session.id).await?;
    let facts = match &session.conversation {
        None => Facts::Run(run_facts(shared, &session).await?),
        Some(chosen) => Facts::Turn(TurnFacts {
            session: session.id,
            index: turn.index,
            asked: AgentAsked {
                agent: session.agent.to_string(),
                model: chosen.model.clone(),
                isolation: session.isolation,
            },
            prompt_chars: prompt_chars(shared, &session, &turn, head).await?,
        }),
    };
    let message = match turn.state {
        TurnState::Queued => "the service was restarted before an agent was started; send the request again",
        TurnState::Running | TurnState::Ended => "the service was restarted while the agent was at work",
    };
    let now = shared.ids.now();
    let outcome = TurnOutcome {
        answer: None,
        output: None,
        stop_reason: None,
        failure: Some(Failure::new(FailureKind::Interrupted, message)),
        stderr: String::new(),
        duration_ms: u64::try_from(now.since(turn.queued_at).as_millis()).unwrap_or(u64::MAX),
        usage: clawdforge_core::agent::Usage::default(),
        events_dropped: 0,
    };
    let end = EndRecord {
        session: session.id,
        turn: turn.id,
        at: now,
        app: session.app_name,
        request: turn.request,
        facts,
        principal: "service",
        outcome,
    };
    shared.recorder.end(Vec::new(), head + 1, end).await.map(drop)
}

async fn run_facts(shared: &Arc<Shared>, session: &Session) -> Result<RunFacts, EngineError> {
    let first = shared.store.events.events_after(session.id, 0, 1).await?;
    let (model, prompt_chars) = match first.into_iter().next().map(|event| event.body) {
        Some(EventBody::Prompt { model, text, .. }) => (model, text.chars().count() as u64),
        _ => (String::new(), 0),
    };
    Ok(RunFacts {
        run: session.id.into(),
        agent: session.agent.to_string(),
        model,
        isolation: session.isolation,
        prompt_chars,
    })
}

/// The length of a turn's prompt, which is the first of its events; the turn is the last that began.
async fn prompt_chars(
    shared: &Arc<Shared>,
    session: &Session,
    turn: &Turn,
    head: EventSeq,
) -> Result<u64, EngineError> {
    let mut before = head;
    while before > 0 {
        let after = before.saturating_sub(EVENTS_PER_LOOK);
        let limit = usize::try_from(before - after).unwrap_or(usize::MAX);
        let events = shared.store.events.events_after(session.id, after, limit).await?;
        let prompt =
            events.iter().find(|event| event.turn == turn.id && matches!(event.body, EventBody::Prompt { .. }));
        if let Some(EventBody::Prompt { text, .. }) = prompt.map(|event| &event.body) {
            return Ok(text.chars().count() as u64);
        }
        before = after;
    }
    Ok(0)
}

/// Removes what a crash can leave without a record: halves of uploads, uploads whose commit did not
/// happen, directories of runs and of erased conversations.
async fn remove_strays(shared: &Arc<Shared>) -> Result<usize, EngineError> {
    let failed = |error: io::Error| EngineError::Internal(format!("cannot tidy the data directory: {error}"));
    let (whole, other) = shared.files.on_disk().map_err(failed)?;
    let mut removed = shared.workspaces.remove_runs().map_err(failed)?;
    let (sessions, beside) = shared.workspaces.conversations_on_disk().map_err(failed)?;
    removed += beside.iter().filter(|path| remove_stray(path)).count();
    removed += other.iter().filter(|path| remove_stray(path)).count();
    for id in whole {
        if shared.store.files.file(id).await?.is_none() {
            removed += usize::from(remove_stray(&shared.files.path(id)));
        }
    }
    for id in sessions {
        if shared.store.sessions.conversation(id).await?.is_none() {
            removed += usize::from(shared.workspaces.of_conversation(id).remove());
        }
    }
    Ok(removed)
}
