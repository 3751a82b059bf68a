//! What a hostile agent would try, one try each, and none of them does harm where it succeeds.
//!
//! The attacker is a process of its own, started inside a real sandbox with the word [`attack_main`] stands
//! for. Targets come as arguments `name=value`; each attack answers one line, `name outcome errno`.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::mem::{size_of, size_of_val};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clawdforge_core::isolation::Isolation;
use rustix::fs::inotify;
use rustix::process::{Pid, test_kill_process};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::ipc;

/// How long a connection to a neighbour on this machine may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(1);

/// The temporary folder that everybody shares.
pub(super) const SHARED_TMP: &str = "/tmp";

/// One thing to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attack {
    /// Reads the database.
    ReadDatabase,
    /// Reads the database through a symbolic link in the own workspace.
    ReadDatabaseByLink,
    /// Makes a hard link to the database in the own workspace.
    LinkDatabase,
    /// Cuts the database, by its path.
    TruncateDatabase,
    /// Changes the mode of the database.
    ChangeDatabaseMode,
    /// Asks for size and time of the database.
    StatDatabase,
    /// Lists and reads another workspace.
    ReadOtherWorkspace,
    /// Makes a file in another workspace.
    WriteOtherWorkspace,
    /// Makes a file in `/etc`.
    WriteEtc,
    /// Makes a file in `/usr`.
    WriteUsr,
    /// Makes a file in the temporary folder that everybody shares.
    WriteSharedTmp,
    /// Reads the machine's password hashes.
    ReadShadow,
    /// Signals the service (with the signal that only asks whether one may).
    SignalService,
    /// Reads the service's environment.
    ReadServiceEnvironment,
    /// Opens the service's memory.
    ReadServiceMemory,
    /// Looks at what the service has open.
    ListServiceFiles,
    /// Reads the database through the service's own view of the file system.
    ReadThroughServiceRoot,
    /// Reads the service's arguments.
    ReadServiceArguments,
    /// Attaches to the service as a debugger.
    TraceService,
    /// Reads the service's memory by a system call.
    CopyServiceMemory,
    /// Connects to an abstract socket of the service.
    ConnectAbstract,
    /// Connects to a socket of the service that has a path.
    ConnectPath,
    /// Connects to the service over TCP on loopback, by any of the ways there are.
    ConnectTcp,
    /// Listens on a port of TCP that others of this machine reach.
    ListenTcp,
    /// Sends a datagram over UDP.
    SendUdp,
    /// Finds what another process of the user has made of System V: shared memory, semaphores, messages.
    ReachSystemV,
    /// Opens a queue of POSIX that another process of the user has made.
    ReachQueue,
    /// Has itself told of all that happens in another workspace.
    WatchOtherWorkspace,
    /// Takes a capability back.
    RaiseCapability,
    /// Opens a socket of a kind that agents do not need.
    OpenRareSocket,
    /// Makes a user namespace, in which it would have every capability.
    NestUserNamespace,
}

use Attack::{
    ChangeDatabaseMode, ConnectAbstract, ConnectPath, ConnectTcp, CopyServiceMemory, LinkDatabase, ListServiceFiles,
    ListenTcp, NestUserNamespace, OpenRareSocket, RaiseCapability, ReachQueue, ReachSystemV, ReadDatabase,
    ReadDatabaseByLink, ReadOtherWorkspace, ReadServiceArguments, ReadServiceEnvironment, ReadServiceMemory,
    ReadShadow, ReadThroughServiceRoot, SendUdp, SignalService, StatDatabase, TraceService, TruncateDatabase,
    WatchOtherWorkspace, WriteEtc, WriteOtherWorkspace, WriteSharedTmp, WriteUsr,
};

