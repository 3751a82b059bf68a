//! The live tails of committed events.
//!
//! A tail tells followers what has become durable in a session; it never carries anything that is
//! not (I2): what it takes is a [`Committed`], which only the recorder can make. A session has a tail as long as
//! somebody writes or follows it, so what is over costs nothing.
//!
//! A tail keeps the newest events while there are followers, so that a thousand of them do not read the store for each
//! commit. It is bounded; who is further behind reads the store.

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use clawdforge_core::event::{Event, EventSeq, TurnOutcome};
use clawdforge_core::id::SessionId;
use tokio::sync::watch;

/// Events that a tail keeps: about what an agent says in ten seconds.
const RECENT_EVENTS_MAX: usize = 512;

/// Bytes of events that a tail keeps, so that a few large ones do not add up.
const RECENT_BYTES_MAX: usize = 1024 * 1024;

/// Events that the end of a turn brings along: a short answer with some tool calls.
const KEPT_EVENTS_MAX: usize = 64;

/// Bytes of them. Every turn under way may hold so many.
const KEPT_BYTES_MAX: usize = 32 * 1024;

/// Proof that events are durable, and the outcome among them. Made by the recorder only.
#[derive(Debug)]
pub struct Committed {
    ended: Option<Arc<TurnOutcome>>,
    last: EventSeq,
}

impl Committed {
    /// For the recorder, after the store has said so: events up to number `last` are there.
    pub(crate) fn after_commit(ended: Option<Arc<TurnOutcome>>, last: EventSeq) -> Self {
        Self { ended, last }
    }
}

/// A turn that is over: its outcome, and where it is in the log of its session.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The outcome.
    pub outcome: Arc<TurnOutcome>,
    /// The number of its first event, which is its prompt.
    pub first: EventSeq,
    /// The number of its last event, which is its end.
    pub last: EventSeq,
    /// All of its events, where they are few: who waited for a short answer need not read it. The log has them in any case.
    pub events: Option<Arc<[Event]>>,
}

/// An event that is in the log, as all its followers share it.
#[derive(Debug)]
pub struct Recorded {
    event: Event,
    shown: OnceLock<Arc<[u8]>>,
}

impl Recorded {
    /// What is made of it to be shown, by whoever needs it first: a thousand followers show the same bytes. It must be the
    /// same for all of them.
    pub fn shown(&self, show: impl FnOnce(&Event) -> Vec<u8>) -> Arc<[u8]> {
        Arc::clone(self.shown.get_or_init(|| show(&self.event).into()))
    }
}

impl From<Event> for Recorded {
    fn from(event: Event) -> Self {
        Self { event, shown: OnceLock::new() }
    }
}

impl Deref for Recorded {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

/// All live tails.
#[derive(Debug, Default)]
pub(crate) struct Tails(Arc<Mutex<HashMap<SessionId, Weak<Tail>>>>);

/// What a session's followers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Live {
    /// The number of the last event that is known to be durable; 0 until one is made while the tail is there.
    pub head: EventSeq,
    /// The session takes no turn any more.
    pub closed: bool,
}

/// The live tail of one session.
#[derive(Debug)]
pub(crate) struct Tail {
    session: SessionId,
    tails: Weak<Mutex<HashMap<SessionId, Weak<Tail>>>>,
    live: watch::Sender<Live>,
    recent: Mutex<Recent>,
}

