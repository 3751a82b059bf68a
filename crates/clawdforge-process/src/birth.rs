//! The one place where a program is started.
//!
//! Every child [settles](crate::settle) before it is a program of somebody's. One that a sandbox is put around does so in
//! its launcher, which is our own binary, so that it need not be forked: a fork copies the page tables of the service,
//! and makes it fault on every page that it writes next. One without a sandbox does so between fork and exec.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, dup, fcntl_setfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cgroup::Group;
use crate::error::SpawnError;
use crate::mark::TREE_MARK_VARIABLE;
use crate::sandbox::{Sandbox, Start};
use crate::settle::{join, settle, settle_parent_death};
use crate::spec::{SpawnSpec, StdinMode};

/// What a child answers when its parent was gone before the death signal was armed. Nobody reads it.
const ORPHANED_AT_BIRTH: i32 = 127;

/// What was born.
pub(crate) struct Newborn {
    pub child: Child,
    /// Where the child is the launcher of a sandbox: our end of its socket. It becomes the program when it has been
    /// [told its policy](crate::launch::follow).
    pub launcher: Option<UnixStream>,
}

/// Starts the program, or what becomes the program. Must be called on the thread whose end shall mean the child's end,
/// and which is the only one that starts anything. It gets `open_files` as its limit of open files.
pub(crate) fn bear(spec: &SpawnSpec, open_files: Rlimit, group: Option<&Group>) -> Result<Newborn, SpawnError> {
    match &spec.sandbox {
        None => Ok(Newborn { child: start_program(spec, open_files, group)?, launcher: None }),
        Some(sandbox) => start_launcher(spec, sandbox, open_files, group),
    }
}

fn start_program(spec: &SpawnSpec, open_files: Rlimit, group: Option<&Group>) -> Result<Child, SpawnError> {
    let mut command = Command::new(&spec.program);
    let (server, door) = (rustix::process::getpid(), group.map(|group| group.door().as_raw_fd()));
    let settle_before_exec = move || {
        if let Some(door) = door {
            #[expect(unsafe_code, reason = "the descriptor is known by its number alone here")]
            // SAFETY: the parent keeps the descriptor open until the child has made its exec.
            join(unsafe { BorrowedFd::borrow_raw(door) })?;
        }
        settle(open_files)?;
        close_inherited_on_exec();
        if !settle_parent_death(server)? {
            #[expect(unsafe_code, reason = "leaving without running the parent's exit handlers")]
            // SAFETY: ends the child at once, running nothing of the process it was forked from.
            unsafe {
                libc::_exit(ORPHANED_AT_BIRTH);
            }
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "settling the child before exec, with nothing but bare system calls")]
    // SAFETY: neither allocates nor locks nor touches memory shared with other threads; it makes system calls that are
    // safe between fork and exec, and captures plain numbers.
    unsafe {
        command.pre_exec(settle_before_exec);
    }
    start(spec, command)
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

fn start_launcher(
    spec: &SpawnSpec,
    sandbox: &Sandbox,
    open_files: Rlimit,
    group: Option<&Group>,
) -> Result<Newborn, SpawnError> {
    let failed = || SpawnError::os("make what the launcher of a sandbox inherits");
    let (ours, theirs) = UnixStream::pair().map_err(failed())?;
    // Nobody else is started while these go through an exec.
    fcntl_setfd(&theirs, FdFlags::empty()).map_err(io::Error::from).map_err(failed())?;
    let door: Option<OwnedFd> =
        group.map(|group| dup(group.door())).transpose().map_err(io::Error::from).map_err(failed())?;
    let helper = sandbox.confinement.helper();
    let begin = Start { socket: theirs.as_raw_fd(), door: door.as_ref().map(|door| door.as_raw_fd()), open_files };
    let mut launcher = Command::new(&helper.program);
    launcher.arg(&helper.launch).arg(begin.to_string()).arg(&spec.program);
    // It must not look like anything that needs a fork: the standard library then starts it without one.
    let child = start(spec, launcher)?;
    Ok(Newborn { child, launcher: Some(ours) })
}

/// Starts a command that has the program and what stands before the arguments.
fn start(spec: &SpawnSpec, mut command: Command) -> Result<Child, SpawnError> {
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
    #[expect(clippy::disallowed_methods, reason = "this is the one way to start a program the ban points to")]
    command.spawn().map_err(|source| SpawnError::from_birth(spec, source))
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
