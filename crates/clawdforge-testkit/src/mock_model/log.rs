//! What arrived, what is wrong with it, and how far things are.
//!
//! Invariant: a request is in the log before `turn_requests` counts it, so who waits for the counter finds it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{ModelRequest, check};

/// How many requests are kept; older ones are forgotten. An agent's request is some 50 kB, so this bounds a
/// benchmark to a few hundred megabytes.
pub const REQUESTS_KEPT_MAX: usize = 1024;

/// How far things are, for those who wait.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// Requests of turns since the start.
    pub(super) turn_requests: u64,
    /// Replies being sent.
    pub(super) open_replies: usize,
}

pub(super) struct RequestLog {
    kept: Mutex<Kept>,
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct Kept {
    arrived: u64,
    requests: VecDeque<ModelRequest>,
    others: VecDeque<String>,
    violations: VecDeque<String>,
}

impl RequestLog {
    pub(super) fn new() -> Self {
        Self { kept: Mutex::default(), progress: watch::channel(Progress::default()).0 }
    }

    /// Checks and records a request to `/v1/messages`; returns its number, from 1.
    pub(super) fn record(&self, request: ModelRequest) -> u64 {
        let of_a_turn = !request.is_side_request();
        let broken = check::violations(&request);
        let number = {
            let mut kept = self.kept();
            kept.arrived += 1;
            let number = kept.arrived;
            for rule in broken {
                keep(&mut kept.violations, format!("request {number}: {rule}"));
            }
            keep(&mut kept.requests, request);
            number
        };
        if of_a_turn {
            self.progress.send_modify(|now| now.turn_requests += 1);
        }
        number
    }

    /// Records a request to anything else.
    pub(super) fn record_other(&self, line: String) {
        keep(&mut self.kept().others, line);
    }

    pub(super) fn requests(&self) -> Vec<ModelRequest> {
        self.kept().requests.iter().cloned().collect()
    }

    pub(super) fn others(&self) -> Vec<String> {
        self.kept().others.iter().cloned().collect()
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.kept().violations.iter().cloned().collect()
    }

    pub(super) fn forget(&self) {
        let mut kept = self.kept();
        kept.requests.clear();
        kept.others.clear();
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(super) fn now(&self) -> Progress {
        *self.progress.borrow()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reply that is being sent; ends with its drop, however that comes about.
pub(super) struct OpenReply {
    shared: Arc<super::Shared>,
}

impl OpenReply {
    pub(super) fn new(shared: Arc<super::Shared>) -> Self {
        shared.log.progress.send_modify(|now| now.open_replies += 1);
        Self { shared }
    }

    /// Turns true when the model is dropped.
    pub(super) fn stopped(&self) -> watch::Receiver<bool> {
        self.shared.stop.subscribe()
    }
}

impl Drop for OpenReply {
    fn drop(&mut self) {
        self.shared.log.progress.send_modify(|now| now.open_replies -= 1);
    }
}

fn keep<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == REQUESTS_KEPT_MAX {
        list.pop_front();
    }
    list.push_back(item);
}