/// The newest events, without a gap, and what they weigh.
#[derive(Debug, Default)]
struct Recent {
    events: VecDeque<Arc<Recorded>>,
    bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind the locks here is changed in steps that cannot panic halfway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tails {
    /// The tail of a session, which is there as long as somebody holds it.
    pub fn of(&self, session: SessionId) -> Arc<Tail> {
        let mut tails = lock(&self.0);
        if let Some(tail) = tails.get(&session).and_then(Weak::upgrade) {
            return tail;
        }
        let tail = Arc::new(Tail {
            session,
            tails: Arc::downgrade(&self.0),
            live: watch::Sender::default(),
            recent: Mutex::default(),
        });
        tails.insert(session, Arc::downgrade(&tail));
        tail
    }

    /// Tells followers, if there are any, that a session was closed.
    pub fn close(&self, session: SessionId) {
        let tail = lock(&self.0).get(&session).and_then(Weak::upgrade);
        if let Some(tail) = tail {
            tail.live.send_modify(|live| live.closed = true);
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let Some(tails) = self.tails.upgrade() else { return };
        let mut tails = lock(&tails);
        // Somebody may have made a new one in between.
        if tails.get(&self.session).is_some_and(|tail| tail.strong_count() == 0) {
            tails.remove(&self.session);
        }
    }
}

impl Tail {
    /// What is told from now on. To be taken before the store is looked at, so that nothing falls between.
    pub fn listen(&self) -> watch::Receiver<Live> {
        self.live.subscribe()
    }

    /// Events from after number `after` on, at most `limit`, if they are all here.
    pub fn recent_after(&self, after: EventSeq, limit: usize) -> Option<Vec<Arc<Recorded>>> {
        let recent = lock(&self.recent);
        let first = recent.events.front()?.seq;
        let skipped = usize::try_from(after.checked_add(1)?.checked_sub(first)?).ok()?;
        (skipped < recent.events.len()).then(|| recent.events.iter().skip(skipped).take(limit).cloned().collect())
    }

    fn tell(&self, events: Vec<Event>, head: EventSeq) {
        let mut recent = lock(&self.recent);
        let follows_on =
            |recent: &Recent, next: &Event| recent.events.back().is_none_or(|last| last.seq + 1 == next.seq);
        if self.live.receiver_count() == 0 || !events.first().is_some_and(|first| follows_on(&recent, first)) {
            // What is not whole is of no use; the store has it.
            *recent = Recent::default();
        }
        if self.live.receiver_count() > 0 {
            for event in events {
                recent.bytes += event.body.weight();
                recent.events.push_back(Arc::new(event.into()));
            }
            while recent.events.len() > RECENT_EVENTS_MAX || recent.bytes > RECENT_BYTES_MAX {
                let Some(oldest) = recent.events.pop_front() else { break };
                recent.bytes -= oldest.body.weight();
            }
        }
        drop(recent);
        self.live.send_modify(|live| live.head = live.head.max(head));
    }
}

/// The events of one turn, and what they weigh.
#[derive(Debug, Default)]
struct Kept {
    events: Vec<Event>,
    bytes: usize,
}

impl Kept {
    /// With these events too; `None` where that is too much.
    fn with(mut self, events: &[Event]) -> Option<Self> {
        self.bytes += events.iter().map(|event| event.body.weight()).sum::<usize>();
        let fits = self.events.len() + events.len() <= KEPT_EVENTS_MAX && self.bytes <= KEPT_BYTES_MAX;
        fits.then(|| {
            self.events.extend_from_slice(events);
            self
        })
    }

    /// All from the first to the last, or nothing.
    fn whole(self, first: EventSeq, last: EventSeq) -> Option<Arc<[Event]>> {
        self.events.iter().map(|event| event.seq).eq(first..=last).then(|| self.events.into())
    }
}

/// The writing end of one turn's tail; owned by whoever writes the session.
#[derive(Debug)]
pub struct Publisher {
    first: EventSeq,
    /// What was published so far, until it is too much.
    kept: Option<Kept>,
    ended: watch::Sender<Option<Ended>>,
    tail: Arc<Tail>,
}

impl Publisher {
    /// The tail of a turn that has no event yet.
    pub(crate) fn new(tail: Arc<Tail>) -> Self {
        Self { first: 1, kept: Some(Kept::default()), ended: watch::Sender::new(None), tail }
    }

    /// Says which event will be the turn's first.
    pub fn begins_at(&mut self, first: EventSeq) {
        self.first = first;
    }

    /// Tells followers of what was committed: these events, or none of them where they are not at hand any more, and an
    /// outcome, if there is one.
    pub fn publish(&mut self, committed: Committed, events: Vec<Event>) {
        self.kept = self.kept.take().and_then(|kept| kept.with(&events));
        self.tail.tell(events, committed.last);
        if let Some(outcome) = committed.ended {
            let (first, last) = (self.first, committed.last);
            let events = self.kept.take().and_then(|kept| kept.whole(first, last));
            self.ended.send_replace(Some(Ended { outcome, first, last, events }));
        }
    }

    /// Whether somebody has a use for the events of a commit, which weigh so much.
    pub fn takes_events(&self, bytes: usize) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.bytes + bytes <= KEPT_BYTES_MAX) || self.is_followed()
    }

    /// Whether somebody follows the session, and not only the outcome of the turn.
    pub fn is_followed(&self) -> bool {
        self.tail.live.receiver_count() > 0
    }

    /// A follower: the outcome, once it is durable. When it finds the tail gone without one, the
    /// outcome is not known.
    pub fn follow(&self) -> Follower {
        Follower(self.ended.subscribe())
    }
}

/// The reading end of one turn's tail.
#[derive(Debug)]
pub struct Follower(watch::Receiver<Option<Ended>>);

impl Follower {
    /// Waits for the end of the turn; `None` when nobody will tell of it any more.
    pub async fn ended(mut self) -> Option<Ended> {
        let ended = self.0.wait_for(Option::is_some).await;
        ended.ok().and_then(|ended| ended.clone())
    }
}

