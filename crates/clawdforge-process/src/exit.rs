//! Noticing the end of a leader without reaping it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How a tree's leader ended: with a code, by a signal, or (both absent) in a way nobody could see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExitReport {
    /// The code it exited with.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
}

/// Notices the end of a tree's leader, for somebody who does not have the [`Tree`](crate::Tree) itself.
#[derive(Debug)]
pub struct LeaderWatch(ExitWatch);

impl LeaderWatch {
    pub(crate) fn start(leader: Pid) -> io::Result<Self> {
        ExitWatch::start(leader).map(Self)
    }

    /// Waits for the leader's end. Cancel safe; may be called again.
    pub async fn exited(&mut self) -> ExitReport {
        self.0.exited().await
    }

    /// Whether it has ended. Never blocks.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.seen.is_some() || peek(self.0.pidfd.get_ref()).is_some()
    }
}

/// Watches one unreaped child.
#[derive(Debug)]
pub(crate) struct ExitWatch {
    pidfd: AsyncFd<OwnedFd>,
    seen: Option<ExitReport>,
}

impl ExitWatch {
    /// Must run inside a runtime, on a child that nobody reaps.
    pub(crate) fn start(child: Pid) -> io::Result<Self> {
        let pidfd = pidfd_open(child, PidfdFlags::empty())?;
        #[expect(unsafe_code, reason = "the safe constructor is deprecated; it cannot know who owns a descriptor")]
        // SAFETY: `OwnedFd` owns an open descriptor, keeps it open and names the same one until it is
        // dropped, which is with the `AsyncFd` that owns it.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        Ok(Self { pidfd, seen: None })
    }

    /// The exit, if it has happened. Never blocks.
    pub(crate) fn now(&mut self) -> Option<ExitReport> {
        if self.seen.is_none() {
            self.seen = peek(self.pidfd.get_ref());
        }
        self.seen
    }

    /// Waits for the exit. Cancel safe.
    pub(crate) async fn exited(&mut self) -> ExitReport {
        loop {
            if let Some(exit) = self.now() {
                return exit;
            }
            let Ok(mut ready) = self.pidfd.readable().await else {
                // The runtime is shutting down and will not poll this again.
                return std::future::pending().await;
            };
            // Readiness is cleared only after a look that came later, so no end falls between.
            if peek(self.pidfd.get_ref()).is_none() {
                ready.clear_ready();
            }
        }
    }
}

/// How the process ended, if it has, leaving it unreaped.
fn peek(pidfd: &OwnedFd) -> Option<ExitReport> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Ok(status) => status.as_ref().map(report),
        // Somebody else of this process took the exit; it is over all the same.
        Err(Errno::CHILD) => Some(ExitReport::default()),
        Err(_) => None,
    }
}

fn report(status: &WaitIdStatus) -> ExitReport {
    ExitReport { code: status.exit_status(), signal: status.terminating_signal() }
}