/// What is published about each: its name, and the weakest level that must refuse it; none where no level
/// does yet. In the order they are tried: the last one changes the process that tries it.
const TABLE: [(Attack, &str, Option<Isolation>); 31] = [
    (ReadDatabase, "read_database", Some(Isolation::Landlock)),
    (ReadDatabaseByLink, "read_database_by_link", Some(Isolation::Landlock)),
    (LinkDatabase, "link_database", Some(Isolation::Landlock)),
    (TruncateDatabase, "truncate_database", Some(Isolation::Landlock)),
    (ChangeDatabaseMode, "change_database_mode", Some(Isolation::Uid)),
    (StatDatabase, "stat_database", Some(Isolation::Namespaces)),
    (ReadOtherWorkspace, "read_other_workspace", Some(Isolation::Landlock)),
    (WriteOtherWorkspace, "write_other_workspace", Some(Isolation::Landlock)),
    (WriteEtc, "write_etc", Some(Isolation::Landlock)),
    (WriteUsr, "write_usr", Some(Isolation::Landlock)),
    (WriteSharedTmp, "write_shared_tmp", Some(Isolation::Landlock)),
    (ReadShadow, "read_shadow", Some(Isolation::Landlock)),
    // Below version 6 of Landlock's interface only another user keeps signals off.
    (SignalService, "signal_service", Some(Isolation::Uid)),
    (ReadServiceEnvironment, "read_service_environment", Some(Isolation::Landlock)),
    (ReadServiceMemory, "read_service_memory", Some(Isolation::Landlock)),
    (ListServiceFiles, "list_service_files", Some(Isolation::Landlock)),
    (ReadThroughServiceRoot, "read_through_service_root", Some(Isolation::Landlock)),
    (ReadServiceArguments, "read_service_arguments", Some(Isolation::Namespaces)),
    (TraceService, "trace_service", Some(Isolation::Landlock)),
    (CopyServiceMemory, "copy_service_memory", Some(Isolation::Landlock)),
    (ConnectAbstract, "connect_abstract_socket", None),
    (ConnectPath, "connect_path_socket", Some(Isolation::Uid)),
    (ConnectTcp, "connect_tcp", None),
    (ListenTcp, "listen_tcp", None),
    (SendUdp, "send_udp", None),
    (ReachSystemV, "reach_system_v_ipc", Some(Isolation::Landlock)),
    (ReachQueue, "reach_posix_queue", Some(Isolation::Landlock)),
    (WatchOtherWorkspace, "watch_other_workspace", Some(Isolation::Uid)),
    (RaiseCapability, "raise_capability", Some(Isolation::Landlock)),
    (OpenRareSocket, "open_rare_socket", Some(Isolation::Landlock)),
    (NestUserNamespace, "nest_user_namespace", Some(Isolation::Landlock)),
];

impl Attack {
    /// All of them, in the order they are tried.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(attack, ..)| *attack)
    }

    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|(attack, ..)| *attack == self).map_or("", |(_, name, _)| name)
    }

    /// The attack of a stable name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|(_, known, _)| *known == name).map(|(attack, ..)| *attack)
    }

    /// The weakest level that must refuse it; `None` where none does yet.
    #[must_use]
    pub fn refused_from(self) -> Option<Isolation> {
        TABLE.iter().find(|(attack, ..)| *attack == self).and_then(|(.., level)| *level)
    }
}

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was refused, or what it aims at is hidden.
    Denied,
    /// It succeeded.
    Open,
    /// It failed in a way that proves nothing.
    Unknown,
}

impl Outcome {
    const ALL: [(Self, &'static str); 3] = [(Self::Denied, "denied"), (Self::Open, "open"), (Self::Unknown, "unknown")];

    /// Its stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(outcome, _)| *outcome == self).map_or("", |(_, name)| name)
    }

    /// The outcome of a stable name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(outcome, _)| *outcome)
    }

    pub(super) fn of(tried: &io::Result<()>) -> Self {
        match tried.as_ref().map_err(io::Error::raw_os_error) {
            Ok(()) => Self::Open,
            Err(Some(
                libc::EACCES
                | libc::EPERM
                | libc::EROFS
                | libc::EXDEV
                | libc::ENOSYS
                | libc::EAFNOSUPPORT
                // The target is there, as whoever started the attack has seen to: it is hidden.
                | libc::ENOENT
                | libc::ESRCH
                // As is whoever listens there: no way leads to them.
                | libc::ECONNREFUSED
                | libc::ENETUNREACH,
            )) => Self::Denied,
            Err(_) => Self::Unknown,
        }
    }
}

/// What the attacks aim at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// A file in the service's data directory, made as its database is.
    pub database: PathBuf,
    /// Another app's workspace, with a file `secret` in it.
    pub workspace: PathBuf,
    /// A folder in `/tmp` that everybody may write; `/tmp` itself where none is named. A tree that has a `/tmp` of
    /// its own does not see it.
    pub tmp: PathBuf,
    /// The service.
    pub service: i32,
    /// An abstract socket that the service listens on.
    pub abstract_name: String,
    /// A socket with a path that the service listens on.
    pub socket: PathBuf,
    /// A TCP port of loopback that the service listens on.
    pub tcp: u16,
    /// A UDP port of loopback that the service listens on.
    pub udp: u16,
    /// The key of what the service has made of System V.
    pub ipc: i32,
    /// The name of a queue that the service has made.
    pub queue: String,
}