#[cfg(test)]
mod tests {
    use clawdforge_core::event::EventBody;
    use clawdforge_core::id::TurnId;
    use clawdforge_core::time::Timestamp;

    use super::*;

    fn event(seq: EventSeq, bytes: usize) -> Event {
        Event {
            session: SessionId::from_u128(1),
            seq,
            turn: TurnId::from_u128(2),
            at: Timestamp::from_micros(0),
            body: EventBody::Text { content: "x".repeat(bytes) },
        }
    }

    fn tell(tail: &Tail, seqs: std::ops::RangeInclusive<EventSeq>, bytes: usize) {
        let head = *seqs.end();
        tail.tell(seqs.map(|seq| event(seq, bytes)).collect(), head);
    }

    fn recent(tail: &Tail, after: EventSeq, limit: usize) -> Option<Vec<EventSeq>> {
        Some(tail.recent_after(after, limit)?.iter().map(|event| event.seq).collect())
    }

    #[test]
    fn what_was_told_while_somebody_listened_is_at_hand_and_nothing_else() {
        let tails = Tails::default();
        let tail = tails.of(SessionId::from_u128(1));
        tell(&tail, 1..=3, 1);
        assert_eq!(recent(&tail, 0, 10), None, "nobody listened");
        let live = tail.listen();
        tell(&tail, 4..=6, 1);
        assert_eq!(recent(&tail, 3, 10), Some(vec![4, 5, 6]));
        assert_eq!(recent(&tail, 4, 1), Some(vec![5]));
        assert_eq!([recent(&tail, 2, 10), recent(&tail, 6, 10), recent(&tail, 9, 10)], [None, None, None]);
        assert_eq!(*live.borrow(), Live { head: 6, closed: false });
        // The end of a turn is told without its events.
        tail.tell(Vec::new(), 8);
        assert_eq!((recent(&tail, 3, 10), live.borrow().head), (None, 8));
        tell(&tail, 9..=9, 1);
        assert_eq!(recent(&tail, 8, 10), Some(vec![9]));
    }

    #[test]
    fn the_end_of_a_turn_brings_its_events_along_where_they_are_few_and_whole() {
        let session = SessionId::from_u128(1);
        let outcome: TurnOutcome = serde_json::from_str(r#"{"duration_ms": 1}"#).unwrap();
        let brought = |told: &[std::ops::RangeInclusive<EventSeq>], bytes: usize| {
            let mut publisher = Publisher::new(Tails::default().of(session));
            publisher.begins_at(3);
            let mut seen = publisher.follow();
            for (index, seqs) in told.iter().enumerate() {
                let ended = (index + 1 == told.len()).then(|| Arc::new(outcome.clone()));
                let committed = Committed::after_commit(ended, *seqs.end());
                publisher.publish(committed, seqs.clone().map(|seq| event(seq, bytes)).collect());
            }
            let ended = seen.0.borrow_and_update().clone().unwrap();
            ended.events.map(|events| events.iter().map(|event| event.seq).collect::<Vec<_>>())
        };
        assert_eq!(brought(&[3..=4, 5..=7], 1), Some(vec![3, 4, 5, 6, 7]));
        assert_eq!(brought(&[3..=3, 5..=7], 1), None, "one was not told");
        assert_eq!(brought(&[4..=7], 1), None, "its first was not told");
        let many = KEPT_EVENTS_MAX as u64;
        assert!(brought(&[3..=many + 2], 1).is_some());
        assert_eq!(brought(&[3..=many + 3], 1), None);
        assert_eq!(brought(&[3..=3, 4..=4], KEPT_BYTES_MAX), None);
    }

    #[test]
    fn a_tail_keeps_so_many_events_and_so_many_bytes_of_them() {
        let tail = Tails::default().of(SessionId::from_u128(1));
        let _live = tail.listen();
        let many = RECENT_EVENTS_MAX as u64 + 10;
        tell(&tail, 1..=many, 1);
        assert_eq!(recent(&tail, 9, 1), None);
        assert_eq!(recent(&tail, 10, 1), Some(vec![11]));
        tell(&tail, many + 1..=many + 4, RECENT_BYTES_MAX / 2);
        assert_eq!(recent(&tail, many + 2, 9), None);
        assert_eq!(recent(&tail, many + 3, 9), Some(vec![many + 4]));
    }

    #[test]
    fn a_tail_is_there_as_long_as_somebody_holds_it() {
        let tails = Tails::default();
        let session = SessionId::from_u128(1);
        let (one, other) = (tails.of(session), tails.of(session));
        assert!(Arc::ptr_eq(&one, &other));
        let mut live = one.listen();
        tails.close(session);
        assert!(live.borrow_and_update().closed);
        drop((one, other));
        assert!(lock(&tails.0).is_empty());
        tails.close(session);
    }
}
