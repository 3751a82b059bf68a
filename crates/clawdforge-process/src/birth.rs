//! The one place where a program is started.
//!
//! Between fork and exec the child may only do what is safe after a fork of a threaded process: bare
//! system calls, no allocation, no locks. Everything it needs is computed before.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::error::SpawnError;
use crate::mark::TREE_MARK_VARIABLE;
use crate::spec::{SpawnSpec, StdinMode};

/// What a child answers when its parent was gone before the death signal was armed. Nobody reads it.
const ORPHANED_AT_BIRTH: i32 = 127;

/// Signals whose "ignore" a child would inherit: all but the real-time ones, which nobody ignores.
const PLAIN_SIGNALS: std::ops::RangeInclusive<i32> = 1..=31;

/// Starts the program. Must be called on the thread whose end shall mean the child's end.
/// It gets `open_files` as its limit of open files.
pub(crate) fn bear(spec: &SpawnSpec, open_files: Rlimit) -> Result<Child, SpawnError> {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .env_clear()
        .envs(&spec.env)
        .env(TREE_MARK_VARIABLE, spec.mark.as_str())
        .current_dir(&spec.cwd)
        .stdin(match spec.stdin {
            StdinMode::Piped => Stdio::piped(),
            StdinMode::Null => Stdio::null(),
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let server = rustix::process::getpid();
    #[expect(unsafe_code, reason = "settling the child before exec; `settle` makes only bare system calls")]
    // SAFETY: `settle` neither allocates nor locks nor touches memory shared with other threads; it
    // makes system calls that are safe between fork and exec and captures plain numbers.
    unsafe {
        command.pre_exec(move || settle(server, open_files));
    }
    #[expect(clippy::disallowed_methods, reason = "this is the one way to start a program the ban points to")]
    command.spawn().map_err(|source| SpawnError::from_birth(spec, source))
}

/// Runs in the child, between fork and exec.
fn settle(server: Pid, open_files: Rlimit) -> io::Result<()> {
    // A session rather than only a group: tools cannot leave it for ours, and no terminal is in reach,
    // so an agent that asks there gets an error instead of being stopped for ever.
    rustix::process::setsid()?;
    // The standard library empties the signal mask; a disposition of "ignore" (nohup, a shell's `&`)
    // would still be inherited and make a polite end impossible.
    for signal in PLAIN_SIGNALS {
        #[expect(unsafe_code, reason = "rustix has no stable way to set a disposition")]
        // SAFETY: a bare system call that installs no handler. KILL and STOP refuse, which is right.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    close_inherited_on_exec();
    setrlimit(Resource::Nofile, open_files)?;
    // TERM, not KILL: agents end the tools they started on TERM, and would leave them behind on KILL.
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    // The server may have died before the line above; then no signal will ever come.
    if rustix::process::getppid() != Some(server) {
        #[expect(unsafe_code, reason = "leaving without running the parent's exit handlers")]
        // SAFETY: ends the child at once, running nothing of the process it was forked from.
        unsafe {
            libc::_exit(ORPHANED_AT_BIRTH);
        }
    }
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

/// Raises this process's limit of open files to what it may have: every connection and every tree costs
/// some. Gives the limit as it was, for children: programs that still use `select` break on numbers above
/// 1,023, and some close every possible descriptor when they start.
pub(crate) fn raise_open_files() -> Rlimit {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    before
}

/// A process that was started with "ignore" for the end of children gets no exit status of any: the
/// kernel reaps them at once. Puts that right, and leaves a handler that somebody installed alone.
pub(crate) fn make_exits_waitable() -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix has no stable way to read or set a disposition")]
    // SAFETY: `sigaction` is plain data for which zeroes are valid; the first call only reads into it,
    // the second installs the default and no handler.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut current) != 0 {
            return Err(io::Error::last_os_error());
        }
        if current.sa_sigaction == libc::SIG_IGN && libc::signal(libc::SIGCHLD, libc::SIG_DFL) == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
