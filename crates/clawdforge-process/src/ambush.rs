//! Killing what forks and ends faster than a pass over `/proc` takes.
//!
//! Whoever such a pass finds has made its successor and ended before a signal can be sent. But the kernel tells for
//! almost nothing which number it gave away last, and in a storm of forks that is the one that has not forked yet. It
//! blocks, and keeps a processor busy while there is somebody to catch.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::proc::{self, Key};
use crate::scope::{Newborn, Scope};
use crate::signal;

/// How long one ambush goes on, as long as it finds members: some thousand generations. Then a whole pass has its turn,
/// which sees what an ambush does not, and may take as long where there are many processes.
const AMBUSH_MAX: Duration = Duration::from_millis(500);

/// How long none of the newest may have been a member until the storm counts as over: many times what a generation
/// takes, also where processors are scarce.
const QUIET_MIN: Duration = Duration::from_millis(10);

/// Numbers that are looked at at once, from the newest back: as many as several storms give away between two looks.
const NUMBERS: i32 = 4;

/// Kills newborn members until there are none for a while; those that were seen.
pub(crate) fn ambush(scope: &mut Scope, deadline: Instant) -> io::Result<Vec<Key>> {
    let now = Instant::now();
    // Cut short by the deadline it would say that it is quiet where nobody listened.
    let until = deadline.max(now + 2 * QUIET_MIN).min(now + AMBUSH_MAX);
    let mut caught = Vec::new();
    let mut settled = 0;
    let mut seen_at = Instant::now();
    while Instant::now() < until && seen_at.elapsed() < QUIET_MIN {
        let newest = proc::newest()?;
        if newest == settled {
            // On a single processor nobody is born while this goes on.
            thread::yield_now();
            continue;
        }
        for number in (newest.saturating_sub(NUMBERS)..=newest).rev().filter(|number| *number > 1) {
            match scope.newborn(number)? {
                Newborn::Stranger if number == newest => settled = newest,
                // A number is given away before its process can be seen.
                Newborn::Stranger | Newborn::Unseen => {}
                Newborn::Member(key) => {
                    seen_at = Instant::now();
                    // One that is gone already has a successor, who is the next.
                    signal::send(key, Signal::KILL);
                    caught.push(key);
                    break;
                }
            }
        }
    }
    Ok(caught)
}
