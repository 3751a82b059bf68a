//! Capacity, and fairness between apps.
//!
//! A slot is the permission to run one agent process tree. Who finds none free waits in the queue of
//! its app. A slot that becomes free goes to the waiting app that has the fewest slots in use, and
//! among equals to the one served longest ago: an app that floods the service waits behind its own
//! work, not in front of everybody else's.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clawdforge_core::id::AppId;
use tokio::sync::oneshot;

use crate::error::EngineError;

/// When a refused caller should come back: about the time a short run takes.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(5);

/// The bounds of a pool.
#[derive(Debug, Clone, Copy)]
pub struct SlotLimits {
    /// Slots in all.
    pub slots: usize,
    /// Waiters in all.
    pub queue_max: usize,
    /// Waiters of one app.
    pub queue_per_app_max: usize,
}

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Slots {
    shared: Arc<Shared>,
}

struct Shared {
    limits: SlotLimits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: usize,
    waiting: usize,
    /// Grows with every grant; tells which app was served longest ago.
    grants: u64,
    apps: HashMap<AppId, AppState>,
}

#[derive(Default)]
struct AppState {
    used: usize,
    served_at: u64,
    queue: VecDeque<oneshot::Sender<Slot>>,
}

/// A place in the pool: a slot, or the promise of one.
pub enum Ticket {
    /// A slot was free.
    Ready(Slot),
    /// One will come. Dropping the ticket gives the place up.
    Waiting(oneshot::Receiver<Slot>),
}

/// Permission to run one agent process tree; given back on drop.
pub struct Slot {
    /// Empty once the slot was given back by hand.
    pool: Option<Arc<Shared>>,
    app: AppId,
}

impl Slots {
    /// A pool with these bounds.
    pub fn new(limits: SlotLimits) -> Self {
        Self { shared: Arc::new(Shared { limits, state: Mutex::default() }) }
    }

    /// Takes a slot or a place in the queue, or says that both are full.
    pub fn admit(&self, app: AppId) -> Result<Ticket, EngineError> {
        let limits = self.shared.limits;
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let busy = |reason| EngineError::Busy { reason, retry_after: BUSY_RETRY_AFTER };
        if state.used < limits.slots {
            state.grant(app);
            drop(guard);
            return Ok(Ticket::Ready(self.shared.slot(app)));
        }
        if state.waiting >= limits.queue_max {
            state.forget_gone();
        }
        if state.waiting >= limits.queue_max {
            return Err(busy("all slots are in use and the queue is full"));
        }
        if state.waiting_of(app) >= limits.queue_per_app_max {
            state.forget_gone();
        }
        if state.waiting_of(app) >= limits.queue_per_app_max {
            return Err(busy("all slots are in use and this app's queue is full"));
        }
        let (sender, receiver) = oneshot::channel();
        state.apps.entry(app).or_default().queue.push_back(sender);
        state.waiting += 1;
        Ok(Ticket::Waiting(receiver))
    }

    /// Slots in use and places taken in the queue.
    pub fn load(&self) -> (usize, usize) {
        let state = self.shared.lock();
        (state.used, state.waiting)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock can leave the counts half done, so a poisoned lock is usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(self: &Arc<Self>, app: AppId) -> Slot {
        Slot { pool: Some(Arc::clone(self)), app }
    }

    /// Gives a slot back and on to who waits. A loop, because a whole queue may have given up: were each
    /// returned slot left to its drop, that queue would be as many calls deep.
    fn give_back(self: &Arc<Self>, mut from: AppId) {
        loop {
            let Some((next, sender)) = self.lock().hand_on(from) else { return };
            let Err(mut refused) = sender.send(self.slot(next)) else { return };
            refused.pool = None;
            from = next;
        }
    }
}

impl State {
    fn grant(&mut self, app: AppId) {
        self.used += 1;
        self.grants += 1;
        let served_at = self.grants;
        let entry = self.apps.entry(app).or_default();
        entry.used += 1;
        entry.served_at = served_at;
    }

    fn waiting_of(&self, app: AppId) -> usize {
        self.apps.get(&app).map_or(0, |entry| entry.queue.len())
    }

    /// Drops waiters that have given up, so that they do not keep others out.
    fn forget_gone(&mut self) {
        for entry in self.apps.values_mut() {
            entry.queue.retain(|sender| !sender.is_closed());
        }
        self.apps.retain(|_, entry| entry.used > 0 || !entry.queue.is_empty());
        self.waiting = self.apps.values().map(|entry| entry.queue.len()).sum();
    }

    /// Gives a slot back and picks who gets it.
    fn hand_on(&mut self, from: AppId) -> Option<(AppId, oneshot::Sender<Slot>)> {
        self.used -= 1;
        if let Some(entry) = self.apps.get_mut(&from) {
            entry.used -= 1;
            if entry.used == 0 && entry.queue.is_empty() {
                self.apps.remove(&from);
            }
        }
        let next = self
            .apps
            .iter()
            .filter(|(_, entry)| !entry.queue.is_empty())
            .min_by_key(|(_, entry)| (entry.used, entry.served_at))
            .map(|(app, _)| *app)?;
        let sender = self.apps.get_mut(&next)?.queue.pop_front()?;
        self.waiting -= 1;
        self.grant(next);
        Some((next, sender))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give_back(self.app);
        }
    }
}

