//! Capacity, and fairness between apps.
//!
//! A slot is the permission to run one agent process tree. Who finds none free waits in the queue of
//! its app. A slot that becomes free goes to the waiting app that has the fewest slots in use, and
//! among equals to the one served longest ago: an app that floods the service waits behind its own
//! work, not in front of everybody else's.
//!
//! A conversation keeps its slot between its turns, as long as nobody waits for one: then the idle
//! conversation that was used longest ago is asked to give its slot up. Conversations leave the last
//! slot to other apps.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clawdforge_core::id::AppId;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

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

/// What a slot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A run, which ends.
    Run,
    /// A conversation, which may keep its slot.
    Conversation,
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
    /// Grows with every grant and every rest; tells who was served, or used, longest ago.
    clock: u64,
    apps: HashMap<AppId, AppState>,
    /// Slots that are kept without being in use, the one used longest ago first.
    resting: BTreeMap<u64, (AppId, CancellationToken)>,
}

#[derive(Default)]
struct AppState {
    used: usize,
    served_at: u64,
    queue: VecDeque<Waiter>,
}

struct Waiter {
    what_for: Use,
    sender: oneshot::Sender<Slot>,
}

/// A place in the pool: a slot, or the promise of one.
pub enum Ticket {
    /// A slot was free.
    Ready(Slot),
    /// One will come. Dropping the ticket gives the place up.
    Waiting(oneshot::Receiver<Slot>),
}

/// The slot that was waited for; `None` where the service stops, also where the two come together: whoever began then
/// would most likely be interrupted, and can begin after the next start. Dropped, it gives the place up.
pub(crate) async fn granted(waiting: oneshot::Receiver<Slot>, stopping: &CancellationToken) -> Option<Slot> {
    // Whichever branch is dropped, nothing is lost: a slot in a receiver that is dropped goes back to the pool.
    tokio::select! {
        biased;
        () = stopping.cancelled() => None,
        slot = waiting => slot.ok(),
    }
}

/// Permission to run one agent process tree; given back on drop.
pub struct Slot {
    /// Empty once the slot was given back by hand.
    pool: Option<Arc<Shared>>,
    app: AppId,
}

/// A slot that is kept without being in use. Dropping it ends the rest, not the slot.
pub struct Rest {
    pool: Arc<Shared>,
    place: u64,
    wanted: CancellationToken,
    /// Whoever rests has heard that the slot is wanted, and gives it up.
    heard: AtomicBool,
}

impl Slots {
    /// A pool with these bounds.
    pub fn new(limits: SlotLimits) -> Self {
        Self { shared: Arc::new(Shared { limits, state: Mutex::default() }) }
    }

