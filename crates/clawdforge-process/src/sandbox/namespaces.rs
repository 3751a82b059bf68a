//! Namespaces of a process tree's own: of mounts, processes, inter-process communication and the host's name, and, where
//! it is wanted, of the network.
//!
//! Only children are born into a new namespace of processes, and its first process is special: signals that it
//! does not handle pass it by, orphans become its children, and its end is the end of everybody in there. So the
//! launcher becomes three processes:
//!
//! - the *keeper*, which is the leader that the service started and knows. It stays outside, does nothing but
//!   wait, and ends as the program ended;
//! - the *first*, which reaps orphans and passes a polite end on;
//! - the program, leader of a session and a group of its own, as it would be without all this.
//!
//! Whatever a program's descendants do (sessions of their own, double forks, ignored signals), they end with the
//! first. That ends with the program, with the keeper, and thereby with the service.

use std::convert::Infallible;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, WaitOptions, getegid, geteuid, kill_process, kill_process_group, setsid, wait, waitpid,
};
use rustix::thread::{CapabilitySet, capabilities};

/// How long a program whose service has died may take to end by itself.
const ORPHANED_GRACE: Duration = Duration::from_secs(2);

/// Exit code of a process whose program ended in a way that cannot be repeated.
const STRANGE_END: i32 = 126;

/// What is always made.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// The signal by which the keeper tells the first to end the program politely.
const END_IT: Signal = Signal::USR1;

/// One side of the birth of the first.
pub(super) enum Side {
    /// Outside, with the number of the first.
    Keeper(Pid, UnixStream),
    /// Inside.
    First(UnixStream),
}

/// Makes the namespaces and the first process in them. Without the power to do so as it is, this process makes
/// itself a user namespace for it, in which it is the user it was.
pub(super) fn enter(own_network: bool) -> io::Result<Side> {
    let may_mount = capabilities(None)?.effective.contains(CapabilitySet::SYS_ADMIN);
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let network = if own_network { libc::CLONE_NEWNET } else { 0 };
    let users = if may_mount { 0 } else { libc::CLONE_NEWUSER };
    unshare(NAMESPACES | network | users)?;
    if !may_mount {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    }
    // Before there is anybody to be signalled: what is held back is kept for whoever waits for it.
    hold_signals(true)?;
    let (ours, theirs) = UnixStream::pair()?;
    match fork()? {
        Some(first) => Ok(Side::Keeper(first, ours)),
        None => Ok(Side::First(theirs)),
    }
}

/// Ends this process, the first, with its keeper. To be called again after a change of user, with which the kernel
/// forgets it.
pub(super) fn die_with_keeper(lifeline: &UnixStream) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before the line above; then no signal will ever come.
    let mut watched = [PollFd::new(lifeline, PollFlags::IN)];
    poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if watched[0].revents().contains(PollFlags::HUP) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// The life of the keeper: waits for the first, and ends as the program did. Returns only what went wrong.
pub(super) fn keep(first: Pid, mut lifeline: UnixStream, server: Pid) -> io::Result<Infallible> {
    close_streams()?;
    lifeline.set_nonblocking(true)?;
    let mut patience: Option<Instant> = None;
    loop {
        if waitpid(Some(first), WaitOptions::NOHANG)?.is_some() {
            let mut status = [0; size_of::<i32>()];
            // A first that was killed said nothing, and was killed with everybody in there.
            let told = lifeline.read_exact(&mut status).is_ok();
            end_as(ExitStatus::from_raw(if told { i32::from_ne_bytes(status) } else { libc::SIGKILL }));
        }
        let wait = patience.map(|until| until.saturating_duration_since(Instant::now()));
        if wait.is_some_and(|wait| wait.is_zero()) {
            kill_process(first, Signal::KILL)?;
            patience = None;
            continue;
        }
        if next_signal(wait)? == Some(libc::SIGTERM) {
            kill_process(first, END_IT)?;
            if rustix::process::getppid() != Some(server) {
                patience.get_or_insert_with(|| Instant::now() + ORPHANED_GRACE);
            }
        }
    }
}

/// Divides the first from the program: returns in the program's process. The first lives in here until the program
/// ends, without the socket that is the program's; or says what went wrong.
pub(super) fn beget(mut lifeline: UnixStream, socket: &mut Option<UnixStream>) -> io::Result<()> {
    let Some(program) = fork()? else {
        drop(lifeline);
        // As the leader of a tree is without namespaces.
        setsid()?;
        return hold_signals(false);
    };
    drop(socket.take());
    close_streams()?;
    loop {
        while let Some((ended, status)) = wait(WaitOptions::NOHANG)? {
            if ended == program {
                // A keeper that is gone has nothing to hear, and its end is ours already.
                let _ = lifeline.write_all(&status.as_raw().to_ne_bytes());
                std::process::exit(0);
            }
        }
        if next_signal(None)? == Some(END_IT.as_raw()) {
            for signal in [Signal::TERM, Signal::CONT] {
                // It may have ended a moment ago.
                let _ = kill_process_group(program, signal);
            }
        }
    }
}

/// Ends this process in the way another one ended.
fn end_as(status: ExitStatus) -> ! {
    if let Some(code) = status.code() {
        std::process::exit(code);
    }
    let signal = status.signal().unwrap_or(libc::SIGKILL);
    #[expect(unsafe_code, reason = "dying of a signal as somebody else did")]
    // SAFETY: no handler is installed; the process has one thread and is about to end.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut alone = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(alone.as_mut_ptr());
        libc::sigaddset(alone.as_mut_ptr(), signal);
        libc::raise(signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, alone.as_ptr(), std::ptr::null_mut());
    }
    std::process::exit(STRANGE_END)
}

/// Lets go of the program's pipes, whose ends others wait for.
fn close_streams() -> io::Result<()> {
    let nothing = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    Ok(())
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "the safe wrapper is deprecated, for what threads make of it")]
    // SAFETY: plain numbers, in a process that has one thread.
    let result = unsafe { libc::unshare(flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The child's number in the parent, nothing in the child.
fn fork() -> io::Result<Option<Pid>> {
    #[expect(unsafe_code, reason = "no safe wrapper offers to go on as two processes")]
    // SAFETY: the launcher has one thread, so the child may do all that its parent may.
    let child = unsafe { libc::fork() };
    if child < 0 { Err(io::Error::last_os_error()) } else { Ok(Pid::from_raw(child)) }
}

/// Holds every signal back, or none.
fn hold_signals(hold: bool) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    #[expect(unsafe_code, reason = "no safe wrapper offers the mask of signals")]
    // SAFETY: the set is initialised by either call before it is read; the mask is this thread's own.
    let result = unsafe {
        if hold {
            libc::sigfillset(set.as_mut_ptr())
        } else {
            libc::sigemptyset(set.as_mut_ptr())
        };
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The next signal that was held back; nothing when none came in time.
fn next_signal(wait: Option<Duration>) -> io::Result<Option<libc::c_int>> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    let wait = wait.map(|wait| libc::timespec {
        tv_sec: libc::time_t::try_from(wait.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    });
    #[expect(unsafe_code, reason = "no safe wrapper offers to wait for signals")]
    // SAFETY: the set is initialised before it is read; the time is null or outlives the call; nothing is written.
    let signal = unsafe {
        libc::sigfillset(set.as_mut_ptr());
        let wait = wait.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        libc::sigtimedwait(set.as_ptr(), std::ptr::null_mut(), wait)
    };
    if signal >= 0 {
        return Ok(Some(signal));
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => Ok(None),
        error => Err(error),
    }
}