#[cfg(test)]
mod tests {
    use clawdforge_core::time::Timestamp;

    use super::*;

    fn app(number: u8) -> AppId {
        AppId::new(Timestamp::from_micros(0), [number; 10])
    }

    fn pool(slots: usize, queue_max: usize, queue_per_app_max: usize) -> Slots {
        Slots::new(SlotLimits { slots, queue_max, queue_per_app_max })
    }

    fn ready(ticket: Ticket) -> Slot {
        match ticket {
            Ticket::Ready(slot) => slot,
            Ticket::Waiting(mut receiver) => receiver.try_recv().expect("a slot was handed on"),
        }
    }

    fn waits(ticket: &mut Ticket) -> bool {
        match ticket {
            Ticket::Ready(_) => false,
            Ticket::Waiting(receiver) => matches!(receiver.try_recv(), Err(oneshot::error::TryRecvError::Empty)),
        }
    }

    #[test]
    fn a_full_pool_queues_and_a_full_queue_says_when_to_come_back() {
        let slots = pool(1, 2, 1);
        let first = ready(slots.admit(app(1)).unwrap());
        let mut second = slots.admit(app(1)).unwrap();
        assert!(waits(&mut second));
        assert!(matches!(slots.admit(app(1)), Err(EngineError::Busy { reason, .. }) if reason.contains("this app's")));
        let third = slots.admit(app(2)).unwrap();
        assert!(matches!(slots.admit(app(3)), Err(EngineError::Busy { reason, .. }) if reason.contains("the queue")));
        drop(first);
        drop(ready(third));
        drop(ready(second));
        assert_eq!(slots.load(), (0, 0));
    }

    #[test]
    fn an_app_that_floods_does_not_delay_another() {
        let slots = pool(2, 100, 100);
        let first = ready(slots.admit(app(1)).unwrap());
        let _second = ready(slots.admit(app(1)).unwrap());
        let mut flood: Vec<Ticket> = (0..10).map(|_| slots.admit(app(1)).unwrap()).collect();
        let modest = slots.admit(app(2)).unwrap();
        drop(first);
        let modest = ready(modest);
        assert!(flood.iter_mut().all(waits), "the flooding app has a slot in use, the other had none");
        drop(modest);
        drop(ready(flood.remove(0)));
    }

    #[test]
    fn apps_with_equal_use_take_turns() {
        let slots = pool(1, 100, 100);
        let mut holder = ready(slots.admit(app(1)).unwrap());
        let mut tickets: Vec<(u8, Ticket)> = Vec::new();
        for round in [1, 1, 1, 2, 2, 2] {
            tickets.push((round, slots.admit(app(round)).unwrap()));
        }
        let mut order = Vec::new();
        while !tickets.is_empty() {
            drop(holder);
            let at = tickets.iter_mut().position(|(_, ticket)| !still_waits(ticket)).expect("somebody is served");
            let (who, ticket) = tickets.remove(at);
            order.push(who);
            holder = match ticket {
                Ticket::Ready(slot) => slot,
                Ticket::Waiting(_) => unreachable!("still_waits turned it into Ready"),
            };
        }
        assert_eq!(order, [2, 1, 2, 1, 2, 1]);
    }

    fn still_waits(ticket: &mut Ticket) -> bool {
        if let Ticket::Waiting(receiver) = ticket {
            match receiver.try_recv() {
                Ok(slot) => *ticket = Ticket::Ready(slot),
                Err(_) => return true,
            }
        }
        false
    }

    #[test]
    fn waiters_of_another_app_that_gave_up_do_not_keep_the_queue_full() {
        let slots = pool(1, 2, 2);
        let first = ready(slots.admit(app(1)).unwrap());
        drop(slots.admit(app(1)).unwrap());
        drop(slots.admit(app(1)).unwrap());
        let patient = slots.admit(app(2)).expect("nobody waits any more");
        assert_eq!(slots.load(), (1, 1));
        drop(first);
        drop(ready(patient));
    }

    #[test]
    fn a_long_queue_that_gave_up_is_passed_over_on_a_small_stack() {
        const GONE: usize = 50_000;
        let pass_over = || {
            let slots = pool(1, GONE + 1, GONE + 1);
            let first = ready(slots.admit(app(1)).unwrap());
            for _ in 0..GONE {
                drop(slots.admit(app(2)).unwrap());
            }
            let patient = slots.admit(app(1)).unwrap();
            drop(first);
            drop(ready(patient));
            assert_eq!(slots.load(), (0, 0));
        };
        std::thread::Builder::new().stack_size(256 * 1024).spawn(pass_over).unwrap().join().unwrap();
    }

    #[test]
    fn a_waiter_that_gives_up_loses_nobody_a_slot() {
        let slots = pool(1, 10, 2);
        let first = ready(slots.admit(app(1)).unwrap());
        drop(slots.admit(app(1)).unwrap());
        drop(slots.admit(app(1)).unwrap());
        let patient = slots.admit(app(1)).unwrap();
        drop(first);
        drop(ready(patient));
        assert_eq!(slots.load(), (0, 0));
        // Given up between the grant and the look: the slot comes back by the drop of the ticket.
        let first = ready(slots.admit(app(1)).unwrap());
        let late = slots.admit(app(2)).unwrap();
        drop(first);
        drop(late);
        assert_eq!(slots.load(), (0, 0));
    }
}
