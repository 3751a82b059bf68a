//! The owner of a conversation: one task that has its agent, its turns and its numbers.
//!
//! It plays one turn after the other and keeps the agent between them, as long as nobody needs its slot.
//! When the conversation is cold and nothing is left to do, the task ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clawdforge_agent::AgentLink;
use clawdforge_core::agent::{AgentSignal, Failure, FailureKind};
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::{EventBody, EventSeq};
use clawdforge_core::id::{AppId, SessionId};
use clawdforge_core::machine::{AfterTurn, cancelled};
use clawdforge_core::session::SessionRecord;
use clawdforge_core::turn::Turn;
use clawdforge_store::{CommitError, ReadError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::beginning::{Acceptance, Began, Beginning};
use super::mailbox::{self, Accepted, Mailbox};
use super::opening::{Asked, open_ahead, opening};
use super::registry::Desk;
use crate::cancels::Cancel;
use crate::engine::Shared;
use crate::hosts::is_gone;
use crate::hub::Publisher;
use crate::owner::log::TurnLog;
use crate::owner::run::waited_too_long;
use crate::owner::{Player, at, tell_of_closing};
use crate::quota::Meter;
use crate::record::Facts;
use crate::slots::{Rest, Slot, Ticket, granted};
use crate::tasks::{OnError, TaskKind};

const OWNER: TaskKind = TaskKind { name: "conversation", on_error: OnError::Log };

/// First pause before a turn that could not be read is looked for again; each further one is twice as long.
const READ_RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The longest such pause: what the store is asked then is small, and everybody waits for it.
const READ_RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Starts the task that owns a conversation.
pub(super) fn start(shared: &Arc<Shared>, desk: Arc<Desk>, mailbox: Mailbox) {
    let root = shared.workspaces.of_conversation(desk.session).root().to_owned();
    let meter = shared.options.workspace_bytes_max.map(|bytes_max| Meter::of_conversation(root, bytes_max));
    let shared = Arc::clone(shared);
    let work = shared.work.clone();
    let owner = Owner { shared, desk, mailbox: Some(mailbox), warm: None, known: None, unread: None, meter };
    work.spawn(OWNER, owner.own());
}

struct Owner {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    /// With the player while a turn is played.
    mailbox: Option<Mailbox>,
    warm: Option<Warm>,
    /// What is on record after the turn before, which nobody else changes.
    known: Option<Known>,
    /// The first turn that waits could not be read.
    unread: Option<Unread>,
    /// What the workspace may take on the disk, where that is limited.
    meter: Option<Arc<Meter>>,
}

/// What a turn goes on from.
struct Known {
    record: SessionRecord,
    /// The number of the last event.
    head: EventSeq,
}

/// A turn whose prompt is in its log.
struct Written {
    log: TurnLog,
    asked: Asked,
}

/// When a turn that could not be read is looked for again.
#[derive(Clone, Copy)]
struct Unread {
    again_at: Instant,
    pause: Duration,
}

/// The agent between two turns, and the slot it keeps.
struct Warm {
    link: Box<dyn AgentLink>,
    slot: Slot,
    since: Instant,
    /// It was started ahead and has not been asked anything.
    is_new: bool,
}

/// What an idle owner is to do.
enum Next {
    Turn(Box<Accepted>),
    Begin(Beginning),
    WarmUp(Slot),
    Park,
    Leave,
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Nothing to forget where it left in good order.
        self.shared.registry.forget(&self.desk);
    }
}

impl Owner {
    async fn own(mut self) {
        loop {
            match self.next().await {
                Next::Turn(accepted) => self.begin(*accepted).await,
                Next::Begin(beginning) => self.begin_at_once(beginning).await,
                Next::WarmUp(slot) => self.warm_up(slot).await,
                Next::Park => self.park().await,
                Next::Leave => return,
            }
        }
    }