    /// Takes a slot or a place in the queue, or says that both are full.
    pub fn admit(&self, app: AppId, what_for: Use) -> Result<Ticket, EngineError> {
        let limits = self.shared.limits;
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let busy = |reason| EngineError::Busy { reason, retry_after: BUSY_RETRY_AFTER };
        if state.used < limits.slots && state.may_take(app, what_for, limits.slots) {
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
        Ok(state.wait(app, what_for, limits.slots))
    }

    /// Takes a slot for a conversation to come, if one is free and nobody waits.
    pub fn take_free(&self, app: AppId) -> Option<Slot> {
        let slots = self.shared.limits.slots;
        let mut state = self.shared.lock();
        if state.waiting > 0 || state.used >= slots || !state.may_take(app, Use::Conversation, slots) {
            return None;
        }
        state.grant(app);
        drop(state);
        Some(self.shared.slot(app))
    }

    /// Takes a slot or a place in the queue for a turn that was accepted already, however long the queue is.
    pub fn admit_promised(&self, app: AppId) -> Ticket {
        let slots = self.shared.limits.slots;
        let mut guard = self.shared.lock();
        if guard.used < slots && guard.may_take(app, Use::Conversation, slots) {
            guard.grant(app);
            drop(guard);
            return Ticket::Ready(self.shared.slot(app));
        }
        guard.wait(app, Use::Conversation, slots)
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
            let Some((next, sender)) = self.lock().hand_on(from, self.limits.slots) else { return };
            let Err(mut refused) = sender.send(self.slot(next)) else { return };
            refused.pool = None;
            from = next;
        }
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Whether the app may have one more slot for this. Conversations may last; they leave the last slot
    /// to others, where there is more than one.
    fn may_take(&self, app: AppId, what_for: Use, slots: usize) -> bool {
        what_for == Use::Run || slots < 2 || self.apps.get(&app).is_none_or(|entry| entry.used + 1 < slots)
    }

    fn grant(&mut self, app: AppId) {
        self.used += 1;
        let served_at = self.tick();
        let entry = self.apps.entry(app).or_default();
        entry.used += 1;
        entry.served_at = served_at;
    }

    /// A place in the queue; somebody who rests is asked to make room.
    fn wait(&mut self, app: AppId, what_for: Use, slots: usize) -> Ticket {
        let (sender, receiver) = oneshot::channel();
        self.apps.entry(app).or_default().queue.push_back(Waiter { what_for, sender });
        self.waiting += 1;
        self.ask_for_room(|state, owner| state.would_help(owner, app, what_for, slots));
        Ticket::Waiting(receiver)
    }

    /// Asks whoever rests longest, of those whose slot would help, to give it up.
    fn ask_for_room(&mut self, helps: impl Fn(&Self, AppId) -> bool) {
        let longest = self.resting.iter().find(|(_, (owner, _))| helps(self, *owner)).map(|(place, _)| *place);
        if let Some((_, wanted)) = longest.and_then(|place| self.resting.remove(&place)) {
            wanted.cancel();
        }
    }

    /// Whether a slot of one app would be of use to another that waits, or to itself: where the waiting app's own
    /// share is used up, only a slot of its own is.
    fn would_help(&self, owner: AppId, app: AppId, what_for: Use, slots: usize) -> bool {
        owner == app || self.may_take(app, what_for, slots)
    }

    /// Whether anybody who still waits could have this app's slot.
    fn is_wanted(&self, owner: AppId, slots: usize) -> bool {
        self.waiting > 0
            && self.apps.iter().any(|(app, entry)| {
                let waits = |waiter: &Waiter| {
                    !waiter.sender.is_closed() && self.would_help(owner, *app, waiter.what_for, slots)
                };
                entry.queue.iter().any(waits)
            })
    }

    fn waiting_of(&self, app: AppId) -> usize {
        self.apps.get(&app).map_or(0, |entry| entry.queue.len())
    }

    /// Drops waiters that have given up, so that they do not keep others out.
    fn forget_gone(&mut self) {
        for entry in self.apps.values_mut() {
            entry.queue.retain(|waiter| !waiter.sender.is_closed());
        }
        self.apps.retain(|_, entry| entry.used > 0 || !entry.queue.is_empty());
        self.waiting = self.apps.values().map(|entry| entry.queue.len()).sum();
    }

    /// Gives a slot back and picks who gets it.
    fn hand_on(&mut self, from: AppId, slots: usize) -> Option<(AppId, oneshot::Sender<Slot>)> {
        self.used -= 1;
        if let Some(entry) = self.apps.get_mut(&from) {
            entry.used -= 1;
            if entry.used == 0 && entry.queue.is_empty() {
                self.apps.remove(&from);
            }
        }
        let next_of = |app: AppId, entry: &AppState| {
            entry.queue.iter().position(|waiter| self.may_take(app, waiter.what_for, slots))
        };
        let (next, place) = self
            .apps
            .iter()
            .filter_map(|(app, entry)| Some((*app, next_of(*app, entry)?, (entry.used, entry.served_at))))
            .min_by_key(|(_, _, order)| *order)
            .map(|(app, place, _)| (app, place))?;
        let waiter = self.apps.get_mut(&next)?.queue.remove(place)?;
        self.waiting -= 1;
        self.grant(next);
        Some((next, waiter.sender))
    }
}

impl Slot {
    /// Keeps the slot without using it, until somebody else needs one.
    pub fn rest(&self) -> Option<Rest> {
        let pool = Arc::clone(self.pool.as_ref()?);
        let wanted = CancellationToken::new();
        let mut state = pool.lock();
        let place = state.tick();
        if state.is_wanted(self.app, pool.limits.slots) {
            wanted.cancel();
        } else {
            state.resting.insert(place, (self.app, wanted.clone()));
        }
        drop(state);
        Some(Rest { pool, place, wanted, heard: AtomicBool::new(false) })
    }
}

impl Rest {
    /// Resolves when somebody else needs the slot.
    pub async fn wanted(&self) {
        self.wanted.cancelled().await;
        self.heard.store(true, Ordering::Relaxed);
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.resting.remove(&self.place);
        if self.wanted.is_cancelled() && !self.heard.load(Ordering::Relaxed) {
            // It was asked, and went back to work instead: whoever waits would wait for that work to end.
            let slots = self.pool.limits.slots;
            state.ask_for_room(|state, owner| state.is_wanted(owner, slots));
        }
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
        let first = ready(slots.admit(app(1), Use::Run).unwrap());
        let mut second = slots.admit(app(1), Use::Run).unwrap();
        assert!(waits(&mut second));
        assert!(
            matches!(slots.admit(app(1), Use::Run), Err(EngineError::Busy { reason, .. }) if reason.contains("this app's"))
        );
        let third = slots.admit(app(2), Use::Run).unwrap();
        assert!(
            matches!(slots.admit(app(3), Use::Run), Err(EngineError::Busy { reason, .. }) if reason.contains("the queue"))
        );
        drop(first);
        drop(ready(third));
        drop(ready(second));
        assert_eq!(slots.load(), (0, 0));
    }

