//! What callers may do with conversations.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clawdforge_agent::AgentDriver;
use clawdforge_core::agent::{AgentName, Failure, FailureKind};
use clawdforge_core::app::AppToken;
use clawdforge_core::commit::{Commit, Expect, Write};
use clawdforge_core::event::{EventBody, EventSeq};
use clawdforge_core::id::{FileId, RequestId, SessionId, TurnId};
use clawdforge_core::idempotency::IdempotencyKey;
use clawdforge_core::isolation::Isolation;
use clawdforge_core::ledger::{AgentAsked, LedgerEntry, LedgerFact, TurnFacts};
use clawdforge_core::limits::{PAGE_ROWS_MAX, TURNS_QUEUED_PER_SESSION_MAX};
use clawdforge_core::output::OutputSchema;
use clawdforge_core::run::{Effort, SystemMode};
use clawdforge_core::session::{Conversation, DriverName, Equipment, OnContextLoss, Session, SessionRecord};
use clawdforge_core::tools::ToolServer;
use clawdforge_core::turn::{Turn, TurnState};
use clawdforge_store::{CommitError, ReadError};
use tokio::sync::{oneshot, watch};

use super::beginning::{Acceptance, Began};
use super::mailbox::{Accepted, Order};
use super::registry::Caller;
use crate::engine::Shared;
use crate::error::EngineError;
use crate::follow::EventStream;
use crate::hub::{Ended, Follower, Live, Publisher, Tail};
use crate::keys::{self, Submitted};
use crate::slots::{Ticket, Use};

/// When a caller should come back whose session has too many turns waiting: about the time a turn takes.
const QUEUE_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What a caller wants of a new conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionWish {
    /// The agent; `None` means the service's default.
    pub agent: Option<AgentName>,
    /// The model by the agent's own name for it; `None` leaves it to the agent.
    pub model: Option<String>,
    /// How hard the model should think; `None` leaves it to the agent.
    pub effort: Option<Effort>,
    /// The agent's own name for how it asks for permission; `None` takes the one for unattended work.
    pub mode: Option<String>,
    /// Text for the system prompt.
    pub system: Option<String>,
    /// What becomes of the agent's own system prompt.
    pub system_mode: SystemMode,
    /// Tool servers for its agent, each with a name of its own.
    pub tool_servers: Vec<ToolServer>,
    /// The caller's own notes, a JSON object as text.
    pub meta: Option<String>,
    /// What happens when the agent has forgotten the turns before.
    pub on_context_loss: OnContextLoss,
    /// How the agent is spoken to; `None` means as its configuration has it.
    pub driver: Option<DriverName>,
    /// The weakest isolation its agents may run at; `None` takes what there is.
    pub isolation_min: Option<Isolation>,
}

/// What a caller asks in one turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnRequest {
    /// What the agent is asked; never empty.
    pub prompt: String,
    /// Uploads the agent may read, in order.
    pub files: Vec<FileId>,
    /// Longest time from the start of the agent to the end of the turn.
    pub timeout: Duration,
    /// What the answer is to fit; `None` takes any.
    pub output_schema: Option<OutputSchema>,
    /// Whether somebody is about to follow it. What its agent says is not held back then, as for those who follow already. Runs
    /// need no such word: while their agent starts, the follower comes.
    pub will_be_followed: bool,
}

/// A conversation as its app sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// What is recorded.
    pub record: SessionRecord,
    /// Whether its agent's process is there.
    pub is_warm: bool,
}

/// Proof that a turn was accepted, and the way to its outcome. Dropping it changes nothing about the turn.
pub struct TurnTicket {
    /// The conversation.
    pub session: SessionId,
    /// The turn.
    pub turn: TurnId,
    /// The turn's place there, from 1.
    pub index: u32,
    shared: Arc<Shared>,
    follower: Follower,
    /// Where its events are told; counts as a follower until there is one, for the agent may be faster than whoever asked.
    watch: Option<(Arc<Tail>, watch::Receiver<Live>)>,
    /// The number of its first event, where it began as it was accepted.
    first: Option<EventSeq>,
}