    /// Plays a turn, or puts it back where it was: no other overtakes it.
    async fn begin(&mut self, mut accepted: Accepted) {
        if self.mailbox.as_mut().is_some_and(|mailbox| std::mem::take(&mut mailbox.changed)) {
            // Another process takes the conversation up, and is told what was chosen.
            self.known = None;
            self.park().await;
        }
        let found = match (self.known.take(), accepted.prompt.take()) {
            (Some(known), Some(prompt)) => Ok(Some((known, prompt))),
            _ => Self::look_up(&self.shared, &accepted.turn).await,
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let Turn { session, index, .. } = accepted.turn;
                tracing::error!(session.id = %session, turn.index = index, %error, "a turn could not be read; it is tried again");
                let pause = self.unread.map_or(READ_RETRY_PAUSE, |unread| READ_RETRY_PAUSE_MAX.min(unread.pause * 2));
                self.unread = Some(Unread { again_at: Instant::now() + pause, pause });
                if let Some(mailbox) = self.mailbox.as_mut() {
                    mailbox.turns.push_front(accepted);
                }
                return;
            }
        };
        self.unread = None;
        match found {
            Some((known, prompt)) => self.turn(accepted, known, prompt).await,
            None => {
                let Turn { session, index, .. } = accepted.turn;
                tracing::error!(session.id = %session, turn.index = index, "a turn is not where it was accepted");
            }
        }
        self.desk.unfinished.fetch_sub(1, Ordering::Relaxed);
    }

    async fn next(&mut self) -> Next {
        let next = self.wait().await;
        self.desk.rests.store(false, Ordering::Relaxed);
        if let Some(mailbox) = self.mailbox.as_mut() {
            mailbox.rests = false;
            if let Some(beginning) = mailbox.beginning.take() {
                beginning.not_now();
            }
        }
        next
    }

    async fn wait(&mut self) -> Next {
        let Some(mailbox) = self.mailbox.as_mut() else { return Next::Leave };
        loop {
            mailbox.take_in_now();
            let stopping = self.shared.stopping.is_cancelled();
            if let Some(slot) = mailbox.warm_up.take() {
                return Next::WarmUp(slot);
            }
            if let Some(beginning) = mailbox.beginning.take() {
                let is_free = mailbox.turns.is_empty() && !mailbox.changed && !mailbox.closed && !stopping;
                let may_begin = self.known.is_some() && self.warm.as_ref().is_some_and(|warm| warm.link.is_usable());
                match is_free && may_begin {
                    true => return Next::Begin(beginning),
                    false => beginning.not_now(),
                }
            }
            let again_at = self.unread.map(|unread| unread.again_at).filter(|at| *at > Instant::now());
            if (mailbox.closed || stopping) && self.warm.is_some() {
                return Next::Park;
            }
            if again_at.is_some() && !stopping {
                // Whatever else there is to do comes after the turn that cannot be read.
            } else if mailbox.closed || stopping {
                // Turns of a conversation that is only stopped stay where they are recorded, for the next start.
                if let Some(accepted) = mailbox.turns.pop_front().filter(|_| mailbox.closed && again_at.is_none()) {
                    return Next::Turn(Box::new(accepted));
                }
                for closer in mailbox.closers.drain(..) {
                    // A closer that went away has nothing to hear.
                    let _ = closer.send(());
                }
                if stopping || self.shared.registry.leave(&self.desk, mailbox) {
                    return Next::Leave;
                }
            } else if let Some(accepted) = mailbox.turns.pop_front() {
                return Next::Turn(Box::new(accepted));
            } else if self.warm.is_none() && self.shared.registry.leave(&self.desk, mailbox) {
                return Next::Leave;
            }
            // Who tried to leave has taken in what came last, and nobody will tell of that again.
            if mailbox.has_work() && again_at.is_none() {
                continue;
            }
            let (is_warm, rest) = (self.warm.is_some(), self.warm.as_ref().and_then(|warm| warm.slot.rest()));
            let rests = is_warm && self.known.is_some();
            mailbox.rests = rests;
            self.desk.rests.store(rests, Ordering::Relaxed);
            tokio::select! {
                () = mailbox.take_in() => {}
                () = self.shared.stopping.cancelled(), if !stopping => {}
                () = at(again_at) => {}
                () = cooled(self.warm.as_mut(), rest.as_ref(), self.shared.options.session_warm_max) => return Next::Park,
                failure = overfull(self.meter.as_ref()), if is_warm => {
                    tracing::warn!(session.id = %self.desk.session, reason = failure.message, "a resting agent is ended");
                    return Next::Park;
                }
            }
        }
    }

    /// Starts the agent before there is a turn. What is wrong with it, the first turn is told.
    async fn warm_up(&mut self, slot: Slot) {
        let link = match self.mailbox.as_mut() {
            Some(mailbox) => open_ahead(&self.shared, self.desk.session, &slot, mailbox).await,
            None => None,
        };
        match link {
            Some(link) => self.warm = Some(Warm { link, slot, since: Instant::now(), is_new: true }),
            None => {
                cold(&self.shared, &self.desk, true).await;
                drop(slot);
            }
        }
    }

    /// Ends the agent's process; the conversation stays open.
    async fn park(&mut self) {
        let Some(Warm { link, slot, .. }) = self.warm.take() else { return };
        close(&self.shared, &self.desk, link).await;
        drop(slot);
    }

    /// Accepts a turn and begins it, in one commit, then plays it to its recorded end.
    async fn begin_at_once(&mut self, beginning: Beginning) {
        let (known, prompt) = match (self.known.take(), beginning.acceptance.prompt()) {
            (Some(known), Some(prompt)) => (known, prompt.clone()),
            (known, _) => {
                self.known = known;
                return beginning.not_now();
            }
        };
        let Beginning { acceptance, answer } = beginning;
        let Acceptance { turn, commit, publisher, cancel } = *acceptance;
        let Written { mut log, asked } = self.written(turn, publisher, &known, prompt);
        log.push(self.shared.ids.now(), EventBody::Started);
        let mut answer = Some(answer);
        let tell = |answer: &mut Option<oneshot::Sender<Began>>, began: Began| {
            // A caller that is gone finds its turn in the session.
            let _ = answer.take().map(|answer| answer.send(began));
        };
        let committed = match self.shared.recorder.plain(log.beginning(commit)).await {
            Err(CommitError::Unknown(reason)) => {
                let told = |unread| tell(&mut answer, Began::InDoubt(unread));
                match is_written(&self.shared, self.desk.session, log.last(), told).await {
                    Some(true) => Ok(()),
                    Some(false) => Err(CommitError::Unavailable(reason)),
                    // The next start finds the turn as begun, or not at all.
                    None => return,
                }
            }
            committed => committed,
        };
        match committed {
            Ok(()) => {
                log.begun();
                tell(&mut answer, Began::Accepted(known.head + 1));
                let player = Player::new(Arc::clone(&self.shared), log, cancel);
                self.play(player, known, asked, None).await;
            }
            // What is on record is looked up again for the next turn.
            Err(refused) => tell(&mut answer, Began::Refused(refused)),
        }
        self.desk.unfinished.fetch_sub(1, Ordering::Relaxed);
    }

    /// The log of a turn with its prompt, and what it asks.
    fn written(&self, turn: Turn, mut publisher: Publisher, known: &Known, mut prompt: EventBody) -> Written {
        let Known { record, head } = known;
        publisher.begins_at(head + 1);
        as_chosen(&mut prompt, record);
        let asked = Asked::of(record, &prompt, self.shared.isolation_of_session(&record.session));
        let facts = Facts::Turn(asked.facts(turn.session, turn.index));
        let mut log = TurnLog::new(record.session.clone(), turn, facts, publisher, *head);
        log.push(self.shared.ids.now(), prompt);
        Written { log, asked }
    }

    /// Plays a turn that was accepted to its recorded end.
    async fn turn(&mut self, accepted: Accepted, known: Known, prompt: EventBody) {
        let Accepted { turn, place, publisher, cancel, .. } = accepted;
        let Written { log, asked } = self.written(turn, publisher, &known, prompt);
        self.play(Player::new(Arc::clone(&self.shared), log, cancel), known, asked, place).await;
    }

    async fn play(&mut self, mut player: Player, known: Known, asked: Asked, place: Option<Ticket>) {
        let Known { record, head } = known;
        let began = Instant::now();
        player.resume_noted.clone_from(&record.resume_key);
        player.output_schema.clone_from(&asked.output_schema);

        if self.is_closed(&record) {
            let message = "the session was closed before this turn began";
            return player.end_with(Failure::new(FailureKind::SessionClosed, message), began.elapsed()).await;
        }
        if player.cancel.is_asked() {
            return player.end_with(cancelled(), began.elapsed()).await;
        }
        let mut ahead = None;
        let slot = match self.warm.take() {
            // It has just died, and nobody was told yet: the turn need not die of it.
            Some(Warm { link, slot, .. }) if !link.is_usable() => {
                close(&self.shared, &self.desk, link).await;
                slot
            }
            Some(Warm { link, slot, is_new: true, .. }) => {
                ahead = Some(link);
                slot
            }
            Some(Warm { link, slot, .. }) => {
                player.warm = Some(link);
                slot
            }
            None => match self.slot(place, record.session.app, &player.cancel).await {
                Ok(slot) => slot,
                Err(Some(failure)) => return player.end_with(failure, began.elapsed()).await,
                // The service stops: the turn stays as it is recorded, and the next start goes on with it.
                Err(None) => return,
            },
        };
        player.mailbox = self.mailbox.take();
        // Where there is none any more, the opening says so.
        player.limits = self.shared.driver_of(&record.session).map(|driver| driver.limits()).unwrap_or_default();
        player.meter.clone_from(&self.meter);
        let open = opening(&self.shared, &player, record.clone(), asked, head, ahead);
        self.desk.warm.store(true, Ordering::Relaxed);
        player.play(open, AfterTurn::Keep).await;
        self.mailbox = player.mailbox.take();
        let resume_key = player.resume_noted.take();
        self.known = player.log.head().map(|head| Known { record: SessionRecord { resume_key, ..record }, head });
        // What it left running would go on writing.
        let is_full = self.meter.as_ref().is_some_and(|meter| meter.is_full());
        match player.link.take().or_else(|| player.warm.take()) {
            Some(link) if link.is_usable() && !is_full => {
                self.warm = Some(Warm { link, slot, since: Instant::now(), is_new: false })
            }
            Some(link) => {
                close(&self.shared, &self.desk, link).await;
                drop(slot);
            }
            None => {
                cold(&self.shared, &self.desk, player.may_survive).await;
                drop(slot);
            }
        }
    }

    /// What a turn that is about to begin needs from the store; `None` where the turn is not there.
    async fn look_up(shared: &Shared, turn: &Turn) -> Result<Option<(Known, EventBody)>, ReadError> {
        let store = &shared.store;
        // Nobody else writes what is read here, so it need not be read at one moment; side by side it takes a
        // third of the time.
        let (record, head, prompt) = tokio::try_join!(
            store.sessions.conversation(turn.session),
            store.events.head(turn.session),
            store.sessions.queued_prompt(turn.id),
        )?;
        Ok(record.zip(prompt).map(|(record, prompt)| (Known { record, head }, prompt)))
    }

    fn is_closed(&self, record: &SessionRecord) -> bool {
        record.closed_at.is_some() || self.mailbox.as_ref().is_some_and(|mailbox| mailbox.closed)
    }

    /// Waits for a slot; `Err(None)` when the service stops before.
    async fn slot(&mut self, place: Option<Ticket>, app: AppId, cancel: &Cancel) -> Result<Slot, Option<Failure>> {
        let waiting = match place.unwrap_or_else(|| self.shared.slots.admit_promised(app)) {
            Ticket::Ready(slot) => return Ok(slot),
            Ticket::Waiting(waiting) => waiting,
        };
        let wait_max = self.shared.options.queue_wait_max;
        let closed = "the session was closed before this turn began";
        tokio::select! {
            biased;
            slot = granted(waiting, &self.shared.stopping) => slot.ok_or(None),
            () = cancel.asked() => Err(Some(cancelled())),
            () = mailbox::closed(&mut self.mailbox) => Err(Some(Failure::new(FailureKind::SessionClosed, closed))),
            () = tokio::time::sleep(wait_max) => Err(Some(waited_too_long(wait_max))),
        }
    }
}

