//! The one place where a program is started.
//!
//! Between fork and exec the child may only do what is safe after a fork of a threaded process: bare
//! system calls, no allocation, no locks. Everything it needs is computed before.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

use crate::cgroup::Group;
use crate::error::SpawnError;
use crate::mark::TREE_MARK_VARIABLE;
use crate::sandbox::settle_parent_death;
use crate::spec::{SpawnSpec, StdinMode};

/// What a child answers when its parent was gone before the death signal was armed. Nobody reads it.
const ORPHANED_AT_BIRTH: i32 = 127;

/// Signals whose "ignore" a child would inherit: all but the real-time ones, which nobody ignores.
const PLAIN_SIGNALS: std::ops::RangeInclusive<i32> = 1..=31;

/// What was born.
pub(crate) struct Newborn {
    pub child: Child,
    /// Where the child is the launcher of a sandbox: our end of its socket. It becomes the program when it has been
    /// [told its policy](crate::launch::follow).
    pub launcher: Option<UnixStream>,
}

/// Starts the program, or what becomes the program. Must be called on the thread whose end shall mean the child's end.
/// It gets `open_files` as its limit of open files.
pub(crate) fn bear(spec: &SpawnSpec, open_files: Rlimit, group: Option<&Group>) -> Result<Newborn, SpawnError> {
    let Some(sandbox) = &spec.sandbox else {
        let child = start(spec, Command::new(&spec.program), None, open_files, group)?;
        return Ok(Newborn { child, launcher: None });
    };
    let (ours, theirs) = UnixStream::pair().map_err(SpawnError::os("make a socket to the launcher of a sandbox"))?;
    let helper = sandbox.confinement.helper();
    let mut launcher = Command::new(&helper.program);
    launcher.arg(&helper.launch).arg(theirs.as_raw_fd().to_string()).arg(&spec.program);
    let child = start(spec, launcher, Some(theirs.as_raw_fd()), open_files, group)?;
    Ok(Newborn { child, launcher: Some(ours) })
}

/// Starts a command that has the program and what stands before the arguments.
fn start(
    spec: &SpawnSpec,
    mut command: Command,
    kept: Option<RawFd>,
    open_files: Rlimit,
    group: Option<&Group>,
) -> Result<Child, SpawnError> {
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
    let door = group.map(Group::door);
    #[expect(unsafe_code, reason = "settling the child before exec; `settle` makes only bare system calls")]
    // SAFETY: `settle` neither allocates nor locks nor touches memory shared with other threads; it
    // makes system calls that are safe between fork and exec and captures plain numbers.
    unsafe {
        command.pre_exec(move || settle(server, door, kept, open_files));
    }
    #[expect(clippy::disallowed_methods, reason = "this is the one way to start a program the ban points to")]
    command.spawn().map_err(|source| SpawnError::from_birth(spec, source))
}

/// Runs in the child, between fork and exec.
fn settle(server: Pid, door: Option<RawFd>, kept: Option<RawFd>, open_files: Rlimit) -> io::Result<()> {
    if let Some(door) = door {
        join(door)?;
    }
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
    if let Some(kept) = kept {
        keep_on_exec(kept)?;
    }
    setrlimit(Resource::Nofile, open_files)?;
    if !settle_parent_death(server)? {
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

/// Joins the control group whose list of processes this is.
fn join(door: RawFd) -> io::Result<()> {
    const US: &[u8] = b"0";
    #[expect(unsafe_code, reason = "the descriptor is known by its number alone here")]
    // SAFETY: a bare system call on a buffer that lives for ever; the parent keeps the descriptor open meanwhile.
    let written = unsafe { libc::write(door, US.as_ptr().cast(), US.len()) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets one descriptor through the exec.
fn keep_on_exec(number: RawFd) -> io::Result<()> {
    #[expect(unsafe_code, reason = "the descriptor is known by its number alone here")]
    // SAFETY: a bare system call on plain numbers; the parent keeps the descriptor open meanwhile.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
