//! From a conversation to its agent: what a turn asks, the directory, the attachments, the link.

use std::path::PathBuf;
use std::sync::Arc;

use clawdforge_agent::{AgentLink, LinkContext, OpenSpec, Prompt};
use clawdforge_core::agent::{Failure, FailureKind};
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::{ContextSource, EventBody, EventSeq};
use clawdforge_core::file::File;
use clawdforge_core::id::{FileId, SessionId};
use clawdforge_core::isolation::Isolation;
use clawdforge_core::ledger::{AgentAsked, TurnFacts};
use clawdforge_core::output::OutputSchema;
use clawdforge_core::session::{ForkPoint, OnContextLoss, Session, SessionRecord};
use clawdforge_process::TreeMark;
use tokio_util::sync::CancellationToken;

use super::mailbox::Mailbox;
use super::transcript::transcript;
use crate::engine::Shared;
use crate::hosts::HostKey;
use crate::owner::run::{bytes_of, unprepared};
use crate::owner::{Opened, Opening, Player, tell_of_closing};
use crate::slots::Slot;
use crate::workspace::expired;

/// What stands for the process of a conversation on record while it is being started: the mark is known.
const STARTING: &str = "starting";

/// What a turn asks.
pub(super) struct Asked {
    text: String,
    /// What is put behind the text.
    instruction: Option<String>,
    /// What the answer is to fit.
    pub output_schema: Option<OutputSchema>,
    files: Vec<FileId>,
    asked: AgentAsked,
}

impl Asked {
    pub fn of(record: &SessionRecord, prompt: &EventBody, isolation: Isolation) -> Self {
        let model = record.session.conversation.as_ref().and_then(|chosen| chosen.model.clone());
        let asked = AgentAsked { agent: record.session.agent.to_string(), model, isolation: Some(isolation) };
        match prompt.clone() {
            EventBody::Prompt { text, instruction, output_schema, files, .. } => {
                Self { text, instruction, output_schema: output_schema.map(OutputSchema::recorded), files, asked }
            }
            _ => Self { text: String::new(), instruction: None, output_schema: None, files: Vec::new(), asked },
        }
    }

    pub fn facts(&self, session: SessionId, index: u32) -> TurnFacts {
        TurnFacts { session, index, asked: self.asked.clone(), prompt_chars: self.text.chars().count() as u64 }
    }
}

/// The directory, the attachments, then the agent: the warm one, the one that was started ahead, or one that
/// takes the conversation up.
pub(super) fn opening(
    shared: &Arc<Shared>,
    player: &Player,
    record: SessionRecord,
    asked: Asked,
    head: EventSeq,
    ahead: Option<Box<dyn AgentLink>>,
) -> Opening {
    let shared = Arc::clone(shared);
    let (index, given_up, is_warm) = (player.log.turn.index, player.given_up.clone(), player.warm.is_some());
    let meter = player.meter.clone();
    Box::pin(async move {
        let SessionRecord { session, resume_key, forked_from, .. } = record;
        let folder = folder_of(index, &session, forked_from);
        let Asked { mut text, instruction, files, .. } = asked;
        text.extend(instruction);
        let prepared = async {
            let files = attachments(&shared, &files).await?;
            if let Some(meter) = meter {
                meter.room_for(bytes_of(&files), is_warm, &given_up).await?;
            }
            // A warm agent has its directories already.
            match is_warm && files.is_empty() {
                true => Ok(Vec::new()),
                false => prepare(&shared, &session, files, folder, &given_up).await,
            }
        };
        let prepared = prepared.await;
        let ahead = match (ahead, &prepared) {
            (Some(link), Ok(_)) if link.is_usable() => Some(link),
            (Some(link), _) => {
                tell_of_closing(&session.id, &link.close(shared.options.kill_grace).await);
                None
            }
            (None, _) => None,
        };
        let mut prompt = Prompt { text, before: None, attachments: prepared? };
        if is_warm {
            return Ok(Opened { link: None, prompt, context: Some(ContextSource::Warm) });
        }
        let link = match ahead {
            Some(link) => link,
            None => link_for(&shared, &session, resume_key, given_up).await?,
        };
        if link.context() == LinkContext::Resumed {
            return Ok(Opened { link: Some(link), prompt, context: Some(ContextSource::Resumed) });
        }
        match before_fresh(&shared, &session, forked_from, head).await {
            Ok((before, source)) => {
                prompt.before = before;
                Ok(Opened { link: Some(link), prompt, context: Some(source) })
            }
            Err(failure) => {
                tell_of_closing(&session.id, &link.close(shared.options.kill_grace).await);
                Err(failure)
            }
        }
    })
}

/// The agent of a conversation that has just been opened, before there is a turn. `None` where it could not
/// be started, or must not stay: the conversation was closed, the service stops, the slot is needed.
pub(super) async fn open_ahead(
    shared: &Arc<Shared>,
    session: SessionId,
    slot: &Slot,
    mailbox: &mut Mailbox,
) -> Option<Box<dyn AgentLink>> {
    let rest = slot.rest()?;
    let given_up = CancellationToken::new();
    let starting = start_ahead(shared, session, given_up.clone());
    tokio::pin!(starting);
    // Cancel-safe: orders that come stay in the mailbox, and a start that is given up is waited for, so that
    // nothing of it is left.
    let started = tokio::select! {
        started = &mut starting => started,
        () = mailbox.until_closed() => {
            given_up.cancel();
            starting.await
        }
        () = shared.stopping.cancelled() => {
            given_up.cancel();
            starting.await
        }
        () = rest.wanted() => {
            given_up.cancel();
            starting.await
        }
    };
    started
        .inspect_err(|failure| {
            tracing::debug!(session.id = %session, reason = failure.message, "an agent could not be started ahead");
        })
        .ok()
}