impl TurnTicket {
    /// Follows the turn to its end, where it is known without a look into the log where that begins: it was watched, and began as
    /// it was accepted.
    pub fn follow(&self) -> Option<EventStream> {
        let (_, first) = self.watch.as_ref().zip(self.first)?;
        Some(EventStream::of_new_turn(Arc::clone(&self.shared), self.session, self.turn, first))
    }

    /// Waits for the recorded outcome.
    ///
    /// # Errors
    /// [`EngineError::Deferred`] when the service stops before the turn began: it stays accepted, and the
    /// next start goes on with it. [`EngineError::OutcomeUnrecorded`] when the store would not take it.
    pub async fn outcome(self) -> Result<Ended, EngineError> {
        let ended = self.follower.ended().await;
        ended.ok_or_else(|| match self.shared.stopping.is_cancelled() {
            true => EngineError::Deferred,
            false => EngineError::OutcomeUnrecorded,
        })
    }
}

/// Why a turn was not accepted.
enum NotAccepted {
    /// It is not on record.
    Refused(CommitError),
    /// It may be on record: neither the commit nor the store said.
    InDoubt(ReadError),
}

impl NotAccepted {
    /// As its caller is told, by what the commit expected.
    fn told(self, expects: &[Expect]) -> EngineError {
        let index = match self {
            Self::InDoubt(error) => return error.into(),
            Self::Refused(CommitError::Unexpected { index }) => index,
            Self::Refused(error) => return error.into(),
        };
        match expects.get(index) {
            Some(Expect::SessionOpen(_)) => EngineError::SessionClosed,
            Some(Expect::FileExists(_)) => EngineError::NotFound("file"),
            // The same key came with a request to somewhere else at the same time.
            Some(Expect::KeyUnused(..)) => EngineError::KeyReused,
            _ => CommitError::Unexpected { index }.into(),
        }
    }
}

