//! Which life of the service a process belongs to: each is started with its number in the environment, and so
//! are its agents and whatever they start.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::app::{Setup, processes_in};

/// The variable with the number.
const LIFE: &str = "CRASH_LIFE";

/// A service that marks what it starts as belonging to this life.
#[must_use]
pub fn marked(setup: &Setup, life: u64) -> Setup {
    // The service itself as well: what it has forked is of its life before it is the agent's.
    setup.clone().env(LIFE, life.to_string()).config(format!("[agents.demo.env]\n{LIFE} = \"{life}\"\n"))
}

/// The processes at work in directories of this service.
#[derive(Debug, Default)]
pub struct Census {
    /// How many belong to this life.
    pub own: u64,
    /// Those of an earlier one, or that nobody marked.
    pub earlier: Vec<i32>,
}

/// Counts them.
#[must_use]
pub fn census(data_dir: &Path, life: u64) -> Census {
    let mut census = Census::default();
    for pid in processes_in(data_dir) {
        match life_of(pid) {
            Some(found) if found == life => census.own += 1,
            Some(_) => census.earlier.push(pid),
            None => {}
        }
    }
    census
}

/// Ends what should not have been there any more, once it is on the list of faults: it would stay on the machine.
pub fn end(left: &[i32]) {
    for pid in left.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        // Where it has ended by itself by now, all the better.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The life of a process, 0 where it has no mark; none where it is gone.
fn life_of(pid: i32) -> Option<u64> {
    // The environment of one that is just ending reads as empty.
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok().filter(|bytes| !bytes.is_empty())?;
    let mut variables = environment.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
    Some(variables.find_map(|entry| entry.strip_prefix(LIFE)?.strip_prefix('=')?.parse().ok()).unwrap_or(0))
}