    #[tokio::test]
    async fn a_slot_that_becomes_free_as_the_service_stops_is_given_to_nobody() {
        let slots = pool(1, 2, 2);
        let stopping = CancellationToken::new();
        let first = ready(slots.admit(app(1), Use::Run).unwrap());
        let [second, third] = [(); 2].map(|()| match slots.admit_promised(app(1)) {
            Ticket::Waiting(waiting) => waiting,
            Ticket::Ready(_) => unreachable!("the pool is full"),
        });
        drop(first);
        assert!(granted(second, &stopping).await.is_some(), "the next has it, and gives it back");
        stopping.cancel();
        assert!(granted(third, &stopping).await.is_none());
        assert_eq!(slots.load(), (0, 0));
    }

    #[test]
    fn an_app_that_floods_does_not_delay_another() {
        let slots = pool(2, 100, 100);
        let first = ready(slots.admit(app(1), Use::Run).unwrap());
        let _second = ready(slots.admit(app(1), Use::Run).unwrap());
        let mut flood: Vec<Ticket> = (0..10).map(|_| slots.admit(app(1), Use::Run).unwrap()).collect();
        let modest = slots.admit(app(2), Use::Run).unwrap();
        drop(first);
        let modest = ready(modest);
        assert!(flood.iter_mut().all(waits), "the flooding app has a slot in use, the other had none");
        drop(modest);
        drop(ready(flood.remove(0)));
    }

