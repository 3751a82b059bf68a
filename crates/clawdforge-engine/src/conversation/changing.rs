//! What an app may change about a conversation that is open.

use std::sync::Arc;

use clawdforge_core::app::AppToken;
use clawdforge_core::commit::{Commit, Expect, Write};
use clawdforge_core::id::{RequestId, SessionId};
use clawdforge_core::ledger::LedgerFact;
use clawdforge_core::run::Effort;
use clawdforge_core::session::{Conversation, Session, SessionRecord};
use clawdforge_store::CommitError;

use super::SessionView;
use super::mailbox::Order;
use crate::engine::Shared;
use crate::error::EngineError;

/// What is to be changed; `None` leaves it as it is, and `Some(None)` takes it away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionChange {
    /// The model by the agent's own name for it.
    pub model: Option<Option<String>>,
    /// How hard the model should think.
    pub effort: Option<Option<Effort>>,
    /// The agent's own name for how it asks for permission.
    pub mode: Option<Option<String>>,
    /// The caller's own notes, a JSON object as text.
    pub meta: Option<Option<String>>,
}

impl SessionChange {
    pub(super) fn of(self, before: &Conversation) -> Conversation {
        Conversation {
            model: self.model.unwrap_or_else(|| before.model.clone()),
            effort: self.effort.unwrap_or(before.effort),
            mode: self.mode.unwrap_or_else(|| before.mode.clone()),
            meta: self.meta.unwrap_or_else(|| before.meta.clone()),
            ..before.clone()
        }
    }
}

impl Shared {
    /// Changes a conversation of this app. Turns that begin from now on go by it; one under way goes on.
    pub(crate) async fn change_session(
        self: Arc<Self>,
        by: Arc<AppToken>,
        session: SessionId,
        change: SessionChange,
        id: RequestId,
    ) -> Result<SessionView, EngineError> {
        // Whose it is comes first, as everywhere.
        self.own_session(&by, session).await?;
        let caller = self.call(session, by.app.id);
        let desk = caller.desk();
        let mut accepted = desk.accepting.lock().await;
        let record = self.own_session(&by, session).await?;
        let Some(before) = record.session.conversation.as_ref().filter(|_| record.closed_at.is_none()) else {
            return Err(EngineError::SessionClosed);
        };
        let after = change.of(before);
        if after == *before {
            return Ok(self.view(record));
        }
        let for_the_agent = (&after.model, after.effort, &after.mode) != (&before.model, before.effort, &before.mode);
        let commit = Commit {
            expects: vec![Expect::SessionOpen(session)],
            writes: vec![Write::ChangeConversation(session, after.clone())],
            ledger: vec![self.line_of(&record.session, Some(id), "app", LedgerFact::SessionChanged(session))],
        };
        // What is remembered of it at the desk is not true any more, however this ends.
        *accepted = None;
        let doubt = match self.recorder.plain(commit).await {
            Ok(()) => None,
            Err(error @ CommitError::Unknown(_)) => Some(error),
            Err(CommitError::Unexpected { .. }) => return Err(EngineError::SessionClosed),
            Err(error @ CommitError::Unavailable(_)) => return Err(error.into()),
        };
        // Also where it is doubtful: an agent that is started anew for nothing does no harm.
        if for_the_agent {
            caller.order(Order::Changed).await;
        }
        if let Some(error) = doubt {
            let there = self.store.sessions.conversation(session).await?;
            if there.and_then(|record| record.session.conversation).as_ref() != Some(&after) {
                return Err(error.into());
            }
        }
        let session = Session { conversation: Some(after), ..record.session };
        Ok(self.view(SessionRecord { session, ..record }))
    }
}
