//! What every child of ours does before it is a program of somebody's: between fork and exec, where only what is safe
//! after a fork of a threaded process may be done (bare system calls, no allocation, no locks), or first of all in the
//! launcher of a sandbox.

use std::io;
use std::os::fd::RawFd;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Signals whose "ignore" a child would inherit: all but the real-time ones, which nobody ignores, and [`libc::SIGPIPE`],
/// which the standard library sees to at the exec.
const PLAIN_SIGNALS: std::ops::RangeInclusive<i32> = 1..=31;

/// Joins the control group whose list of processes `door` is, opens a session of its own, and keeps nothing of what the
/// server may, or was given, but the standard streams.
pub(crate) fn settle(door: Option<RawFd>, open_files: Rlimit) -> io::Result<()> {
    if let Some(door) = door {
        join(door)?;
    }
    // A session rather than only a group: tools cannot leave it for ours, and no terminal is in reach,
    // so an agent that asks there gets an error instead of being stopped for ever.
    rustix::process::setsid()?;
    // The standard library empties the signal mask; a disposition of "ignore" (nohup, a shell's `&`)
    // would still be inherited and make a polite end impossible.
    for signal in PLAIN_SIGNALS.filter(|signal| *signal != libc::SIGPIPE) {
        #[expect(unsafe_code, reason = "rustix has no stable way to set a disposition")]
        // SAFETY: a bare system call that installs no handler. KILL and STOP refuse, which is right.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    close_inherited_on_exec();
    setrlimit(Resource::Nofile, open_files)?;
    Ok(())
}

/// Keeps descriptors that the server itself inherited (a supervisor's socket, a build tool's pipe) from
/// the child. Our own are closed on exec anyway.
fn close_inherited_on_exec() {
    const FIRST: libc::c_uint = 3;
    #[expect(unsafe_code, reason = "rustix does not offer close_range")]
    // SAFETY: a bare system call on plain numbers; it marks descriptors and closes none. Kernels before
    // 5.11 refuse it, and then the child merely inherits what it would have inherited anyway.
    unsafe {
        libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// Joins the control group whose list of processes this is.
fn join(door: RawFd) -> io::Result<()> {
    const US: &[u8] = b"0";
    #[expect(unsafe_code, reason = "the descriptor is known by its number alone here")]
    // SAFETY: a bare system call on a buffer that lives for ever; whoever called keeps the descriptor open meanwhile.
    let written = unsafe { libc::write(door, US.as_ptr().cast(), US.len()) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
