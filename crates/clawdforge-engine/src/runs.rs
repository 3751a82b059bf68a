//! Accepting runs: everything between a caller's request and the owner of its turn.

use std::sync::Arc;

use clawdforge_agent::AgentDriver;
use clawdforge_core::app::AppToken;
use clawdforge_core::commit::{Commit, Expect, Write};
use clawdforge_core::event::{Event, EventBody, EventSeq, TurnOutcome};
use clawdforge_core::file::File;
use clawdforge_core::id::{FileId, RequestId, RunId, SessionId, TurnId};
use clawdforge_core::idempotency::IdempotencyKey;
use clawdforge_core::ledger::{LedgerEntry, LedgerFact, RunFacts};
use clawdforge_core::output::OutputSchema;
use clawdforge_core::run::RunRequest;
use clawdforge_core::session::Session;
use clawdforge_core::turn::{Turn, TurnState};

use crate::engine::Shared;
use crate::error::EngineError;
use crate::hub::{Follower, Publisher};
use crate::keys::{self, Submitted};
use crate::owner::run::{self, Work};
use crate::slots::Use;

/// The number of the prompt's event: the first of its session.
pub(crate) const PROMPT_SEQ: EventSeq = 1;

/// Proof that a run was accepted, and the way to its outcome. Dropping it changes nothing about the
/// run.
pub struct RunTicket {
    /// The run.
    pub run: RunId,
    follower: Follower,
}

impl RunTicket {
    /// Waits for the recorded outcome.
    ///
    /// # Errors
    /// [`EngineError::OutcomeUnrecorded`] when the store would not take it.
    pub async fn outcome(self) -> Result<Arc<TurnOutcome>, EngineError> {
        self.follower.ended().await.map(|ended| ended.outcome).ok_or(EngineError::OutcomeUnrecorded)
    }
}

/// What is put behind the prompt of an agent that takes a schema only in words.
fn told_in_words(driver: &dyn AgentDriver, schema: Option<&OutputSchema>) -> Option<String> {
    schema.filter(|schema| !driver.takes_schema(schema)).map(OutputSchema::instruction)
}

impl Shared {
    pub(crate) async fn submit_run(
        self: Arc<Self>,
        by: Arc<AppToken>,
        mut request: RunRequest,
        id: RequestId,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted<RunTicket, RunId>, EngineError> {
        let _alone = self.enter(&by, key.as_ref()).await;
        if let Some(run) = self.known(&by, key.as_ref()).await? {
            return Ok(Submitted::Known(run));
        }
        if self.stopping.is_cancelled() {
            return Err(EngineError::Stopping);
        }
        if let Some(schema) = &request.output_schema {
            self.checks.schema(schema).await.map_err(EngineError::SchemaInvalid)?;
        }
        let attachments = self.attachments(&by, &request.files).await?;
        let driver = Arc::clone(&self.default_driver);
        self.enough_isolation(driver.as_ref(), request.isolation_min).map_err(EngineError::IsolationTooWeak)?;
        let place = self.slots.admit(by.app.id, Use::Run)?;

        let now = self.ids.now();
        let session = Session {
            id: self.ids.make(SessionId::new),
            app: by.app.id,
            app_name: by.app.name.to_string(),
            agent: driver.name().clone(),
            created_at: now,
            isolation: Some(self.options.isolation),
            conversation: None,
        };
        let turn = Turn {
            id: self.ids.make(TurnId::new),
            session: session.id,
            index: 1,
            state: TurnState::Queued,
            request: id,
            queued_at: now,
            timeout: request.timeout,
        };
        let facts = RunFacts {
            run: session.id.into(),
            agent: session.agent.to_string(),
            model: request.model.clone(),
            isolation: session.isolation,
            prompt_chars: request.prompt.chars().count() as u64,
        };
        let body = EventBody::Prompt {
            text: request.prompt.clone(),
            model: request.model.clone(),
            system: request.system.clone(),
            system_mode: request.system_mode,
            effort: request.effort,
            files: std::mem::take(&mut request.files),
            output_schema: request.output_schema.as_ref().map(|schema| schema.value().clone()),
            instruction: told_in_words(driver.as_ref(), request.output_schema.as_ref()),
        };
        let prompt = Event { session: session.id, seq: PROMPT_SEQ, turn: turn.id, at: now, body };
        let kept = key.clone().map(|key| self.keep(session.app, key, RunId::from(session.id).to_string()));
        let writes = [
            Write::OpenSession(session.clone()),
            Write::QueueTurn(turn.clone(), None),
            Write::AppendEvents(vec![prompt]),
        ];
        let commit = Commit {
            // An upload that is swept between the look and the commit must refuse the run, not break it.
            expects: attachments
                .iter()
                .map(|file| Expect::FileExists(file.id))
                .chain(key.as_ref().map(|key| keys::unused(session.app, key)))
                .collect(),
            writes: writes.into_iter().chain(kept).collect(),
            ledger: vec![LedgerEntry {
                at: now,
                principal: "app",
                app: Some(session.app_name.clone()),
                request: Some(id),
                fact: LedgerFact::RunAccepted(facts.clone()),
            }],
        };
        // From the commit on somebody may ask for it to be stopped.
        let cancel = self.cancels.of(turn.id);
        match self.recorder.with_events(commit, session.id, PROMPT_SEQ).await {
            Err(error @ EngineError::Internal(_)) => {
                // Somebody sent it at the same time, or a file is gone.
                if let Some(run) = self.known(&by, key.as_ref()).await? {
                    return Ok(Submitted::Known(run));
                }
                return Err(if attachments.is_empty() { error } else { EngineError::NotFound("file") });
            }
            result => drop(result?),
        }
        let mut publisher = Publisher::new(self.tails.of(session.id));
        publisher.begins_at(PROMPT_SEQ);
        let ticket = RunTicket { run: session.id.into(), follower: publisher.follow() };
        run::start(&self, Work { session, turn, request, facts, attachments, driver, place, publisher, cancel });
        Ok(Submitted::New(ticket))
    }

    /// The uploads a request names. One that is unknown, expired or somebody else's is not found,
    /// whichever it is, after the same query.
    pub(crate) async fn attachments(&self, by: &AppToken, ids: &[FileId]) -> Result<Vec<File>, EngineError> {
        let now = self.ids.now();
        let mut files = Vec::with_capacity(ids.len());
        for id in ids {
            match self.store.files.file(*id).await? {
                Some(file) if file.app == by.app.id && file.expires_at > now => files.push(file),
                _ => return Err(EngineError::NotFound("file")),
            }
        }
        Ok(files)
    }
}
