//! The launcher: a process that gives up everything the policy does not name, and then becomes the program.
//!
//! It has one thread, the program's whole environment and nothing else of the service: the policy arrives
//! through a socket, and a failure goes back through it. On success the socket closes with the exec.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::str::FromStr;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Rlimit};

use super::calls::Left;
use super::namespaces::Side;
use super::policy::{POLICY_BYTES_MAX, Policy};
use super::rules::RulesError;
use super::{calls, namespaces, network, powers, rules, view};
use crate::settle::{join, settle, settle_parent_death};

/// Stands for what is not there, or not limited.
const NONE: &str = "-";

/// Exit code of a launcher that could not become the program; the reason went through the socket.
const NOT_LAUNCHED: u8 = 126;

/// The version of Landlock from which on it judges `truncate`.
const TRUNCATION_ABI: u32 = 3;

/// What the launcher was doing when it failed. Only the last one is about the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Group,
    Settle,
    Policy,
    Resources,
    Namespaces,
    Network,
    View,
    Powers,
    Parent,
    Files,
    Calls,
    Exec,
}

impl Step {
    const ALL: [(Self, &'static str); 12] = [
        (Self::Group, "join its control group"),
        (Self::Settle, "settle in a session of its own"),
        (Self::Policy, "read its policy"),
        (Self::Resources, "limit its resources"),
        (Self::Namespaces, "make its namespaces"),
        (Self::Network, "make its network"),
        (Self::View, "make its view of the files"),
        (Self::Powers, "give up its user and capabilities"),
        (Self::Parent, "find its server alive"),
        (Self::Files, "restrict its files"),
        (Self::Calls, "restrict its system calls"),
        (Self::Exec, "start the program"),
    ];

    /// The step as a verb phrase.
    pub(crate) fn action(self) -> &'static str {
        Self::ALL.iter().find(|(step, _)| *step == self).map_or("", |(_, action)| action)
    }

    fn number(self) -> u8 {
        Self::ALL.iter().position(|(step, _)| *step == self).and_then(|place| u8::try_from(place).ok()).unwrap_or(0)
    }
}

/// What a launcher is told by its first argument, before its policy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Start {
    /// Where the policy comes from.
    pub socket: RawFd,
    /// Where a process joins the tree's control group.
    pub door: Option<RawFd>,
    /// The limit of open files that the server had when it started.
    pub open_files: Rlimit,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u64>| number.map_or_else(|| NONE.to_owned(), |number| number.to_string());
        let door = self.door.map_or_else(|| NONE.to_owned(), |door| door.to_string());
        let Rlimit { current, maximum } = self.open_files;
        write!(f, "{},{door},{},{}", self.socket, number(current), number(maximum))
    }
}

impl Start {
    fn parse(text: &str) -> Option<Self> {
        fn number<T: FromStr>(word: &str) -> Option<Option<T>> {
            if word == NONE { Some(None) } else { word.parse().ok().map(Some) }
        }
        let words: Vec<&str> = text.split(',').collect();
        let [socket, door, current, maximum] = words.as_slice() else { return None };
        let open_files = Rlimit { current: number(current)?, maximum: number(maximum)? };
        Some(Self { socket: socket.parse().ok()?, door: number(door)?, open_files })
    }
}

/// A failure of the launcher as it travels: the step, then the system's number of the error.
pub(crate) struct Failed {
    pub step: Step,
    pub errno: i32,
}

impl Failed {
    pub(crate) const BYTES: usize = 5;

    fn at(step: Step) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { step, errno: error.raw_os_error().unwrap_or(libc::EINVAL) }
    }

    fn encode(&self) -> [u8; Self::BYTES] {
        let [a, b, c, d] = self.errno.to_be_bytes();
        [self.step.number(), a, b, c, d]
    }

    pub(crate) fn decode(bytes: [u8; Self::BYTES]) -> Self {
        let [step, a, b, c, d] = bytes;
        let step = Step::ALL.get(usize::from(step)).map_or(Step::Policy, |(step, _)| *step);
        Self { step, errno: i32::from_be_bytes([a, b, c, d]) }
    }
}