impl Targets {
    /// As arguments for [`attack_main`].
    #[must_use]
    pub fn args(&self) -> Vec<OsString> {
        let arg = |name: &str, value: &OsStr| {
            let mut arg = OsString::from(name);
            arg.push("=");
            arg.push(value);
            arg
        };
        let number = |name: &str, value: String| arg(name, OsStr::new(&value));
        vec![
            arg("database", self.database.as_os_str()),
            arg("workspace", self.workspace.as_os_str()),
            arg("tmp", self.tmp.as_os_str()),
            number("service", self.service.to_string()),
            number("abstract", self.abstract_name.clone()),
            arg("socket", self.socket.as_os_str()),
            number("tcp", self.tcp.to_string()),
            number("udp", self.udp.to_string()),
            number("ipc", self.ipc.to_string()),
            number("queue", self.queue.clone()),
        ]
    }

    fn of_args(args: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut given: BTreeMap<Vec<u8>, OsString> = BTreeMap::new();
        for arg in args {
            let bytes = arg.as_bytes();
            let at = bytes.iter().position(|byte| *byte == b'=')?;
            let value = bytes.get(at + 1..)?.to_vec();
            given.insert(bytes.get(..at)?.to_vec(), OsString::from_vec(value));
        }
        let mut take = |name: &str| given.remove(name.as_bytes());
        Some(Self {
            database: take("database")?.into(),
            workspace: take("workspace")?.into(),
            tmp: take("tmp").unwrap_or_else(|| SHARED_TMP.into()).into(),
            service: take("service")?.to_str()?.parse().ok()?,
            abstract_name: take("abstract")?.into_string().ok()?,
            socket: take("socket")?.into(),
            tcp: take("tcp")?.to_str()?.parse().ok()?,
            udp: take("udp")?.to_str()?.parse().ok()?,
            ipc: take("ipc").map_or(Some(NOBODYS_KEY), |key| key.to_str()?.parse().ok())?,
            queue: take("queue").map_or(Some("/nobodys".to_owned()), |name| name.into_string().ok())?,
        })
    }
}

/// A key under which nothing is looked for: where none is named. Not 0, under which everybody finds something new.
const NOBODYS_KEY: i32 = i32::MAX;

/// Exit code of an attacker that was not told what to attack.
const USAGE: u8 = 2;

/// The hidden sub-command: tries the attacks that the first argument lists (or `all`), on the targets that
/// the others name, in the working directory, and tells on standard output. Exits with 0 however it went.
/// Must be called before this process has a second thread.
pub fn attack_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(said) = try_all(args) else { return ExitCode::from(USAGE) };
    let told = io::stdout().lock().write_all(said.as_bytes());
    if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What [`attack_main`] does, from the inside of a program that has more to do; `None` when the arguments are
/// none of its. The last attack of all changes the process, so it is not for this.
#[must_use]
pub fn try_all(args: impl Iterator<Item = OsString>) -> Option<String> {
    let mut args = args;
    let wanted = args.next()?.into_string().ok()?;
    let targets = Targets::of_args(args)?;
    let mut said = String::new();
    for attack in Attack::all() {
        if wanted != "all" && !wanted.split(',').any(|name| name == attack.name()) {
            continue;
        }
        let tried = attempt(attack, &targets);
        let errno = tried.as_ref().err().and_then(io::Error::raw_os_error).unwrap_or(0);
        // Writing into a string cannot fail.
        let _ = writeln!(said, "{} {} {errno}", attack.name(), Outcome::of(&tried).as_str());
    }
    Some(said)
}