async fn start_ahead(
    shared: &Arc<Shared>,
    session: SessionId,
    given_up: CancellationToken,
) -> Result<Box<dyn AgentLink>, Failure> {
    let unread = |error: clawdforge_store::ReadError| unprepared(&error.to_string());
    let record = shared.store.sessions.conversation(session).await.map_err(unread)?;
    let Some(SessionRecord { session, .. }) = record.filter(|record| record.closed_at.is_none()) else {
        return Err(Failure::new(FailureKind::SessionClosed, "the session was closed"));
    };
    prepare(shared, &session, Vec::new(), String::new(), &given_up).await?;
    // The process is on record before it is there.
    let noted =
        |process: String| Commit { writes: vec![Write::NoteLink(session.id, Some(process))], ..Commit::default() };
    let recorded = shared.recorder.plain(noted(STARTING.to_owned())).await;
    recorded.map_err(|error| unprepared(&error.to_string()))?;
    let link = link_for(shared, &session, None, given_up).await?;
    if let Some(process) = link.process()
        && let Err(error) = shared.recorder.plain(noted(process)).await
    {
        // It is found by its mark all the same.
        tracing::warn!(session.id = %session.id, %error, "a process could not be recorded");
    }
    Ok(link)
}

/// The folder of a turn's attachments. In a fork, those of the turns before it are there as well.
fn folder_of(index: u32, session: &Session, forked_from: Option<ForkPoint>) -> String {
    match forked_from {
        None => format!("turn-{index}"),
        Some(_) => format!("turn-{index}-of-{}", session.id),
    }
}

/// The directory with the attachments of a turn, whose paths come back.
async fn prepare(
    shared: &Shared,
    session: &Session,
    files: Vec<(File, PathBuf)>,
    folder: String,
    given_up: &CancellationToken,
) -> Result<Vec<PathBuf>, Failure> {
    let workspace = shared.workspaces.of_conversation(session.id);
    let home = shared.home_of(session.app, &session.agent, &workspace).await?;
    let wanted = given_up.clone();
    let prepared =
        tokio::task::spawn_blocking(move || workspace.prepare_turn(&folder, home.as_ref(), &files, &wanted)).await;
    prepared.map_err(|error| unprepared(&error.to_string()))?
}

/// An agent that takes the conversation up, where there is a key, or begins it.
async fn link_for(
    shared: &Arc<Shared>,
    session: &Session,
    resume: Option<String>,
    given_up: CancellationToken,
) -> Result<Box<dyn AgentLink>, Failure> {
    let driver = Arc::clone(shared.driver_of(session)?);
    // A turn that was accepted by an earlier start of the service begins under what this one has.
    shared.enough_isolation_for(session, driver.as_ref())?;
    let chosen = session.conversation.as_ref();
    let workspace = shared.workspaces.of_conversation(session.id);
    let equipment =
        shared.store.sessions.equipment(session.id).await.map_err(|error| unprepared(&error.to_string()))?;
    let spec = OpenSpec {
        workspace: workspace.work(),
        scratch: workspace.scratch(),
        mark: TreeMark::new(session.id.to_string()).map_err(|error| unprepared(&error.to_string()))?,
        model: chosen.and_then(|chosen| chosen.model.clone()),
        resume,
        system: equipment.system,
        system_mode: chosen.and_then(|chosen| chosen.system_mode).unwrap_or_default(),
        effort: chosen.and_then(|chosen| chosen.effort),
        mode: chosen.and_then(|chosen| chosen.mode.clone()),
        tool_servers: equipment.tool_servers,
        output_schema: None,
        home: shared.home_of(session.app, &session.agent, &workspace).await?,
        app: Some(shared.network_of(session.app)),
        given_up,
    };
    shared.open_link(HostKey::of(session), &driver, spec).await
}

/// What an agent that knows nothing of the turns before must be told first, by the choice of the session.
async fn before_fresh(
    shared: &Shared,
    session: &Session,
    forked_from: Option<ForkPoint>,
    head: EventSeq,
) -> Result<(Option<String>, ContextSource), Failure> {
    if forked_from.is_some() {
        // What the fork began with is in no log of its own, and a part must not pass for the whole.
        return Err(Failure::new(
            FailureKind::ContextLost,
            "the agent has forgotten what this fork began with; fork the session that it came from again, or open a new one",
        ));
    }
    let before = transcript(&*shared.store.events, session.id, head).await;
    let chosen = session.conversation.as_ref();
    let rebuild = chosen.is_none_or(|chosen| chosen.on_context_loss == OnContextLoss::Rebuild);
    match before.map_err(|error| unprepared(&error.to_string()))? {
        None => Ok((None, ContextSource::New)),
        Some(before) if rebuild => Ok((Some(before), ContextSource::Rebuilt)),
        Some(_) => Err(Failure::new(
            FailureKind::ContextLost,
            "the agent has forgotten the turns before; open a new session, or one with on_context_loss \"rebuild\"",
        )),
    }
}

/// The uploads of a prompt, as they are now.
async fn attachments(shared: &Shared, ids: &[FileId]) -> Result<Vec<(File, PathBuf)>, Failure> {
    let mut files = Vec::with_capacity(ids.len());
    for id in ids {
        let file = shared.store.files.file(*id).await.map_err(|error| unprepared(&error.to_string()))?;
        let file = file.ok_or_else(|| expired(*id))?;
        files.push((file, shared.files.path(*id)));
    }
    Ok(files)
}