/// The hidden sub-command. `args` are what the spawner of this crate says first, the program, and the program's arguments.
/// Must be called before this process has a second thread. Returns only when the program could not be
/// started.
pub fn launcher_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args = args;
    let start = args.next().and_then(|told| Start::parse(told.to_str()?));
    let (Some(start), Some(program)) = (start, args.next()) else {
        return ExitCode::from(NOT_LAUNCHED);
    };
    let Some(socket) = adopt(start.socket) else {
        return ExitCode::from(NOT_LAUNCHED);
    };
    let socket = UnixStream::from(socket);
    let settled = prepare(&start, &socket);
    let mut socket = Some(socket);
    let became = settled.and_then(|()| become_program(&mut socket, program.into(), args.collect()));
    let Err(failed) = became;
    if let Some(mut socket) = socket {
        // A server that is gone has nothing to hear.
        let _ = socket.write_all(&failed.encode());
    }
    ExitCode::from(NOT_LAUNCHED)
}

/// What every child does first. Of what was inherited nothing is left but the standard streams and the socket: the
/// processes that stay around a program never make the exec that would close it.
fn prepare(start: &Start, socket: &UnixStream) -> Result<(), Failed> {
    if let Some(door) = start.door {
        let door = adopt(door).ok_or(Failed { step: Step::Group, errno: libc::EBADF })?;
        join(door.as_fd()).map_err(Failed::at(Step::Group))?;
    }
    close_all_but(socket.as_raw_fd()).map_err(Failed::at(Step::Settle))?;
    settle(start.open_files).map_err(Failed::at(Step::Settle))
}

/// Closes every descriptor but this one and the standard streams.
fn close_all_but(kept: RawFd) -> io::Result<()> {
    let listed = fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    let numbers = listed.iter().filter_map(|name| name.to_str()?.parse::<RawFd>().ok());
    for number in numbers.filter(|number| *number > libc::STDERR_FILENO && *number != kept) {
        #[expect(unsafe_code, reason = "descriptors that were inherited are known by their numbers alone")]
        // SAFETY: nothing of this process owns one of these: it has opened none yet but the socket and the list, which is
        // closed already, so its number is refused.
        unsafe {
            libc::close(number);
        }
    }
    Ok(())
}

/// Takes an inherited descriptor over, to be closed by the exec.
fn adopt(number: RawFd) -> Option<OwnedFd> {
    // The standard streams are the program's.
    if number <= libc::STDERR_FILENO {
        return None;
    }
    #[expect(unsafe_code, reason = "a descriptor that was inherited arrives as a number")]
    // SAFETY: the spawner made this descriptor for the launcher and passed its number; nothing else in this
    // process, which has done nothing yet, knows of it. A number that is not open fails in the next call.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    match fcntl_setfd(&descriptor, FdFlags::CLOEXEC) {
        Ok(()) => Some(descriptor),
        Err(_) => {
            // It is no descriptor of ours, so it is not ours to close.
            std::mem::forget(descriptor);
            None
        }
    }
}

