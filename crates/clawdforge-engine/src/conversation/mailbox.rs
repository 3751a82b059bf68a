//! What the owner of a conversation is told.

use std::collections::VecDeque;

use clawdforge_core::event::EventBody;
use clawdforge_core::turn::Turn;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::beginning::Beginning;
use crate::cancels::Cancel;
use crate::hub::Publisher;
use crate::slots::{Slot, Ticket};

/// An order to an owner.
pub(crate) enum Order {
    /// A turn was accepted.
    Turn(Box<Accepted>),
    /// A turn is to begin as it is accepted, if the agent rests.
    Begin(Beginning),
    /// The conversation was opened: its agent may be started in this slot, before there is a turn.
    WarmUp(Slot),
    /// Its app chose another model or effort: the next turn goes by what is on record then.
    Changed,
    /// The conversation was closed; answered once its agent is gone.
    Close(oneshot::Sender<()>),
    /// Somebody who held on to the conversation let go of it.
    Look,
}

/// A turn that was accepted. Its prompt is in the store.
pub(crate) struct Accepted {
    pub turn: Turn,
    /// The prompt as well, where the turn begins at once: of those that wait, memory need not hold it.
    pub prompt: Option<EventBody>,
    /// A place in the queue for slots; whoever found the conversation warm or busy took none.
    pub place: Option<Ticket>,
    pub publisher: Publisher,
    /// Whether it is to be stopped.
    pub cancel: Cancel,
}

/// The receiving end, with what was received and not done yet.
pub(crate) struct Mailbox {
    orders: mpsc::Receiver<Order>,
    /// Turns in the order of their acceptance.
    pub turns: VecDeque<Accepted>,
    /// The agent rests: a turn may begin as it is accepted.
    pub rests: bool,
    /// A turn that came while it did.
    pub beginning: Option<Beginning>,
    /// A slot to start the agent in before there is a turn.
    pub warm_up: Option<Slot>,
    /// What is on record is not what the agent was started with.
    pub changed: bool,
    /// Who waits for the conversation to be closed.
    pub closers: Vec<oneshot::Sender<()>>,
    /// No turn shall be begun any more.
    pub closed: bool,
}

impl Mailbox {
    pub fn new(orders: mpsc::Receiver<Order>) -> Self {
        Self {
            orders,
            turns: VecDeque::new(),
            rests: false,
            beginning: None,
            warm_up: None,
            changed: false,
            closers: Vec::new(),
            closed: false,
        }
    }

    fn put(&mut self, order: Order) {
        match order {
            Order::Turn(accepted) => self.turns.push_back(*accepted),
            Order::Begin(beginning) if self.rests && self.beginning.is_none() => self.beginning = Some(beginning),
            Order::Begin(beginning) => beginning.not_now(),
            Order::WarmUp(slot) => self.warm_up = Some(slot),
            Order::Changed => self.changed = true,
            Order::Close(closer) => {
                self.closed = true;
                self.closers.push(closer);
            }
            Order::Look => {}
        }
    }

    /// Takes in one order, or waits for one. Cancel-safe.
    pub async fn take_in(&mut self) {
        match self.orders.recv().await {
            Some(order) => self.put(order),
            // The registry holds the other end for as long as the owner lives.
            None => std::future::pending().await,
        }
    }

    /// Takes in what is there; true when there is anything to do.
    pub fn take_in_now(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.put(order),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return self.has_work(),
            }
        }
    }

    /// Whether what was taken in holds anything to do.
    pub fn has_work(&self) -> bool {
        !self.turns.is_empty() || !self.closers.is_empty() || self.warm_up.is_some() || self.beginning.is_some()
    }

    /// Takes in orders until the conversation is closed. Cancel-safe.
    pub async fn until_closed(&mut self) {
        while !self.closed {
            self.take_in().await;
        }
    }
}

/// As [`Mailbox::until_closed`]; never where there is no mailbox.
pub(crate) async fn closed(mailbox: &mut Option<Mailbox>) {
    match mailbox {
        Some(mailbox) => mailbox.until_closed().await,
        None => std::future::pending().await,
    }
}
