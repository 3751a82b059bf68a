//! Trees that were dropped instead of ended, and the thread that ends them.
//!
//! Each tree holds a place in the thread's queue from birth on, so a drop neither blocks nor fails, and
//! the queue is bounded by the number of live trees.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::{OwnedPermit, Receiver};

use crate::leaders::Leaders;
use crate::proc::Key;
use crate::scope::Scope;
use crate::sweep::{SWEEP_WAIT_MAX, Swept, sweep};

/// Trees alive at once. Far above what a machine can run (an agent takes 0.2 GB), low enough that a
/// leak of trees is an error message instead of an exhausted machine.
pub(crate) const LIVE_TREES_MAX: usize = 1_024;

/// What is left of a tree, or of kin, when its owner is gone.
#[derive(Debug)]
pub(crate) struct Remains {
    /// Kin have none.
    pub leader: Option<Key>,
    pub scope: Scope,
    pub leaders: Arc<Leaders>,
}

impl Remains {
    /// Kills every member and reaps all of them but the leader. Blocks.
    pub(crate) fn sweep(scope: &mut Scope, leader: Option<Key>, leaders: &Leaders) -> Swept {
        let swept = sweep(scope, Instant::now() + SWEEP_WAIT_MAX);
        let ended: Vec<i32> =
            swept.ended.iter().copied().filter(|pid| leader.is_none_or(|leader| leader.pid != *pid)).collect();
        leaders.reap(&ended);
        swept
    }

    fn release(leader: Option<Key>, leaders: &Leaders) {
        match leader {
            Some(leader) => leaders.release(leader.pid),
            None => leaders.release_kin(),
        }
    }
}

/// A tree's place in the queue. Dropped while it holds remains, it sends them there.
#[derive(Debug)]
pub(crate) struct Grave {
    held: Option<(OwnedPermit<Remains>, Remains)>,
}

impl Grave {
    pub(crate) fn new(place: OwnedPermit<Remains>, remains: Remains) -> Self {
        Self { held: Some((place, remains)) }
    }

    /// What is known of the members.
    pub(crate) fn scope(&self) -> Option<&Scope> {
        self.held.as_ref().map(|(_, remains)| &remains.scope)
    }

    /// Keeps what a look has found, for whoever looks next.
    pub(crate) fn remember(&mut self, scope: Scope) {
        if let Some((_, remains)) = &mut self.held {
            remains.scope = scope;
        }
    }

    /// The tree is gone: reaps the leader and gives the place back.
    pub(crate) fn close(mut self) {
        if let Some((_place, Remains { leader, scope, leaders })) = self.held.take() {
            drop(scope);
            Remains::release(leader, &leaders);
        }
    }
}

impl Drop for Grave {
    fn drop(&mut self) {
        if let Some((place, remains)) = self.held.take() {
            place.send(remains);
        }
    }
}

/// Ends what is dropped, one tree after the other, until no tree and no spawner is left.
pub(crate) fn run(mut dropped: Receiver<Remains>) {
    while let Some(Remains { leader, mut scope, leaders }) = dropped.blocking_recv() {
        let swept = Remains::sweep(&mut scope, leader, &leaders);
        // With it its group, before anybody is told that the tree is gone.
        drop(scope);
        Remains::release(leader, &leaders);
        let pid = leader.map(|leader| leader.pid);
        if swept.survivors > 0 {
            tracing::error!(
                process.pid = pid,
                process.survivors = swept.survivors,
                "processes of a dropped tree could not be killed"
            );
        } else if swept.killed > 0 {
            tracing::debug!(process.pid = pid, process.killed = swept.killed, "killed a dropped process tree");
        }
    }
}
