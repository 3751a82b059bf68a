//! Processes that are left behind, each of a kind that somebody who ends process trees may forget.
//!
//! All of them keep the agent's standard output open, and one file of the workspace with a lock on it: the lock is free
//! when the last of them is gone, however fast their numbers change.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clawdforge_process::sandbox::start_chains;
use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};

use super::LEFT_FILE;

/// How long one of those that fork lives: not as long as a pass over all processes takes, and long enough to leave
/// something of the machine to others.
const GENERATION: Duration = Duration::from_micros(500);

/// How long a process that stops itself may take to be stopped.
const STOPPED_WAIT_MAX: Duration = Duration::from_secs(10);

/// Between two looks whether it is.
const STOPPED_PAUSE: Duration = Duration::from_millis(2);

/// What kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In a session of its own, its parent alive.
    Setsid,
    /// In a session of its own, without a parent, in another folder.
    Daemon,
    /// As it was born, but deaf to polite signals.
    Deaf,
    /// As it was born, and stopped.
    Stopped,
    /// Some that end at once, each after it has made its successor.
    Forking,
}

impl Kind {
    /// The kind of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "setsid" => Self::Setsid,
            "daemon" => Self::Daemon,
            "deaf" => Self::Deaf,
            "stopped" => Self::Stopped,
            "forking" => Self::Forking,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Setsid => "setsid",
            Self::Daemon => "daemon",
            Self::Deaf => "deaf",
            Self::Stopped => "stopped",
            Self::Forking => "forking",
        }
    }

    /// What a shell is to do, which says its number on its error stream and lets go of that. It ends by itself after a
    /// minute: nobody who looks for it needs longer.
    fn script(self) -> Option<&'static str> {
        Some(match self {
            Self::Setsid => "exec setsid sh -c 'echo $$ >&2; exec sleep 60 2>/dev/null'",
            Self::Daemon => "cd /; trap '' HUP; setsid sh -c 'echo $$ >&2; exec sleep 60 2>/dev/null' &",
            Self::Deaf => "trap '' TERM INT HUP; echo $$ >&2; exec sleep 60 2>/dev/null",
            Self::Stopped => "echo $$ >&2; exec 2>/dev/null; kill -STOP $$; exec sleep 60",
            Self::Forking => return None,
        })
    }
}

/// Leaves one, once it is what it is to be, and says so: its kind, and its number where it keeps one.
pub(super) fn leave(kind: Kind, folder: &Path) -> io::Result<String> {
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join(LEFT_FILE))?;
    keep_open(&file)?;
    let said = match kind.script() {
        Some(script) => format!("{} {}", kind.name(), start(kind, script)?),
        None => {
            start_chains(GENERATION)?;
            kind.name().to_owned()
        }
    };
    file.write_all(format!("{said}\n").as_bytes())?;
    Ok(said)
}

/// Has everybody who is started from now on hold the file.
fn keep_open(file: &File) -> io::Result<()> {
    flock(file, FlockOperation::LockShared)?;
    fcntl_setfd(file, FdFlags::empty())?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "this program is the agent, and what it leaves is to have no owner")]
fn start(kind: Kind, script: &str) -> io::Result<i32> {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::inherit())
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = shell.stderr.take().ok_or_else(|| io::Error::other("no error stream"))?;
    let mut said = String::new();
    BufReader::new(stderr).read_line(&mut said)?;
    let pid = said.trim().parse().map_err(|_| io::Error::other(format!("it did not start: {}", said.trim())))?;
    match kind {
        // The shell's end is what makes an orphan of it.
        Kind::Daemon => drop(shell.wait()?),
        Kind::Stopped => wait_for_stop(pid)?,
        Kind::Setsid | Kind::Deaf | Kind::Forking => {}
    }
    Ok(pid)
}

fn wait_for_stop(pid: i32) -> io::Result<()> {
    let began = Instant::now();
    while began.elapsed() < STOPPED_WAIT_MAX {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        if stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')) {
            return Ok(());
        }
        std::thread::sleep(STOPPED_PAUSE);
    }
    Err(io::Error::other("it was not stopped"))
}
