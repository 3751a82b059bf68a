//! Following a session or one of its turns: what is in the log, then what comes, without a gap.
//!
//! A follower listens to the live tail *first* and reads the store then, so nothing falls between. It holds a
//! number and a page of events at most, whatever its reader does: who is slow reads the store again, and delays
//! nobody. The log is the truth, the tail a hint: where no hint comes for a while, the store is asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use clawdforge_core::event::{EventBody, EventSeq};
use clawdforge_core::id::{SessionId, TurnId};
use clawdforge_core::turn::TurnState;
use clawdforge_store::EventBounds;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::engine::Shared;
use crate::error::EngineError;
use crate::hub::{Live, Recorded, Tail};

/// Events read at once.
const PAGE_EVENTS: usize = 128;

/// Bytes of events that a follower reads at once and holds on to, and one event more. A reader may stop reading for hours,
/// and there may be a thousand of them.
const PAGE_BYTES_MAX: usize = 64 * 1024;

/// How long a follower goes without asking the store, which another service may write to one day.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The same once the service has no work any more: whoever writes to the session is about to be gone.
const ASK_AGAIN_AT_LAST: Duration = Duration::from_millis(50);

/// What a follower is given, in the order of the log.
#[derive(Debug, Clone)]
pub enum Followed {
    /// The next event.
    Event(Arc<Recorded>),
    /// Events that are not kept any more, from the first number to the last.
    Gap(EventSeq, EventSeq),
}

/// When following is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// With the end of this turn, whose events alone are given.
    TurnEnds(TurnId),
    /// With the end of the run whose one turn this is. A stop of the service ends it too, also where it has not begun.
    RunEnds(TurnId),
    /// When the session is closed and its turns have ended.
    SessionCloses,
}

/// A place in a session's log that moves forward. Dropping it changes nothing about the session.
pub struct EventStream {
    shared: Arc<Shared>,
    session: SessionId,
    until: Until,
    /// The number of the last event that was given or passed over.
    after: EventSeq,
    page: VecDeque<Arc<Recorded>>,
    tail: Arc<Tail>,
    live: watch::Receiver<Live>,
    /// The store is to be asked, for there may be what no hint told of.
    is_unsure: bool,
    knows_of_stop: bool,
    knows_of_end: bool,
    is_over: bool,
}

impl EventStream {
    pub(crate) fn new(shared: Arc<Shared>, session: SessionId, until: Until, after: EventSeq) -> Self {
        let tail = shared.tails.of(session);
        let live = tail.listen();
        Self {
            shared,
            session,
            until,
            after,
            page: VecDeque::new(),
            tail,
            live,
            is_unsure: true,
            knows_of_stop: false,
            knows_of_end: false,
            is_over: false,
        }
    }

    /// Of a turn whose first event has number `first`, and in whose tail, which somebody holds, it has been told from there on:
    /// nothing can have been missed, so the log need not be looked at.
    pub(crate) fn of_new_turn(shared: Arc<Shared>, session: SessionId, turn: TurnId, first: EventSeq) -> Self {
        Self { is_unsure: false, ..Self::new(shared, session, Until::TurnEnds(turn), first - 1) }
    }

    /// What comes next; `None` when following is over. Waits for as long as nothing happens. Cancel-safe.
    ///
    /// # Errors
    /// When the store cannot be read; calling it again goes on where it was. When the service stops, and another one goes
    /// on with what is followed.
    pub async fn next(&mut self) -> Result<Option<Followed>, EngineError> {
        loop {
            if let Some(followed) = self.take() {
                return Ok(Some(followed));
            }
            if self.is_over {
                return Ok(None);
            }
            let is_sure = !self.is_unsure;
            // Asked before the log is read: what is in there then is all there will ever be.
            let has_ended = !is_sure && self.has_ended().await?;
            let is_left = self.is_left();
            let found = self.read(is_sure && !is_left).await?;
            self.is_unsure = false;
            if found.is_empty() {
                self.is_over = has_ended;
                if !has_ended {
                    if is_left {
                        return Err(EngineError::Stopping);
                    }
                    self.wait().await;
                    self.is_deferred().await?;
                }
            }
            // Where there is more, it is looked for again when this is through.
            self.is_unsure |= has_ended;
            self.page.extend(found);
        }
    }