fn attempt(attack: Attack, targets: &Targets) -> io::Result<()> {
    let of_service = |file: &str| PathBuf::from(format!("/proc/{}/{file}", targets.service));
    match attack {
        ReadDatabase => read(&targets.database),
        ReadDatabaseByLink => {
            let link = Path::new("link-to-database");
            std::os::unix::fs::symlink(&targets.database, link)?;
            let tried = read(link);
            fs::remove_file(link)?;
            tried
        }
        LinkDatabase => {
            let link = Path::new("database-by-another-name");
            fs::hard_link(&targets.database, link)?;
            fs::remove_file(link)
        }
        TruncateDatabase => truncate(&targets.database),
        ChangeDatabaseMode => {
            // What it is already, so that success changes nothing.
            fs::set_permissions(&targets.database, Permissions::from_mode(0o600))
        }
        StatDatabase => fs::metadata(&targets.database).map(drop),
        ReadOtherWorkspace => {
            fs::read_dir(&targets.workspace).map(drop).and_then(|()| read(&targets.workspace.join("secret")))
        }
        WriteOtherWorkspace => make_in(&targets.workspace),
        WriteEtc => make_in(Path::new("/etc")),
        WriteUsr => make_in(Path::new("/usr")),
        WriteSharedTmp => make_in(&targets.tmp),
        ReadShadow => read(Path::new("/etc/shadow")),
        SignalService => {
            let service = Pid::from_raw(targets.service).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
            Ok(test_kill_process(service)?)
        }
        ReadServiceEnvironment => read(&of_service("environ")),
        ReadServiceMemory => File::open(of_service("mem")).map(drop),
        ListServiceFiles => {
            // The numbers alone are no secret, and the kernel gives them; what they stand for is one.
            fs::read_dir(of_service("fd"))?.try_for_each(|entry| fs::read_link(entry?.path()).map(drop))
        }
        ReadThroughServiceRoot => {
            let inside = targets.database.strip_prefix("/").unwrap_or(&targets.database);
            read(&of_service("root").join(inside))
        }
        ReadServiceArguments => read(&of_service("cmdline")),
        TraceService => trace(targets.service),
        CopyServiceMemory => copy_memory(targets.service),
        ConnectAbstract => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(&targets.abstract_name)?;
            UnixStream::connect_addr(&address).map(drop)
        }
        ConnectPath => UnixStream::connect(&targets.socket).map(drop),
        ConnectTcp => {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, targets.tcp));
            let plainly = TcpStream::connect_timeout(&address, CONNECT_WAIT_MAX).map(drop);
            plainly.or_else(|refused| {
                let sideways = connect_while_sending(targets.tcp).or_else(|_| connect_by_mptcp(targets.tcp));
                sideways.map_err(|_| refused)
            })
        }
        ListenTcp => {
            drop(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
            // Where a port is free on which the service listens, nobody who is outside can connect.
            match TcpListener::bind((Ipv4Addr::LOCALHOST, targets.tcp)) {
                Ok(_alone) => Err(io::Error::from_raw_os_error(libc::ENETUNREACH)),
                Err(_) => Ok(()),
            }
        }
        SendUdp => {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect((Ipv4Addr::LOCALHOST, targets.udp))?;
            // That nobody is there is told with the next one.
            socket.send(b"x").and_then(|_| socket.send(b"x")).map(drop)
        }
        ReachSystemV => ipc::reach_system_v(targets.ipc),
        ReachQueue => ipc::reach_queue(&targets.queue),
        WatchOtherWorkspace => {
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
            inotify::add_watch(&watch, &targets.workspace, inotify::WatchFlags::ALL_EVENTS)?;
            // Closing it takes the kernel ten milliseconds, for which nobody need wait who wants to hear what came of it.
            std::mem::forget(watch);
            Ok(())
        }
        RaiseCapability => {
            let one = CapabilitySet::SYS_ADMIN;
            Ok(set_capabilities(None, CapabilitySets { effective: one, permitted: one, inheritable: one })?)
        }
        OpenRareSocket => open_socket(libc::AF_VSOCK).or_else(|_| open_socket(libc::AF_PACKET)),
        NestUserNamespace => unshare(libc::CLONE_NEWUSER),
    }
}

/// At least one byte; an empty file is as good.
fn read(path: &Path) -> io::Result<()> {
    File::open(path)?.read(&mut [0; 1]).map(drop)
}

