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
/// takes.
const QUIET_MIN: Duration = Duration::from_millis(10);

/// Looks that it takes besides: where processors are scarce, most of that time may pass while others have them.
const QUIET_LOOKS_MIN: u32 = 2 * LOOKS_PER_YIELD;

/// Looks after which somebody else may have this processor: where it is the only one, nobody is born meanwhile.
const LOOKS_PER_YIELD: u32 = 8;

/// Numbers that are looked at at once, from the newest back: as many as several storms give away between two looks.
const NUMBERS: i32 = 4;

/// What came of an ambush.
#[derive(Debug, Default)]
pub(crate) struct Caught {
    /// The members that were seen.
    pub members: Vec<Key>,
    /// Whether there were none for a while. If not, its time was up before.
    pub is_quiet: bool,
}

impl Caught {
    /// Where there was nobody to catch.
    pub(crate) fn nobody() -> Self {
        Self { members: Vec::new(), is_quiet: true }
    }
}

/// How long no member was seen: time that went by, and looks that were taken.
struct Silence {
    since: Instant,
    looks: u32,
}

impl Silence {
    fn from(now: Instant) -> Self {
        Self { since: now, looks: 0 }
    }

    fn is_enough(&self, now: Instant) -> bool {
        self.looks >= QUIET_LOOKS_MIN && now.duration_since(self.since) >= QUIET_MIN
    }
}

/// Kills newborn members until there are none for a while.
pub(crate) fn ambush(scope: &mut Scope, deadline: Instant) -> io::Result<Caught> {
    let began = Instant::now();
    // Cut short by the deadline it would have no time to listen.
    let until = deadline.max(began + 2 * QUIET_MIN).min(began + AMBUSH_MAX);
    let mut caught = Caught::default();
    let mut settled = 0;
    let mut silence = Silence::from(began);
    loop {
        let now = Instant::now();
        caught.is_quiet = silence.is_enough(now);
        if caught.is_quiet || now >= until {
            return Ok(caught);
        }
        silence.looks += 1;
        let newest = proc::newest()?;
        if newest == settled {
            if silence.looks.is_multiple_of(LOOKS_PER_YIELD) {
                thread::yield_now();
            }
            continue;
        }
        for number in (newest.saturating_sub(NUMBERS)..=newest).rev().filter(|number| *number > 1) {
            match scope.newborn(number)? {
                Newborn::Stranger if number == newest => settled = newest,
                // A number is given away before its process can be seen.
                Newborn::Stranger | Newborn::Unseen => {}
                Newborn::Member(key) => {
                    silence = Silence::from(Instant::now());
                    // One that is gone already has a successor, who is the next.
                    signal::send(key, Signal::KILL);
                    caught.members.push(key);
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_nobody_looked_is_no_silence_and_looks_in_no_time_are_none_either() {
        let began = Instant::now();
        let silence = |looks| Silence { since: began, looks };
        assert!(!silence(QUIET_LOOKS_MIN - 1).is_enough(began + 100 * QUIET_MIN));
        assert!(!silence(100 * QUIET_LOOKS_MIN).is_enough(began + QUIET_MIN / 2));
        assert!(silence(QUIET_LOOKS_MIN).is_enough(began + QUIET_MIN));
    }
}
