//! Which conversations have an owner, and how to reach it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawdforge_core::id::{AppId, SessionId};
use clawdforge_core::limits::OWNER_ORDERS_MAX;
use clawdforge_core::session::SessionRecord;
use tokio::sync::mpsc;

use super::mailbox::{Mailbox, Order};
use super::owner;
use crate::engine::Shared;

/// The conversations that are warm or have turns.
#[derive(Default)]
pub(crate) struct Registry {
    owned: Mutex<HashMap<SessionId, Arc<Desk>>>,
}

/// What callers and the owner of one conversation share.
pub(crate) struct Desk {
    pub session: SessionId,
    /// Whose conversation it is.
    app: AppId,
    /// Held while a turn is accepted, so that turns are numbered in the order of their acceptance. In it the
    /// conversation as the last acceptance left it: only acceptances change how many turns there are, and a commit
    /// looks itself whether the conversation is open.
    pub accepting: tokio::sync::Mutex<Option<SessionRecord>>,
    /// Accepted turns that are not over.
    pub unfinished: AtomicUsize,
    /// An agent process is there.
    pub warm: AtomicBool,
    /// It rests: it is worth asking the owner whether a turn may begin as it is accepted.
    pub rests: AtomicBool,
    orders: mpsc::Sender<Order>,
    /// Callers at the desk; the owner stays as long as there is one. Changed under the registry's lock.
    callers: AtomicUsize,
}

/// A caller's place at a desk. While it is held, the owner takes orders.
pub(crate) struct Caller {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Desk>>> {
        // An entry is there or not, so a poisoned lock is usable.
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The conversations that have a live agent process.
    pub fn is_warm(&self, session: SessionId) -> bool {
        self.lock().get(&session).is_some_and(|desk| desk.warm.load(Ordering::Relaxed))
    }

    /// Whether a conversation has an owner: then an agent of it may be there, or on its way out.
    pub fn is_owned(&self, session: SessionId) -> bool {
        self.lock().contains_key(&session)
    }

    /// Ends the ownership, if nobody is at the desk and nothing was ordered meanwhile.
    pub fn leave(&self, desk: &Desk, mailbox: &mut Mailbox) -> bool {
        let mut owned = self.lock();
        if desk.callers.load(Ordering::Relaxed) > 0 || mailbox.take_in_now() {
            return false;
        }
        owned.remove(&desk.session);
        true
    }

    /// Ends the ownership of an owner that is gone without having left.
    pub fn forget(&self, desk: &Arc<Desk>) {
        if let Entry::Occupied(entry) = self.lock().entry(desk.session)
            && Arc::ptr_eq(entry.get(), desk)
        {
            entry.remove();
        }
    }
}

impl Shared {
    /// A place at the desk of a conversation, which gets an owner if it has none.
    pub fn call(self: &Arc<Self>, session: SessionId, app: AppId) -> Caller {
        let mut owned = self.registry.lock();
        let desk = match owned.entry(session) {
            Entry::Occupied(entry) => Arc::clone(entry.get()),
            Entry::Vacant(entry) => {
                let (orders, receiver) = mpsc::channel(OWNER_ORDERS_MAX);
                let desk = Arc::new(Desk {
                    session,
                    app,
                    accepting: tokio::sync::Mutex::new(None),
                    unfinished: AtomicUsize::new(0),
                    warm: AtomicBool::new(false),
                    rests: AtomicBool::new(false),
                    orders,
                    callers: AtomicUsize::new(0),
                });
                owner::start(self, Arc::clone(&desk), Mailbox::new(receiver));
                Arc::clone(entry.insert(desk))
            }
        };
        desk.callers.fetch_add(1, Ordering::Relaxed);
        Caller { shared: Arc::clone(self), desk }
    }

    /// A place at the desk of a conversation that has an owner.
    pub fn call_owned(self: &Arc<Self>, session: SessionId) -> Option<Caller> {
        self.call_where(session, |_| true)
    }

    /// As [`Self::call_owned`], where the conversation is this app's. Of one that is not, nothing is touched.
    pub fn call_own(self: &Arc<Self>, session: SessionId, app: AppId) -> Option<Caller> {
        self.call_where(session, |desk| desk.app == app)
    }

    fn call_where(self: &Arc<Self>, session: SessionId, is_it: impl FnOnce(&Desk) -> bool) -> Option<Caller> {
        let owned = self.registry.lock();
        let desk = owned.get(&session).filter(|desk| is_it(desk)).map(Arc::clone)?;
        desk.callers.fetch_add(1, Ordering::Relaxed);
        Some(Caller { shared: Arc::clone(self), desk })
    }
}

impl Caller {
    /// What is shared with the owner.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Gives an order. Where the owner is gone by a fault, whoever waits for an answer hears that.
    pub async fn order(&self, order: Order) {
        if self.desk.orders.send(order).await.is_err() {
            tracing::error!(session.id = %self.desk.session, "the owner of a conversation is gone");
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let owned = self.shared.registry.lock();
        self.desk.callers.fetch_sub(1, Ordering::Relaxed);
        drop(owned);
        // The owner may wait for nothing else. Where its mailbox is full it has something to look at anyway;
        // where it is gone, nobody waits.
        drop(self.desk.orders.try_send(Order::Look));
    }
}