/// A new file that is removed at once.
fn make_in(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!("clawdforge-isolation-probe-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(path)
}

fn answered(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn truncate(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    #[expect(unsafe_code, reason = "cutting a file by its path, which no safe wrapper offers")]
    // SAFETY: the path is a string that ends with a zero byte and outlives the call.
    let result = unsafe { libc::truncate(path.as_ptr(), 0) };
    answered(result.into())
}

fn trace(service: i32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe wrapper offers to attach as a debugger")]
    // SAFETY: plain numbers. Where it succeeds the target goes on, and is let go with the end of this process.
    let result = unsafe { libc::ptrace(libc::PTRACE_SEIZE, service, 0, 0) };
    answered(result)
}

fn copy_memory(service: i32) -> io::Result<()> {
    let mut byte = 0_u8;
    let ours = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: size_of::<u8>() };
    let theirs = libc::iovec { iov_base: std::ptr::without_provenance_mut(1), iov_len: size_of::<u8>() };
    #[expect(unsafe_code, reason = "no safe wrapper offers another process's memory")]
    // SAFETY: one byte of ours is writable for the call; the other address is only looked up, there.
    let result = unsafe { libc::process_vm_readv(service, &raw const ours, 1, &raw const theirs, 1, 0) };
    match answered(result as libc::c_long) {
        // Nothing lies at that address, but we may look.
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        other => other,
    }
}

fn open_socket(family: libc::c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "safe wrappers know no sockets of these families")]
    // SAFETY: plain numbers.
    let socket = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    answered(socket.into())?;
    #[expect(unsafe_code, reason = "what was opened as a number is closed as one")]
    // SAFETY: it was opened just now, and nobody else knows of it.
    let closed = unsafe { libc::close(socket) };
    answered(closed.into())
}

/// TCP Fast Open: the first bytes go with the request for the connection, and nobody calls `connect`.
fn connect_while_sending(port: u16) -> io::Result<()> {
    let (socket, address) = (new_stream(0)?, loopback(port));
    #[expect(unsafe_code, reason = "no safe wrapper offers to connect while sending")]
    // SAFETY: the byte and the address are ours and outlive the call, with their lengths; the socket is open.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            b"x".as_ptr().cast(),
            1,
            libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL,
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    answered(sent as libc::c_long)
}

/// MPTCP, which is TCP to every server that does not know it.
fn connect_by_mptcp(port: u16) -> io::Result<()> {
    let (socket, address) = (new_stream(libc::IPPROTO_MPTCP)?, loopback(port));
    #[expect(unsafe_code, reason = "safe wrappers know no sockets of this protocol")]
    // SAFETY: the address is ours and outlives the call, with its length; the socket is open.
    let connected = unsafe {
        libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
    };
    answered(connected.into())
}

fn new_stream(protocol: libc::c_int) -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "safe wrappers know no sockets of every protocol")]
    // SAFETY: plain numbers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, protocol) };
    answered(socket.into())?;
    #[expect(unsafe_code, reason = "what was opened as a number is owned from here on")]
    // SAFETY: it was opened just now, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

fn loopback(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: Ipv4Addr::LOCALHOST.to_bits().to_be() },
        sin_zero: [0; 8],
    }
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "this process has one thread and ends after this")]
    // SAFETY: plain numbers.
    let result = unsafe { libc::unshare(flags) };
    answered(result.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_has_a_name_of_its_own() {
        for attack in Attack::all() {
            assert_eq!(Attack::named(attack.name()), Some(attack));
        }
        assert_eq!(Attack::all().last(), Some(NestUserNamespace), "it changes the process that tries it");
    }

    #[test]
    fn targets_arrive_as_they_were_sent() {
        let targets = Targets {
            database: OsString::from_vec(b"/d \xff=x".to_vec()).into(),
            workspace: "/w".into(),
            tmp: "/t".into(),
            service: 7,
            abstract_name: "a=b".into(),
            socket: "/s".into(),
            tcp: 1,
            udp: 2,
            ipc: -3,
            queue: "/q=".into(),
        };
        assert_eq!(Targets::of_args(targets.args().into_iter()), Some(targets.clone()));
        assert_eq!(Targets::of_args(targets.args().into_iter().skip(1)), None);
    }

    #[test]
    fn a_refusal_is_told_from_success_and_from_bad_luck() {
        let of = |errno| Outcome::of(&Err(io::Error::from_raw_os_error(errno)));
        assert_eq!([libc::EACCES, libc::EPERM, libc::ENOENT, libc::ECONNREFUSED].map(of), [Outcome::Denied; 4]);
        assert_eq!([libc::ENOSPC, libc::ETIMEDOUT, libc::EINVAL].map(of), [Outcome::Unknown; 3]);
        assert_eq!(Outcome::of(&Ok(())), Outcome::Open);
    }
}
