//! What every child of ours does before it is a program of somebody's: between fork and exec, where only what is safe
//! after a fork of a threaded process may be done (bare system calls, no allocation, no locks), or first of all in the
//! launcher of a sandbox.
//!
//! A launcher is in the service's session and process group until then: what the terminal sends the service in that
//! millisecond ends it as well.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::process::{Pid, Resource, Rlimit, Signal, setrlimit};

/// Signals whose "ignore" a child would inherit: all but the real-time ones, which nobody ignores.
const PLAIN_SIGNALS: std::ops::RangeInclusive<i32> = 1..=31;

/// Joins the control group whose list of processes this is.
pub(crate) fn join(door: BorrowedFd<'_>) -> io::Result<()> {
    const US: &[u8] = b"0";
    Ok(rustix::io::write(door, US).map(drop)?)
}

/// Opens a session of its own, and gives back what the server was given of signals and open files.
pub(crate) fn settle(open_files: Rlimit) -> io::Result<()> {
    // A session rather than only a group: tools cannot leave it for ours, and no terminal is in reach,
    // so an agent that asks there gets an error instead of being stopped for ever.
    rustix::process::setsid()?;
    // A disposition of "ignore" (nohup, a shell's `&`) and a blocked signal would make a polite end impossible. The
    // standard library sees to PIPE itself, which it needs ignored in a launcher.
    for signal in PLAIN_SIGNALS.filter(|signal| *signal != libc::SIGPIPE) {
        #[expect(unsafe_code, reason = "rustix has no stable way to set a disposition")]
        // SAFETY: a bare system call that installs no handler. KILL and STOP refuse, which is right.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    unblock_signals()?;
    setrlimit(Resource::Nofile, open_files)?;
    Ok(())
}

fn unblock_signals() -> io::Result<()> {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    #[expect(unsafe_code, reason = "rustix has no stable way to set the mask of signals")]
    // SAFETY: the first call fills the set that the second one reads; both are bare system calls on memory of this frame.
    let result = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks the kernel for a signal when the parent ends, and looks whether it has ended already. Gives false
/// then. The kernel forgets the wish with every change of user.
pub(crate) fn settle_parent_death(server: Pid) -> io::Result<bool> {
    // TERM, not KILL: agents end the tools they started on TERM, and would leave them behind on KILL.
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    // The server may have died before the line above; then no signal will ever come.
    Ok(rustix::process::getppid() == Some(server))
}