    #[test]
    fn apps_with_equal_use_take_turns() {
        let slots = pool(1, 100, 100);
        let mut holder = ready(slots.admit(app(1), Use::Run).unwrap());
        let mut tickets: Vec<(u8, Ticket)> = Vec::new();
        for round in [1, 1, 1, 2, 2, 2] {
            tickets.push((round, slots.admit(app(round), Use::Run).unwrap()));
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
        let first = ready(slots.admit(app(1), Use::Run).unwrap());
        drop(slots.admit(app(1), Use::Run).unwrap());
        drop(slots.admit(app(1), Use::Run).unwrap());
        let patient = slots.admit(app(2), Use::Run).expect("nobody waits any more");
        assert_eq!(slots.load(), (1, 1));
        drop(first);
        drop(ready(patient));
    }

    #[test]
    fn a_long_queue_that_gave_up_is_passed_over_on_a_small_stack() {
        const GONE: usize = 50_000;
        let pass_over = || {
            let slots = pool(1, GONE + 1, GONE + 1);
            let first = ready(slots.admit(app(1), Use::Run).unwrap());
            for _ in 0..GONE {
                drop(slots.admit(app(2), Use::Run).unwrap());
            }
            let patient = slots.admit(app(1), Use::Run).unwrap();
            drop(first);
            drop(ready(patient));
            assert_eq!(slots.load(), (0, 0));
        };
        std::thread::Builder::new().stack_size(256 * 1024).spawn(pass_over).unwrap().join().unwrap();
    }

    #[test]
    fn a_waiter_that_gives_up_loses_nobody_a_slot() {
        let slots = pool(1, 10, 2);
        let first = ready(slots.admit(app(1), Use::Run).unwrap());
        drop(slots.admit(app(1), Use::Run).unwrap());
        drop(slots.admit(app(1), Use::Run).unwrap());
        let patient = slots.admit(app(1), Use::Run).unwrap();
        drop(first);
        drop(ready(patient));
        assert_eq!(slots.load(), (0, 0));
        // Given up between the grant and the look: the slot comes back by the drop of the ticket.
        let first = ready(slots.admit(app(1), Use::Run).unwrap());
        let late = slots.admit(app(2), Use::Run).unwrap();
        drop(first);
        drop(late);
        assert_eq!(slots.load(), (0, 0));
    }

    fn rest_of(slot: &Slot) -> Rest {
        slot.rest().expect("the slot was not given back")
    }

    fn is_wanted(rest: &Rest) -> bool {
        rest.wanted.is_cancelled()
    }

    #[test]
    fn who_rests_longest_is_asked_first_and_only_when_somebody_waits() {
        let slots = pool(3, 10, 10);
        let first = ready(slots.admit(app(1), Use::Conversation).unwrap());
        let second = ready(slots.admit(app(2), Use::Conversation).unwrap());
        let (second_rest, first_rest) = (rest_of(&second), rest_of(&first));
        let third = ready(slots.admit(app(3), Use::Conversation).unwrap());
        assert!(!is_wanted(&first_rest) && !is_wanted(&second_rest), "there was room");
        let waiting = slots.admit(app(4), Use::Run).unwrap();
        assert!(is_wanted(&second_rest) && !is_wanted(&first_rest));
        assert!(is_wanted(&rest_of(&third)), "somebody waits still");
        drop((second_rest, second));
        drop(ready(waiting));
        drop(first_rest);
        let waiting = slots.admit(app(4), Use::Run).unwrap();
        drop(ready(waiting));
        drop((first, third));
        assert_eq!(slots.load(), (0, 0));
    }

    #[tokio::test]
    async fn who_is_asked_and_goes_back_to_work_has_the_next_one_asked() {
        let slots = pool(2, 10, 10);
        let first = ready(slots.admit(app(1), Use::Conversation).unwrap());
        let second = ready(slots.admit(app(2), Use::Conversation).unwrap());
        let (first_rest, second_rest) = (rest_of(&first), rest_of(&second));
        let waiting = slots.admit(app(3), Use::Run).unwrap();
        assert!(is_wanted(&first_rest) && !is_wanted(&second_rest));
        // A turn came before it heard of that.
        drop(first_rest);
        assert!(is_wanted(&second_rest));
        second_rest.wanted().await;
        drop((second_rest, second));
        drop((ready(waiting), first));
        assert_eq!(slots.load(), (0, 0));
    }

    #[tokio::test]
    async fn who_hears_that_the_slot_is_wanted_has_nobody_else_asked() {
        let slots = pool(2, 10, 10);
        let first = ready(slots.admit(app(1), Use::Conversation).unwrap());
        let second = ready(slots.admit(app(2), Use::Conversation).unwrap());
        let (first_rest, second_rest) = (rest_of(&first), rest_of(&second));
        let waiting = slots.admit(app(3), Use::Run).unwrap();
        first_rest.wanted().await;
        drop(first_rest);
        assert!(!is_wanted(&second_rest), "one slot is enough");
        drop(first);
        drop((ready(waiting), second_rest, second));
    }

    #[test]
    fn nobody_gives_up_a_slot_that_no_waiter_may_have() {
        let slots = pool(3, 10, 10);
        let _own = [(); 2].map(|()| ready(slots.admit(app(1), Use::Conversation).unwrap()));
        let other = ready(slots.admit(app(2), Use::Conversation).unwrap());
        let before = rest_of(&other);
        let mut flood = slots.admit(app(1), Use::Conversation).unwrap();
        assert!(waits(&mut flood));
        assert!(!is_wanted(&before), "the app has its share");
        drop(before);
        assert!(!is_wanted(&rest_of(&other)), "neither is the next rest disturbed");
        // A waiter that has given up wants nothing.
        drop(slots.admit(app(3), Use::Run).unwrap());
        assert!(!is_wanted(&rest_of(&other)));
    }

    #[test]
    fn conversations_of_one_app_leave_the_last_slot_to_others() {
        let slots = pool(2, 10, 10);
        let first = ready(slots.admit(app(1), Use::Conversation).unwrap());
        let rest = rest_of(&first);
        let mut second = slots.admit(app(1), Use::Conversation).unwrap();
        assert!(waits(&mut second), "the last slot is for others");
        assert!(is_wanted(&rest), "its own slot that rests is what it can have");
        let other = ready(slots.admit(app(2), Use::Conversation).unwrap());
        drop(other);
        assert!(waits(&mut second), "a slot of others does not help it");
        drop((rest, first));
        drop(ready(second));
        assert_eq!(slots.load(), (0, 0));
        // Where there is only one slot, somebody has to have it.
        drop(ready(pool(1, 1, 1).admit(app(1), Use::Conversation).unwrap()));
    }

    #[test]
    fn a_run_passes_a_conversation_that_may_not_have_the_last_slot() {
        let slots = pool(2, 10, 10);
        let first = ready(slots.admit(app(1), Use::Conversation).unwrap());
        let other = ready(slots.admit(app(2), Use::Run).unwrap());
        let mut conversation = slots.admit(app(1), Use::Conversation).unwrap();
        let run = slots.admit(app(1), Use::Run).unwrap();
        drop(other);
        drop(ready(run));
        assert!(waits(&mut conversation));
        drop(first);
        drop(ready(conversation));
        assert_eq!(slots.load(), (0, 0));
    }

    #[test]
    fn what_was_promised_waits_however_long_the_queue_is() {
        let slots = pool(1, 0, 0);
        let first = ready(slots.admit(app(1), Use::Run).unwrap());
        assert!(slots.admit(app(2), Use::Conversation).is_err());
        let promised = slots.admit_promised(app(2));
        drop(first);
        drop(ready(promised));
        assert_eq!(slots.load(), (0, 0));
    }
}
