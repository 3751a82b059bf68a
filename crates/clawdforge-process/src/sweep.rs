//! Ending every member of a scope, however fast it multiplies.
//!
//! Whoever is in a control group of the scope's own is killed at once, before anything else. Then
//! members are stopped until a pass finds no new one (what is stopped neither forks nor loses its
//! children to us), then killed together; and again, until two passes in a row find nobody. Those who are gone
//! whenever they are to be stopped, because each has a successor by then, are caught by an [`ambush`]. It blocks.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ambush::{Caught, ambush};
use crate::proc::{self, Key};
use crate::scope::Scope;
use crate::signal::{self, Sent};

/// How long members may take to be gone after they were killed. The kernel needs milliseconds; only one
/// that hangs in a disk or network file system takes longer, and it may never end.
pub(crate) const SWEEP_WAIT_MAX: Duration = Duration::from_secs(5);

/// Passes that look for new members before killing: each halves what a fork storm can still do; killing
/// what is known ends the rest.
const FREEZE_PASSES_MAX: usize = 8;

/// How long such passes may go on: where there are thousands of processes one takes long enough for a storm to go on.
const FREEZE_WAIT_MAX: Duration = Duration::from_millis(250);

/// How long one round waits for deaths before it looks again.
const ROUND_WAIT_MAX: Duration = Duration::from_millis(250);

/// The rest between rounds when there is nothing to wait on.
const ROUND_PAUSE: Duration = Duration::from_millis(5);

/// Descriptors held at once to wait for deaths, a fraction of the usual 1,024 of a process.
const AWAITED_MAX: usize = 128;

/// What a sweep did.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// Processes that were killed.
    pub killed: usize,
    /// Members that were still there when the time was up.
    pub survivors: usize,
    /// Numbers of members that have ended and may wait to be reaped.
    pub ended: HashSet<i32>,
}

/// Kills all members, until none is left or the deadline has passed.
pub(crate) fn sweep(scope: &mut Scope, deadline: Instant) -> Swept {
    let mut killed = HashSet::new();
    let mut ended = HashSet::new();
    let mut quiet_before = false;
    let at_once = scope.kill_group();
    let survivors = loop {
        let late = Instant::now() >= deadline;
        match freeze(scope, &mut ended) {
            Ok(Frozen { alive, outrun }) => {
                let seen = alive.len();
                kill(&alive, deadline);
                killed.extend(alive);
                // Where it cannot look, neither can the next pass, which says so.
                let caught = if outrun { ambush(scope, deadline).unwrap_or_default() } else { Caught::nobody() };
                let is_quiet = seen == 0 && caught.is_quiet && caught.members.is_empty();
                killed.extend(caught.members);
                // One quiet pass after a kill may have looked past somebody who was just being born.
                if is_quiet && (quiet_before || killed.is_empty()) {
                    break 0;
                }
                if late && !is_quiet {
                    break seen.max(1);
                }
                quiet_before = is_quiet;
            }
            Err(error) if late => {
                tracing::error!(error = %error, "could not see which processes are left of a tree");
                break 1;
            }
            // Out of descriptors or memory, most likely; both come back.
            Err(_) => thread::sleep(ROUND_PAUSE),
        }
    };
    ended.extend(killed.iter().map(|key| key.pid));
    Swept { killed: at_once + killed.len(), survivors, ended }
}

/// Members that were stopped, as far as they were there to be.
struct Frozen {
    alive: Vec<Key>,
    /// There may be more: some were gone before they could be stopped, or processes were born during the last pass,
    /// which has then not seen everybody.
    outrun: bool,
}

/// Stops members until no new one turns up, or until they turn out to be faster.
fn freeze(scope: &mut Scope, ended: &mut HashSet<i32>) -> io::Result<Frozen> {
    let mut stopped = HashSet::new();
    let mut frozen = Frozen { alive: Vec::new(), outrun: false };
    let until = Instant::now() + FREEZE_WAIT_MAX;
    for _ in 0..FREEZE_PASSES_MAX {
        let newest = proc::newest()?;
        let members = scope.look()?;
        frozen.outrun = members.missed || proc::newest()? != newest;
        if !scope.reap_now(&members.ended) {
            ended.extend(members.ended);
        }
        frozen.alive = members.alive;
        let mut any_new = false;
        let mut any_gone = false;
        for key in &frozen.alive {
            if stopped.insert(*key) {
                any_new = true;
                // Whether it worked does not matter otherwise: the kill that follows is what counts.
                any_gone |= matches!(signal::send(*key, Signal::STOP), Sent::Gone);
            }
        }
        if any_gone || (any_new && Instant::now() >= until) {
            frozen.outrun = true;
            break;
        }
        if !any_new {
            break;
        }
    }
    Ok(frozen)
}

fn kill(members: &[Key], deadline: Instant) {
    let mut awaited: Vec<OwnedFd> = Vec::new();
    for key in members {
        if let Sent::Delivered(Some(pidfd)) = signal::send(*key, Signal::KILL)
            && awaited.len() < AWAITED_MAX
        {
            awaited.push(pidfd);
        }
    }
    if members.is_empty() {
        return;
    }
    if awaited.is_empty() {
        thread::sleep(ROUND_PAUSE);
    } else {
        signal::await_deaths(awaited, deadline.min(Instant::now() + ROUND_WAIT_MAX));
    }
}