/// The socket is given up by those processes that do not become the program: its end tells of the exec.
fn become_program(
    socket: &mut Option<UnixStream>,
    program: PathBuf,
    args: Vec<OsString>,
) -> Result<std::convert::Infallible, Failed> {
    let mut bytes = Vec::new();
    let from = socket.as_mut().map_or(Ok(0), |socket| socket.take(POLICY_BYTES_MAX).read_to_end(&mut bytes));
    from.map_err(Failed::at(Step::Policy))?;
    let damaged = || Failed { step: Step::Policy, errno: libc::EINVAL };
    let mut policy = Policy::decode(&bytes).map_err(|_| damaged())?;
    let server = Pid::from_raw(policy.server).ok_or_else(damaged)?;
    // Whatever of this takes long ends with the server; once more below, for the kernel forgets it with a change of user.
    stay_with(server)?;

    powers::limit_resources(policy.identity.is_some()).map_err(Failed::at(Step::Resources))?;
    let lifeline = match &policy.hidden {
        None => None,
        Some(hidden) => match namespaces::enter(policy.own_network).map_err(Failed::at(Step::Namespaces))? {
            Side::Keeper(first, lifeline) => return keep(socket, first, lifeline, &policy, server),
            Side::First(lifeline) => {
                namespaces::die_with_keeper(&lifeline).map_err(Failed::at(Step::Parent))?;
                if policy.own_network {
                    // What leads out is on loopback, which nobody else is on: there is nothing more to refuse.
                    let ports = policy.ports.take().unwrap_or_default();
                    network::settle(&ports.connect, socket.as_ref()).map_err(Failed::at(Step::Network))?;
                }
                let own = view::make(hidden, &policy.ways, &policy.rules).map_err(Failed::at(Step::View))?;
                policy.rules.extend(own);
                Some(lifeline)
            }
        },
    };
    // Opened with the rights there are now: a user of its own may not be able to go there by itself.
    let held = rules::hold(&policy.rules);
    powers::give_up(policy.identity).map_err(Failed::at(Step::Powers))?;
    match &lifeline {
        None => stay_with(server)?,
        Some(lifeline) => namespaces::die_with_keeper(lifeline).map_err(Failed::at(Step::Parent))?,
    }
    rules::enforce(held, policy.ports.as_ref())
        .map_err(|error| Failed { step: Step::Files, errno: errno_of(&error) })?;
    let left = Left {
        truncation: rules::landlock_abi() < TRUNCATION_ABI,
        network: policy.ports.is_some(),
        // A user of its own meets nobody by what is the user's alone.
        meeting: policy.identity.is_none() && policy.hidden.is_none(),
    };
    calls::enforce(left).map_err(|error| Failed { step: Step::Calls, errno: error.errno() })?;
    if let Some(lifeline) = lifeline {
        namespaces::beget(lifeline, socket).map_err(Failed::at(Step::Namespaces))?;
    }
    Err(Failed::at(Step::Exec)(Command::new(program).args(args).exec()))
}

/// What becomes of the process that stays outside of the namespaces. It gives up the same powers: the program may be
/// hostile, and this one has nothing to do but to wait.
fn keep(
    socket: &mut Option<UnixStream>,
    first: Pid,
    lifeline: UnixStream,
    policy: &Policy,
    server: Pid,
) -> Result<std::convert::Infallible, Failed> {
    powers::give_up(policy.identity).map_err(Failed::at(Step::Powers))?;
    stay_with(server)?;
    drop(socket.take());
    // Whatever ends this process ends the first with it.
    namespaces::keep(first, lifeline, server).map_err(Failed::at(Step::Namespaces))
}

fn stay_with(server: Pid) -> Result<(), Failed> {
    match settle_parent_death(server).map_err(Failed::at(Step::Parent))? {
        true => Ok(()),
        false => Err(Failed { step: Step::Parent, errno: libc::ESRCH }),
    }
}

fn errno_of(error: &RulesError) -> i32 {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        if let Some(errno) = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return errno;
        }
        source = cause.source();
    }
    libc::EOPNOTSUPP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_arrives_as_it_was_sent() {
        for (step, _) in Step::ALL {
            let failed = Failed::decode(Failed { step, errno: libc::EACCES }.encode());
            assert_eq!((failed.step, failed.errno), (step, libc::EACCES));
        }
    }

    #[test]
    fn a_start_arrives_as_it_was_told() {
        let all = Start { socket: 7, door: Some(8), open_files: Rlimit { current: Some(1_024), maximum: Some(4_096) } };
        let none = Start { door: None, open_files: Rlimit { current: None, maximum: None }, ..all.clone() };
        for start in [all, none] {
            assert_eq!(Start::parse(&start.to_string()), Some(start));
        }
    }

    #[test]
    fn a_launcher_without_its_socket_starts_nothing() {
        let starts = ["", "x", "0", "0,-,1,1", "99999,-,1,1", "99999,-,1", "99999,-,1,1,1", "-,-,1,1"];
        for args in starts.map(|start| [start, "/bin/true"]).iter().map(|args| &args[..]).chain([&[][..]]) {
            let code = launcher_main(args.iter().map(OsString::from));
            assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(NOT_LAUNCHED)), "{args:?}");
        }
    }
}
