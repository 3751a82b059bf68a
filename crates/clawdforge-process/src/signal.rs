//! Signals to exactly the process that was meant, and waiting for deaths.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::proc::{self, Key};

/// What became of a signal.
pub(crate) enum Sent {
    /// Delivered; the descriptor tells when the process ends. Without one (no free descriptors) the
    /// caller looks again later.
    Delivered(Option<OwnedFd>),
    /// There is no such process any more.
    Gone,
    /// It exists and may not be signalled by us.
    Refused,
}

/// Signals the process with this number *and* this birth, never one that got the number afterwards.
pub(crate) fn send(key: Key, signal: Signal) -> Sent {
    let Some(pid) = Pid::from_raw(key.pid) else {
        return Sent::Gone;
    };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::SRCH) => return Sent::Gone,
        // Out of descriptors: a plain signal right after the check below is the next best thing.
        Err(_) => None,
    };
    match proc::entry(key.pid) {
        Ok(Some(entry)) if entry.key == key => {}
        Ok(_) => return Sent::Gone,
        Err(_) => return Sent::Refused,
    }
    let sent = match &pidfd {
        Some(pidfd) => pidfd_send_signal(pidfd, signal),
        None => kill_process(pid, signal),
    };
    match sent {
        Ok(()) => Sent::Delivered(pidfd),
        Err(Errno::SRCH) => Sent::Gone,
        Err(_) => Sent::Refused,
    }
}

/// Asks these processes to end and blocks until they have, or the time has passed. How many were asked.
pub(crate) fn terminate(members: &[Key], until: Instant) -> usize {
    let mut asked = 0;
    let mut awaited = Vec::new();
    for key in members {
        if let Sent::Delivered(pidfd) = send(*key, Signal::TERM) {
            asked += 1;
            // A stopped process acts on the signal only when it runs again.
            send(*key, Signal::CONT);
            awaited.extend(pidfd);
        }
    }
    await_deaths(awaited, until);
    asked
}

/// Blocks until all of these processes have ended, or the deadline has passed.
pub(crate) fn await_deaths(mut pidfds: Vec<OwnedFd>, deadline: Instant) {
    while !pidfds.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let mut polled: Vec<PollFd<'_>> = pidfds.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&timespec(left))) {
            Ok(_) | Err(Errno::INTR) => {}
            // Nothing to wait on; the caller's next pass over /proc is the truth anyway.
            Err(_) => return,
        }
        let ended: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ended = ended.into_iter();
        pidfds.retain(|_| !ended.next().unwrap_or(true));
    }
}

fn timespec(duration: Duration) -> Timespec {
    // A whole day is as good as for ever here, and fits every platform's field.
    let duration = duration.min(Duration::from_secs(86_400));
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}
