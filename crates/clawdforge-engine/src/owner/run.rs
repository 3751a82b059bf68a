//! The owner of a run: one task from the acceptance to the recorded end.
//!
//! It waits for a slot, then plays the run's one turn. Everything it owns goes when it ends: the agent's
//! process tree, the run's directory, the slot.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clawdforge_agent::{AgentDriver, OpenSpec, Prompt};
use clawdforge_core::agent::{Failure, FailureKind};
use clawdforge_core::event::EventBody;
use clawdforge_core::file::File;
use clawdforge_core::id::SessionId;
use clawdforge_core::ledger::RunFacts;
use clawdforge_core::machine::{AfterTurn, cancelled};
use clawdforge_core::output::OutputSchema;
use clawdforge_core::run::RunRequest;
use clawdforge_core::session::Session;
use clawdforge_core::turn::Turn;
use clawdforge_process::TreeMark;
use tokio::time::Instant;

use super::log::TurnLog;
use super::{Opened, Opening, Player};
use crate::cancels::Cancel;
use crate::engine::Shared;
use crate::hub::Publisher;
use crate::quota::Meter;
use crate::record::Facts;
use crate::runs::PROMPT_SEQ;
use crate::slots::{Slot, Ticket, granted};
use crate::tasks::{OnError, TaskKind};
use crate::workspace::{Workspace, with_manifest};

const OWNER: TaskKind = TaskKind { name: "owner", on_error: OnError::Log };

/// A run that was accepted, with all it needs.
pub(crate) struct Work {
    pub session: Session,
    pub turn: Turn,
    pub request: RunRequest,
    pub facts: RunFacts,
    pub attachments: Vec<File>,
    pub driver: Arc<dyn AgentDriver>,
    pub place: Ticket,
    pub publisher: Publisher,
    pub cancel: Cancel,
}

/// Starts the task that owns the run.
pub(crate) fn start(shared: &Arc<Shared>, work: Work) {
    shared.work.spawn(OWNER, own(Arc::clone(shared), work));
}

async fn own(shared: Arc<Shared>, work: Work) {
    let Work { session, turn, mut request, facts, attachments, driver, place, publisher, cancel } = work;
    let waits = matches!(place, Ticket::Waiting(_));
    if waits {
        // The log has them; a long queue of large prompts must not be held in memory.
        (request.prompt, request.system, request.output_schema) = (String::new(), None, None);
    }
    let workspace = shared.workspaces.of(session.id.into());
    let waiting_since = Instant::now();
    let id = session.id;
    let log = TurnLog::new(session, turn, Facts::Run(facts), publisher, PROMPT_SEQ);
    let mut player = Player::new(Arc::clone(&shared), log, cancel);
    let slot = match wait_for_slot(&shared, place, &player.cancel).await {
        Ok(slot) => slot,
        Err(failure) => return player.end_with(failure, waiting_since.elapsed()).await,
    };
    if waits && let Err(failure) = read_prompt(&shared, id, &mut request).await {
        return player.end_with(failure, waiting_since.elapsed()).await;
    }
    player.limits = driver.limits();
    player.output_schema.clone_from(&request.output_schema);
    let bytes_max = shared.options.workspace_bytes_max;
    player.meter = bytes_max.map(|bytes_max| Meter::of_run(workspace.root().to_owned(), bytes_max));
    let open = opening(&shared, &player, request, attachments, driver, workspace.clone());
    player.play(open, AfterTurn::Close).await;
    if tokio::task::spawn_blocking(move || workspace.remove()).await.is_err() {
        tracing::error!("removing the directory of a run panicked");
    }
    drop::<Slot>(slot);
}

async fn wait_for_slot(shared: &Shared, place: Ticket, cancel: &Cancel) -> Result<Slot, Failure> {
    let waiting = match place {
        Ticket::Ready(slot) => return Ok(slot),
        Ticket::Waiting(waiting) => waiting,
    };
    let wait_max = shared.options.queue_wait_max;
    tokio::select! {
        biased;
        slot = granted(waiting, &shared.stopping) => slot.ok_or_else(interrupted),
        () = cancel.asked() => Err(cancelled()),
        () = tokio::time::sleep(wait_max) => Err(waited_too_long(wait_max)),
    }
}