    /// The next of what was read.
    fn take(&mut self) -> Option<Followed> {
        while let Some(event) = self.page.pop_front() {
            let expected = self.after + 1;
            if event.seq > expected {
                self.after = event.seq - 1;
                self.page.push_front(event);
                return Some(Followed::Gap(expected, self.after));
            }
            self.after = event.seq;
            match self.until {
                Until::TurnEnds(turn) | Until::RunEnds(turn) if event.turn != turn => continue,
                Until::TurnEnds(_) | Until::RunEnds(_) => self.is_over = matches!(event.body, EventBody::Ended(_)),
                Until::SessionCloses => {}
            }
            return Some(Followed::Event(event));
        }
        None
    }

    async fn read(&mut self, is_sure: bool) -> Result<Vec<Arc<Recorded>>, EngineError> {
        let head = self.live.borrow_and_update().head;
        if let Some(recent) = self.tail.recent_after(self.after, PAGE_EVENTS) {
            return Ok(few(recent));
        }
        if is_sure && head <= self.after {
            return Ok(Vec::new());
        }
        let bounds = EventBounds { rows_max: PAGE_EVENTS, bytes_max: PAGE_BYTES_MAX };
        let events = self.shared.store.events.events_within(self.session, self.after, bounds).await?;
        Ok(events.into_iter().map(|event| Arc::new(event.into())).collect())
    }

    async fn wait(&mut self) {
        let (stopping, expired) = (self.shared.stopping.clone(), self.shared.expired.clone());
        let patience = if self.knows_of_end { ASK_AGAIN_AT_LAST } else { ASK_AGAIN };
        let hint = async {
            tokio::select! {
                changed = self.live.changed() => changed.is_ok(),
                () = stopping.cancelled(), if !self.knows_of_stop => {
                    self.knows_of_stop = true;
                    false
                }
                () = expired.cancelled(), if !self.knows_of_end => {
                    self.knows_of_end = true;
                    false
                }
            }
        };
        let is_hint = timeout(patience, hint).await.unwrap_or(false);
        self.is_unsure = !is_hint || self.live.borrow().closed;
    }

    /// Whether the service has come to its end and nobody writes to the session any more: only the next one will.
    fn is_left(&self) -> bool {
        let is_at_its_end = self.until == Until::SessionCloses && self.shared.expired.is_cancelled();
        is_at_its_end && !self.shared.registry.is_owned(self.session)
    }

    /// Fails where the service stops and a turn of a conversation has not begun: it is done after the restart, by another
    /// service.
    async fn is_deferred(&self) -> Result<(), EngineError> {
        let Until::TurnEnds(turn) = self.until else { return Ok(()) };
        if !self.shared.stopping.is_cancelled() {
            return Ok(());
        }
        match self.shared.store.sessions.turn(turn).await? {
            Some(record) if record.turn.state == TurnState::Queued => Err(EngineError::Deferred),
            _ => Ok(()),
        }
    }

    /// Whether nothing will be added to what is followed.
    async fn has_ended(&self) -> Result<bool, EngineError> {
        let sessions = &self.shared.store.sessions;
        match self.until {
            Until::TurnEnds(turn) | Until::RunEnds(turn) => {
                let turn = sessions.turn(turn).await?;
                // One that is gone was erased.
                Ok(turn.is_none_or(|record| record.turn.state == TurnState::Ended))
            }
            Until::SessionCloses => {
                let Some(record) = sessions.conversation(self.session).await? else { return Ok(true) };
                if record.closed_at.is_none() {
                    return Ok(false);
                }
                // Turns are done in their order, so the last one ends last.
                let last = sessions.turns(self.session, record.turns.saturating_sub(1), 1).await?;
                Ok(last.iter().all(|record| record.turn.state == TurnState::Ended))
            }
        }
    }
}

/// As many as a follower may hold on to.
fn few(mut events: Vec<Arc<Recorded>>) -> Vec<Arc<Recorded>> {
    let mut bytes = 0;
    let held = events.iter().take_while(|event| {
        let fits = bytes < PAGE_BYTES_MAX;
        bytes += event.body.weight();
        fits
    });
    let held = held.count();
    events.truncate(held);
    events
}
