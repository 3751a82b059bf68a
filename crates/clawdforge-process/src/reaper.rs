//! Ending what a dead server left running.
//!
//! After a crash the trees of the old process are nobody's children. They are found by the mark in their
//! environment, or by a leader that is still the very process that was stored. Nothing else is touched:
//! not a process that got a leader's number later, not this process, not its ancestors.

use std::time::{Duration, Instant};

use crate::identity::TreeIdentity;
use crate::mark::TreeMark;
use crate::proc::{self, Key};
use crate::scope::Scope;
use crate::signal;
use crate::sweep::sweep;

/// How long leftovers may take to end by themselves. Agents end their tools on SIGTERM, the slowest known one within
/// two seconds; but a leader was asked by the kernel already, when its service died, and what does not heed is to be
/// gone three seconds after a start.
const TERMINATE_GRACE_MAX: Duration = Duration::from_millis(1_500);

/// A tree that may have outlived its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The mark it was started with. It must not be in use by a tree that shall live.
    pub mark: TreeMark,
    /// Its leader, if that was stored before the crash.
    pub identity: Option<TreeIdentity>,
}

/// What ending leftovers came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReapReport {
    /// Processes that were running and are gone.
    pub ended: usize,
    /// Processes that are still there.
    pub survivors: usize,
}

/// Ends the trees of a dead server: SIGTERM to every process found, a short grace (1.5 s, half of
/// `deadline` at most), then SIGKILL until none is left or `deadline` has passed.
///
/// Returns at once when nothing is left. To be called inside a Tokio runtime, before new trees are made.
pub async fn end_leftovers(leftovers: &[Leftover], deadline: Duration) -> ReapReport {
    if leftovers.is_empty() {
        return ReapReport::default();
    }
    let leftovers = leftovers.to_vec();
    let ended = tokio::task::spawn_blocking(move || end_all(&leftovers, deadline)).await;
    ended.unwrap_or_else(|error| {
        tracing::error!(error = %error, "could not look for processes of the last server");
        ReapReport { ended: 0, survivors: 1 }
    })
}

fn end_all(leftovers: &[Leftover], deadline: Duration) -> ReapReport {
    let began = Instant::now();
    let marks = leftovers.iter().map(|leftover| leftover.mark.clone()).collect();
    let mut scope = Scope::of_leftovers(leaders_of_this_boot(leftovers), marks);
    let grace = TERMINATE_GRACE_MAX.min(deadline / 2);
    let asked = match scope.look() {
        Ok(members) => signal::terminate(&members.alive, began + grace),
        // The sweep looks again, and says so when it cannot either.
        Err(error) => {
            tracing::warn!(error = %error, "could not look for processes of the last server");
            0
        }
    };
    let swept = sweep(&mut scope, began + deadline);
    let ended = scope.seen().saturating_sub(swept.survivors);
    let report = ReapReport { ended, survivors: swept.survivors };
    if ended > 0 || swept.survivors > 0 {
        tracing::info!(
            process.asked = asked,
            process.killed = swept.killed,
            process.survivors = swept.survivors,
            duration_ms = began.elapsed().as_millis(),
            "ended processes of the last server"
        );
    }
    report
}

/// Leaders of an earlier boot are gone with it, and their numbers mean others now.
fn leaders_of_this_boot(leftovers: &[Leftover]) -> Vec<Key> {
    let Ok(boot_id) = proc::boot_id() else {
        return Vec::new();
    };
    let stored = leftovers.iter().filter_map(|leftover| leftover.identity.as_ref());
    stored
        .filter(|identity| identity.boot_id == boot_id)
        .map(|identity| Key { pid: identity.pid, start_ticks: identity.start_ticks })
        .collect()
}