/// The failure of a turn that found no slot in time.
pub(crate) fn waited_too_long(wait_max: Duration) -> Failure {
    Failure::new(
        FailureKind::QueueExpired,
        format!("no slot became free within {} s; nothing was started, try again", wait_max.as_secs()),
    )
}

/// Reads back from the log what was let go of while the turn waited.
async fn read_prompt(shared: &Shared, session: SessionId, request: &mut RunRequest) -> Result<(), Failure> {
    let read = shared.store.events.events_after(session, PROMPT_SEQ - 1, 1).await;
    let error = match read.map(|events| events.into_iter().next().map(|event| event.body)) {
        Ok(Some(EventBody::Prompt { text, system, output_schema, .. })) => {
            (request.prompt, request.system) = (text, system);
            request.output_schema = output_schema.map(OutputSchema::recorded);
            return Ok(());
        }
        Ok(_) => "the log does not begin with the prompt".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::error!(session.id = %session, error, "the prompt of a run that waited could not be read");
    Err(unreadable())
}

/// The failure of a turn whose prompt the store will not give back.
pub(crate) fn unreadable() -> Failure {
    Failure::new(FailureKind::Internal, "the service could not read the prompt again; nothing was started")
}

fn interrupted() -> Failure {
    Failure::new(
        FailureKind::Interrupted,
        "the service was stopped before an agent was started; send the request again",
    )
}

/// The directory, then the link.
fn opening(
    shared: &Arc<Shared>,
    player: &Player,
    mut request: RunRequest,
    attachments: Vec<File>,
    driver: Arc<dyn AgentDriver>,
    workspace: Workspace,
) -> Opening {
    let files = attachments.into_iter().map(|file| (file.clone(), shared.files.path(file.id)));
    let files: Vec<_> = files.collect();
    let mark = player.log.turn.id.to_string();
    let (given_up, meter) = (player.given_up.clone(), player.meter.clone());
    let (shared, app) = (Arc::clone(shared), player.log.session.app);
    Box::pin(async move {
        let home = shared.home_of(app, driver.name(), &workspace).await?;
        let mark = TreeMark::new(mark).map_err(|error| unprepared(&error.to_string()))?;
        if let Some(meter) = meter {
            meter.room_for(bytes_of(&files), false, &given_up).await?;
        }
        let mut text = std::mem::take(&mut request.prompt);
        let (native, in_words) = match request.output_schema.take() {
            Some(schema) if driver.takes_schema(&schema) => (Some(schema), None),
            schema => (None, schema),
        };
        text.extend(in_words.map(|schema| schema.instruction()));
        let (laid, owner, wanted) = (workspace.clone(), home.clone(), given_up.clone());
        let prepared = tokio::task::spawn_blocking(move || {
            let names = laid.prepare(owner.as_ref(), &files, &wanted)?;
            Ok::<_, Failure>(with_manifest(text, &names))
        });
        let text = prepared.await.map_err(|error| unprepared(&error.to_string()))??;
        let spec = OpenSpec {
            workspace: workspace.work(),
            scratch: workspace.scratch(),
            mark,
            model: Some(request.model),
            resume: None,
            system: request.system,
            system_mode: request.system_mode,
            effort: request.effort,
            mode: None,
            tool_servers: Vec::new(),
            output_schema: native,
            home,
            app: Some(shared.network_of(app)),
            given_up,
        };
        let link = driver.open(spec).await?;
        Ok(Opened { link: Some(link), prompt: Prompt { text, ..Prompt::default() }, context: None })
    })
}

/// Bytes of uploads that are to be laid into a workspace.
pub(crate) fn bytes_of(files: &[(File, PathBuf)]) -> u64 {
    files.iter().fold(0, |sum, (file, _)| sum.saturating_add(file.size))
}

/// The failure of a turn whose surroundings could not be made; why is for the operator.
pub(crate) fn unprepared(why: &str) -> Failure {
    tracing::error!(error = why, "a turn could not be prepared");
    Failure::new(FailureKind::Internal, "the service could not prepare the turn")
}