impl Shared {
    pub(crate) async fn open_session(
        self: Arc<Self>,
        by: Arc<AppToken>,
        wish: SessionWish,
        id: RequestId,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted<Session, SessionId>, EngineError> {
        let _alone = self.enter(&by, key.as_ref()).await;
        if let Some(session) = self.known(&by, key.as_ref()).await? {
            return Ok(Submitted::Known(session));
        }
        if self.stopping.is_cancelled() {
            return Err(EngineError::Stopping);
        }
        let SessionWish {
            agent,
            model,
            effort,
            mode,
            system,
            system_mode,
            tool_servers,
            meta,
            on_context_loss,
            driver,
            isolation_min,
        } = wish;
        let names: Vec<String> = tool_servers.iter().map(|server| server.name.clone()).collect();
        may_give(&by, &names)?;
        let agent = agent.unwrap_or_else(|| self.session_agents.default_name().clone());
        let Some(offered) = self.session_agents.get(&agent) else {
            let known = self.session_agents.names().map(AgentName::as_str);
            return Err(EngineError::UnknownAgent { agent, known: known.collect::<Vec<_>>().join(", ") });
        };
        let driver = driver.unwrap_or(offered.preferred);
        let spoken = offered
            .driver(driver)
            .ok_or_else(|| not_spoken(&agent, driver))
            .and_then(|found| found.check().map(|()| found))
            .map_err(EngineError::AgentUnavailable)?;
        self.enough_isolation(spoken.as_ref(), isolation_min).map_err(EngineError::IsolationTooWeak)?;
        if system.is_some() && !spoken.takes_system_prompt() {
            return Err(EngineError::NotOffered(format!(
                "the agent `{agent}` takes no system prompt; leave `system` out, or choose an agent that takes one \
                 (`GET /v1/agents`); the operator can set `takes_system_prompt` for an agent that does"
            )));
        }
        let system_mode = system.is_some().then_some(system_mode);
        let equipment = Equipment { system, tool_servers };
        let session = Session {
            id: self.ids.make(SessionId::new),
            app: by.app.id,
            app_name: by.app.name.to_string(),
            agent,
            created_at: self.ids.now(),
            isolation: Some(self.isolation_of(spoken.as_ref())),
            conversation: Some(Conversation {
                model,
                effort,
                mode,
                system_mode,
                tool_servers: names,
                meta,
                driver,
                on_context_loss,
                isolation_min,
            }),
        };
        let asked = AgentAsked {
            agent: session.agent.to_string(),
            model: session.conversation.as_ref().and_then(|chosen| chosen.model.clone()),
            isolation: session.isolation,
        };
        let fact = LedgerFact::SessionCreated(session.id, asked);
        let kept = key.clone().map(|key| self.keep(session.app, key, session.id.to_string()));
        let equipped = (equipment != Equipment::default()).then(|| Write::EquipSession(session.id, equipment));
        let commit = Commit {
            expects: key.iter().map(|key| keys::unused(session.app, key)).collect(),
            writes: [Write::OpenSession(session.clone())].into_iter().chain(equipped).chain(kept).collect(),
            ledger: vec![self.line_of(&session, Some(id), "app", fact)],
        };
        match self.recorder.plain(commit).await {
            Ok(()) => {}
            // Somebody sent it at the same time.
            Err(error @ CommitError::Unexpected { .. }) => {
                let known = self.known(&by, key.as_ref()).await?;
                return known.map(Submitted::Known).ok_or_else(|| error.into());
            }
            // A doubtful commit: it is there, or it is not.
            Err(CommitError::Unknown(_)) if self.store.sessions.conversation(session.id).await?.is_some() => {}
            Err(error) => return Err(error.into()),
        }
        self.open_sessions.fetch_add(1, Ordering::Relaxed);
        // Where no agent is kept between turns, one that is started ahead would be ended ahead.
        if self.options.session_warm_up && !self.options.session_warm_max.is_zero() {
            self.warm_up(&session).await;
        }
        Ok(Submitted::New(session))
    }

    /// Has the agent of a new conversation started, where a slot is free for it.
    async fn warm_up(self: &Arc<Self>, session: &Session) {
        let Some(slot) = self.slots.take_free(session.app) else { return };
        let caller = self.call(session.id, session.app);
        // The first turn needs no slot of its own.
        caller.desk().warm.store(true, Ordering::Relaxed);
        caller.order(Order::WarmUp(slot)).await;
    }

    pub(crate) async fn submit_turn(
        self: Arc<Self>,
        by: Arc<AppToken>,
        session: SessionId,
        request: TurnRequest,
        id: RequestId,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted<TurnTicket, TurnId>, EngineError> {
        let _alone = self.enter(&by, key.as_ref()).await;
        if let Some(turn) = self.known(&by, key.as_ref()).await? {
            return Ok(Submitted::Known(turn));
        }
        if self.stopping.is_cancelled() {
            return Err(EngineError::Stopping);
        }
        // Whose conversation it is, is known of one that has an owner.
        let caller = match self.call_own(session, by.app.id) {
            Some(caller) => caller,
            None => {
                let record = self.own_session(&by, session).await?;
                if record.closed_at.is_some() {
                    return Err(EngineError::SessionClosed);
                }
                self.call(session, by.app.id)
            }
        };
        if let Some(schema) = &request.output_schema {
            self.checks.schema(schema).await.map_err(EngineError::SchemaInvalid)?;
        }
        let attachments = self.attachments(&by, &request.files).await?;
        let desk = caller.desk();
        let mut accepted = desk.accepting.lock().await;
        let unfinished = desk.unfinished.load(Ordering::Relaxed);
        if unfinished > TURNS_QUEUED_PER_SESSION_MAX {
            let reason = "this session has as many turns waiting as it may have";
            return Err(EngineError::Busy { reason, retry_after: QUEUE_RETRY_AFTER });
        }
        // Who is warm or busy has a slot already.
        let is_cold = unfinished == 0 && !desk.warm.load(Ordering::Relaxed);
        let place = if is_cold { Some(self.slots.admit(by.app.id, Use::Conversation)?) } else { None };

        let record = match accepted.take() {
            Some(record) => record,
            None => self.own_session(&by, session).await?,
        };
        if record.closed_at.is_some() {
            return Err(EngineError::SessionClosed);
        }
        // The app may have another token by now, and the service may have been started anew, with less than it had when the
        // session was opened.
        may_give(&by, record.session.conversation.as_ref().map_or(&[], |chosen| &chosen.tool_servers))?;
        if let Ok(driver) = self.driver_of(&record.session) {
            self.enough_isolation_for(&record.session, driver.as_ref()).map_err(EngineError::IsolationTooWeak)?;
        }
        let turn = Turn {
            id: self.ids.make(TurnId::new),
            session,
            index: record.turns + 1,
            state: TurnState::Queued,
            request: id,
            queued_at: self.ids.now(),
            timeout: request.timeout,
        };
        let files = attachments.iter().map(|file| file.id).collect();
        let will_be_followed = request.will_be_followed;
        let commit = self.acceptance(&record, &turn, request, files, key);
        let expects = commit.expects.clone();
        // From the commit on somebody may ask for it to be stopped.
        let cancel = self.cancels.of(turn.id);
        let tail = self.tails.of(session);
        let watch = will_be_followed.then(|| (Arc::clone(&tail), tail.listen()));
        let publisher = Publisher::new(tail);
        let (follower, id, index) = (publisher.follow(), turn.id, turn.index);
        let mut ticket =
            TurnTicket { session, turn: id, index, shared: Arc::clone(&self), follower, watch, first: None };
        let acceptance = Acceptance { turn, commit, publisher, cancel };
        let result = match caller.begin(acceptance).await? {
            Began::NotNow(acceptance) => self.accept(&caller, *acceptance, place).await,
            Began::Accepted(first) => {
                ticket.first = Some(first);
                Ok(())
            }
            Began::Refused(error) => Err(NotAccepted::Refused(error)),
            Began::InDoubt(error) => Err(NotAccepted::InDoubt(error)),
        };
        // Where it is not known, the next turn looks how many there are.
        result.map_err(|not_accepted| not_accepted.told(&expects))?;
        *accepted = Some(SessionRecord { turns: index, ..record });
        Ok(Submitted::New(ticket))
    }

    /// What puts a turn on record as one that waits.
    fn acceptance(
        &self,
        record: &SessionRecord,
        turn: &Turn,
        request: TurnRequest,
        files: Vec<FileId>,
        key: Option<IdempotencyKey>,
    ) -> Commit {
        let model = record.session.conversation.as_ref().and_then(|chosen| chosen.model.clone());
        let facts = TurnFacts {
            session: turn.session,
            index: turn.index,
            asked: AgentAsked {
                agent: record.session.agent.to_string(),
                model: model.clone(),
                isolation: Some(self.isolation_of_session(&record.session)),
            },
            prompt_chars: request.prompt.chars().count() as u64,
        };
        let mut expects = vec![Expect::SessionOpen(turn.session)];
        // An upload that is swept between the look and the commit must refuse the turn, not break it.
        expects.extend(files.iter().map(|file| Expect::FileExists(*file)));
        expects.extend(key.as_ref().map(|key| keys::unused(record.session.app, key)));
        let prompt = EventBody::Prompt {
            text: request.prompt,
            model: model.unwrap_or_default(),
            system: None,
            system_mode: SystemMode::Append,
            effort: record.session.conversation.as_ref().and_then(|chosen| chosen.effort),
            files,
            instruction: request.output_schema.as_ref().map(OutputSchema::instruction),
            output_schema: request.output_schema.map(|schema| schema.value().clone()),
        };
        let kept = key.map(|key| self.keep(record.session.app, key, turn.id.to_string()));
        Commit {
            expects,
            writes: [Write::QueueTurn(turn.clone(), Some(prompt))].into_iter().chain(kept).collect(),
            ledger: vec![self.line_of(&record.session, Some(turn.request), "app", LedgerFact::TurnAccepted(facts))],
        }
    }

    /// Records a turn as one that waits, and tells its owner of it.
    async fn accept(&self, caller: &Caller, acceptance: Acceptance, place: Option<Ticket>) -> Result<(), NotAccepted> {
        let desk = caller.desk();
        // The one before may be over and only not be counted off yet.
        let prompt = acceptance.prompt().filter(|_| desk.unfinished.load(Ordering::Relaxed) <= 1).cloned();
        let Acceptance { turn, commit, publisher, cancel } = acceptance;
        let (prompt, doubt) = match self.recorder.plain(commit).await {
            Ok(()) => (prompt, None),
            // A doubtful commit: the prompt is there, or it is not.
            Err(error @ CommitError::Unknown(_)) => match self.store.sessions.queued_prompt(turn.id).await {
                Ok(Some(_)) => (prompt, None),
                Ok(None) => return Err(NotAccepted::Refused(error)),
                Err(unread) => (None, Some(unread)),
            },
            Err(error) => return Err(NotAccepted::Refused(error)),
        };
        desk.unfinished.fetch_add(1, Ordering::Relaxed);
        caller.order(Order::Turn(Box::new(Accepted { turn, prompt, place, publisher, cancel }))).await;
        // Its owner has it if it is there: no other may overtake it, and nobody else would ever do it.
        doubt.map_or(Ok(()), |unread| Err(NotAccepted::InDoubt(unread)))
    }

    /// A conversation of this app. One that is unknown or somebody else's is not found, whichever it is, after
    /// the same query: its time is not to tell one from the other either. So every call asks here before it does
    /// anything that depends on what there is.
    pub(crate) async fn own_session(&self, by: &AppToken, session: SessionId) -> Result<SessionRecord, EngineError> {
        let record = self.store.sessions.conversation(session).await?;
        record.filter(|record| record.session.app == by.app.id).ok_or(EngineError::NotFound("session"))
    }

    pub(crate) async fn session(&self, by: &AppToken, session: SessionId) -> Result<SessionView, EngineError> {
        Ok(self.view(self.own_session(by, session).await?))
    }

    pub(crate) async fn sessions(&self, by: &AppToken, include_closed: bool) -> Result<Vec<SessionView>, EngineError> {
        self.sessions_page(by, include_closed, None, PAGE_ROWS_MAX).await
    }

    pub(crate) async fn sessions_page(
        &self,
        by: &AppToken,
        include_closed: bool,
        before: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionView>, EngineError> {
        let records = self.store.sessions.conversations(by.app.id, include_closed, before, limit).await?;
        Ok(records.into_iter().map(|record| self.view(record)).collect())
    }

    pub(super) fn view(&self, record: SessionRecord) -> SessionView {
        SessionView { is_warm: self.registry.is_warm(record.session.id), record }
    }

    /// Closes a conversation: its turns end, then its agent is gone. False when it was closed before.
    pub(crate) async fn close_session(
        self: Arc<Self>,
        by: Arc<AppToken>,
        session: SessionId,
        id: RequestId,
    ) -> Result<bool, EngineError> {
        let record = self.own_session(&by, session).await?;
        if record.closed_at.is_some() {
            return Ok(false);
        }
        let still = Expect::SessionOpen(session);
        self.close_for(&record.session, still, Some(id), "app", LedgerFact::SessionClosed(session)).await
    }

    /// As [`Self::close_session`], for whoever may; the ledger says why. False also when it is not as expected.
    pub(crate) async fn close_for(
        self: &Arc<Self>,
        session: &Session,
        still: Expect,
        id: Option<RequestId>,
        principal: &'static str,
        fact: LedgerFact,
    ) -> Result<bool, EngineError> {
        let commit = Commit {
            expects: vec![still],
            writes: vec![Write::CloseSession(session.id, self.ids.now())],
            ledger: vec![self.line_of(session, id, principal, fact)],
        };
        match self.recorder.plain(commit).await {
            Ok(()) => {}
            Err(CommitError::Unexpected { .. }) => return Ok(false),
            Err(error @ CommitError::Unknown(_)) => {
                let record = self.store.sessions.conversation(session.id).await?;
                if record.is_none_or(|record| record.closed_at.is_none()) {
                    return Err(error.into());
                }
            }
            Err(error @ CommitError::Unavailable(_)) => return Err(error.into()),
        }
        // After a doubtful commit it may have been somebody else who closed it, and counted it off.
        let _ = self.open_sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| open.checked_sub(1));
        if let Some(caller) = self.call_owned(session.id) {
            let (closer, closed) = oneshot::channel();
            caller.order(Order::Close(closer)).await;
            // An owner that is gone has nothing left to close.
            let _ = closed.await;
        }
        self.tails.close(session.id);
        Ok(true)
    }

    /// The driver that a conversation was opened with.
    pub(crate) fn driver_of(&self, session: &Session) -> Result<&Arc<dyn AgentDriver>, Failure> {
        let agent = &session.agent;
        let Some(offered) = self.session_agents.get(agent) else {
            let message = format!("the agent {agent} of this session is not configured any more");
            return Err(Failure::new(FailureKind::NotInstalled, message));
        };
        let driver = session.conversation.as_ref().map_or(offered.preferred, |chosen| chosen.driver);
        offered.driver(driver).ok_or_else(|| not_spoken(agent, driver))
    }

    /// How well the agents of a driver are kept apart.
    fn isolation_of(&self, driver: &dyn AgentDriver) -> Isolation {
        match self.options.isolation {
            Isolation::Namespaces if !driver.has_namespaces() => match self.options.users {
                Some(_) => Isolation::Uid,
                None => Isolation::Landlock,
            },
            level => level,
        }
    }

    /// Whether an agent is kept apart as well as its operator and its caller demand.
    pub(crate) fn enough_isolation(&self, driver: &dyn AgentDriver, wish: Option<Isolation>) -> Result<(), Failure> {
        let Some(wanted) = wish.max(driver.limits().isolation_min) else { return Ok(()) };
        let level = self.isolation_of(driver);
        // A view of its own does not make a user of its own.
        let lacks_user = wanted == Isolation::Uid && self.options.users.is_none();
        if level >= wanted && !lacks_user {
            return Ok(());
        }
        let without_users = if lacks_user && level > wanted { ", without a user for every app" } else { "" };
        Err(Failure::new(
            FailureKind::IsolationTooWeak,
            format!(
                "isolation `{wanted}` is demanded, and this service runs `{}` at `{level}`{without_users}; nothing was started",
                driver.name()
            ),
        ))
    }

    /// The same for a session, by what was demanded when it was opened.
    pub(crate) fn enough_isolation_for(&self, session: &Session, driver: &dyn AgentDriver) -> Result<(), Failure> {
        self.enough_isolation(driver, session.conversation.as_ref().and_then(|chosen| chosen.isolation_min))
    }

    /// How well a session's agent is kept apart if it is started now.
    pub(crate) fn isolation_of_session(&self, session: &Session) -> Isolation {
        self.driver_of(session).map_or(self.options.isolation, |driver| self.isolation_of(driver.as_ref()))
    }

    /// A line for the ledger about a conversation.
    pub(crate) fn line_of(
        &self,
        session: &Session,
        request: Option<RequestId>,
        principal: &'static str,
        fact: LedgerFact,
    ) -> LedgerEntry {
        LedgerEntry { at: self.ids.now(), principal, app: Some(session.app_name.clone()), request, fact }
    }
}

/// Whether an app's sessions may have these tool servers.
pub(super) fn may_give(by: &AppToken, servers: &[String]) -> Result<(), EngineError> {
    match servers.is_empty() || by.may_give_tool_servers {
        true => Ok(()),
        false => Err(EngineError::ToolServersForbidden),
    }
}

fn not_spoken(agent: &AgentName, driver: DriverName) -> Failure {
    let message = format!("this service does not speak to {agent} through {}", driver.as_str());
    Failure::new(FailureKind::NotInstalled, message)
}