/// Whether a commit that was not answered wrote events up to number `last`, which the owner alone numbers. `None`
/// when the service stops before that can be read; `told` hears of the first time that it cannot.
async fn is_written(
    shared: &Shared,
    session: SessionId,
    last: EventSeq,
    told: impl FnOnce(ReadError) + Send,
) -> Option<bool> {
    let (mut told, mut pause) = (Some(told), READ_RETRY_PAUSE);
    loop {
        match shared.store.events.head(session).await {
            Ok(head) => return Some(head >= last),
            Err(error) => {
                tracing::error!(session.id = %session, %error, "whether a turn was accepted could not be read; it is looked for again");
                if let Some(told) = told.take() {
                    told(error);
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = READ_RETRY_PAUSE_MAX.min(pause * 2),
            () = shared.stopping.cancelled() => return None,
        }
    }
}

/// Makes a prompt name what its turn goes by: the session may have been changed since it was accepted.
fn as_chosen(prompt: &mut EventBody, record: &SessionRecord) {
    if let (EventBody::Prompt { model, effort, .. }, Some(chosen)) = (prompt, &record.session.conversation) {
        *model = chosen.model.clone().unwrap_or_default();
        *effort = chosen.effort;
    }
}

/// Resolves when what a warm agent left running has written too much.
async fn overfull(meter: Option<&Arc<Meter>>) -> Failure {
    match meter {
        Some(meter) => Arc::clone(meter).full_at_rest().await,
        None => std::future::pending().await,
    }
}

async fn close(shared: &Shared, desk: &Desk, link: Box<dyn AgentLink>) {
    let report = link.close(shared.options.kill_grace).await;
    tell_of_closing(&desk.session, &report);
    cold(shared, desk, report.survivors > 0).await;
}

/// Notes that there is no process any more. Where something of it may have survived, that is looked for first; what
/// is still there stays on record, and is looked for again when the next process is closed, when the conversation is
/// erased, and at the next start. Where the end cannot be recorded, that start looks and finds none.
async fn cold(shared: &Shared, desk: &Desk, may_survive: bool) {
    desk.warm.store(false, Ordering::Relaxed);
    if may_survive && !is_gone(&desk.session).await {
        return;
    }
    let writes = vec![Write::NoteLink(desk.session, None)];
    if let Err(error) = shared.recorder.plain(Commit { writes, ..Commit::default() }).await {
        tracing::warn!(session.id = %desk.session, %error, "the end of a process could not be recorded");
    }
}

/// Resolves when a warm agent should be let go of: it is gone, its slot is needed, or it was idle for long.
async fn cooled(warm: Option<&mut Warm>, rest: Option<&Rest>, idle_max: Duration) {
    let (Some(warm), Some(rest)) = (warm, rest) else { return std::future::pending().await };
    let gone = async {
        // What an agent says between turns belongs to none.
        while !matches!(warm.link.next_signal().await, AgentSignal::Exited(_)) {}
    };
    tokio::select! {
        () = gone => {}
        () = rest.wanted() => {}
        () = tokio::time::sleep_until(warm.since + idle_max) => {}
    }
}
