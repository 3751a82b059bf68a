//! A sandbox around a process tree: what it may reach is listed, and everything else is refused.
//!
//! A sandboxed program is not started directly. The spawner starts the *launcher* (a hidden sub-command of
//! this very binary), hands it a [policy](policy) through an inherited socket, and the launcher restricts
//! itself layer by layer and then becomes the program by exec: same process, same group, same session, same
//! pipes. Nothing is undone on the way, and everything that the program starts inherits all of it:
//!
//! 1. limits of resources (`powers`);
//! 2. namespaces of its own, where they are wanted (`namespaces`), with a view of the files (`view`) and a network
//!    (`network`) in them;
//! 3. a user of its own, where one is given, and no capability, by no way (`powers`);
//! 4. files, signals, and ports of TCP where they are listed: Landlock (`rules`);
//! 5. system calls: seccomp (`calls`).
//!
//! With namespaces the process that was started stays outside of them and stands for the program: same group, same
//! session, same end.
//!
//! Whether all this holds on a machine is measured, not assumed: [`probe`] tries the [attacks](Attack) from
//! inside.
//!
//! The invariant of every policy: nothing of the private directory (the service's data) is in it but what a
//! sandbox names below it, however broad the other roots are. And nothing is in it because of a link that an agent made.

mod attack;
mod calls;
mod chain;
mod greed;
mod hunt;
mod ipc;
mod launcher;
mod namespaces;
mod network;
pub(crate) mod policy;
mod powers;
pub mod probe;
mod roots;
mod rules;
mod tries;
mod view;
mod way;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clawdforge_core::isolation::Isolation;

pub use attack::{Attack, Outcome, Targets, attack_main, try_all};
pub use chain::start_chains;
pub use ipc::Meeting;
pub use launcher::launcher_main;
pub(crate) use launcher::{Failed, Start, Step};
use policy::{Policy, Rule};
pub use roots::{READ_BY_VARIABLE, can_contain};
pub use rules::{PORTS_ABI, landlock_abi};
pub use tries::try_one;

use crate::spec::SpawnSpec;

/// How the launcher and the attacker are started: this binary, and the word it knows each of them by.
#[derive(Debug, Clone)]
pub struct Helper {
    /// The program.
    pub program: PathBuf,
    /// The word that makes it call [`launcher_main`] with the arguments after it.
    pub launch: OsString,
    /// The word that makes it call [`attack_main`] with the arguments after it.
    pub attack: OsString,
}

impl Helper {
    /// The binary that is running, found so that it is this one even after its file was replaced.
    #[must_use]
    pub fn of_this_binary(launch: &str, attack: &str) -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), launch: launch.into(), attack: attack.into() }
    }
}

/// What all sandboxes of a service have in common.
#[derive(Clone)]
pub struct Confinement {
    helper: Helper,
    /// What is never in reach unless a sandbox names something below it; with its links resolved.
    private: PathBuf,
    /// What every program needs of the system.
    system: Vec<Rule>,
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    namespaces: bool,
    own_network: bool,
}

impl Confinement {
    /// Sandboxes that keep everything off `private`, and let everything read `read` and write `write` beside
    /// what each of them needs by itself. Blocks for some hundred `stat` calls.
    #[must_use]
    pub fn new(helper: Helper, private: &Path, read: Vec<PathBuf>, write: Vec<PathBuf>) -> Self {
        let private = resolved(private);
        Self { helper, private, system: roots::of_the_system(), read, write, namespaces: false, own_network: false }
    }

    /// The same, with namespaces of its own for every process tree that does not do without.
    #[must_use]
    pub fn with_namespaces(self) -> Self {
        Self { namespaces: true, ..self }
    }

    /// The same, with a network of its own for every process tree that has namespaces and a list of ports.
    #[must_use]
    pub fn with_own_network(self) -> Self {
        Self { own_network: true, ..self }
    }

    /// Whether process trees get a network of their own where they have namespaces and a list of ports.
    #[must_use]
    pub fn has_own_network(&self) -> bool {
        self.own_network
    }

    /// The directory that nothing reaches.
    #[must_use]
    pub fn private(&self) -> &Path {
        &self.private
    }

    pub(crate) fn helper(&self) -> &Helper {
        &self.helper
    }
}

/// A path without links, as far as it is there; what is not there yet is no link.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            // Joined with nothing, a path would get a slash at its end.
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}

impl fmt::Debug for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confinement").field("private", &self.private).finish_non_exhaustive()
    }
}

/// The sandbox of one process tree.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// What it has in common with all others.
    pub confinement: Arc<Confinement>,
    /// Programs it starts beside its own: each may be read and run with the package it belongs to.
    pub programs: Vec<PathBuf>,
    /// Files and directories it may read and run.
    pub read: Vec<PathBuf>,
    /// Files and directories it may do everything with.
    pub write: Vec<PathBuf>,
    /// The user it runs as; the service's own where none is given.
    pub identity: Option<Identity>,
    /// Whether it gets namespaces of its own. Not for an errand: what that leaves behind would end with it.
    pub namespaces: bool,
    /// The ports of TCP it may use; all of them where there is no list.
    pub ports: Option<Ports>,
    /// Whether it gets a network of its own where it has namespaces and a list of ports: a loopback on which nobody
    /// else listens. The ports it may connect to are there as listeners, which whoever spawns it gets
    /// ([`Tree::take_listeners`](crate::Tree::take_listeners)) and answers; there is no other way out, of any protocol, and
    /// none in.
    pub own_network: bool,
}

impl Sandbox {
    /// One that reaches what every program needs and what all of the service share.
    #[must_use]
    pub fn of(confinement: &Arc<Confinement>) -> Self {
        Self {
            confinement: Arc::clone(confinement),
            programs: Vec::new(),
            read: Vec::new(),
            write: Vec::new(),
            identity: None,
            namespaces: confinement.namespaces,
            ports: None,
            own_network: confinement.own_network,
        }
    }

    /// Whether it will have a network of its own.
    #[must_use]
    pub fn has_own_network(&self) -> bool {
        self.own_network && self.namespaces && self.ports.is_some()
    }

    /// The level it is made for.
    #[must_use]
    pub fn level(&self) -> Isolation {
        match (self.namespaces, self.identity) {
            (true, _) => Isolation::Namespaces,
            (false, Some(_)) => Isolation::Uid,
            (false, None) => Isolation::Landlock,
        }
    }

    /// # Errors
    /// When agents have bent the way to a place that is to be opened.
    pub(crate) fn policy(&self, spec: &SpawnSpec) -> io::Result<Policy> {
        Ok(Policy {
            server: rustix::process::getpid().as_raw_pid(),
            identity: self.identity,
            hidden: self.namespaces.then(|| self.confinement.private.clone()),
            ports: self.ports.clone(),
            own_network: self.has_own_network(),
            ways: if self.namespaces { roots::ways(self, spec) } else { Vec::new() },
            rules: roots::rules(self, spec)?,
        })
    }
}

/// The ports of TCP that a sandboxed program may use, whatever the address; everything else of TCP is refused. Where
/// the kernel's Landlock is older than [`PORTS_ABI`], nothing is started rather than left open. Datagrams, and every way
/// to a connection that these rules do not count for (MPTCP, TCP Fast Open), are refused as system calls. It says
/// nothing about connections that others make for the program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    /// Those it may connect to.
    pub connect: Vec<u16>,
    /// Those it may bind to; 0 stands for one that the kernel chooses.
    pub bind: Vec<u16>,
}

impl Ports {
    /// Connecting to these and listening on those that the kernel chooses; `None` where the kernel cannot keep to it.
    #[must_use]
    pub fn only(connect: Vec<u16>) -> Option<Self> {
        (landlock_abi() >= PORTS_ABI).then(|| Self { connect, bind: vec![0] })
    }
}

/// A user that agents run as. Its group has the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    number: u32,
}

impl Identity {
    /// Smallest number of a user that is nobody of the system's, by the convention of all distributions.
    pub const NUMBER_MIN: u32 = 1_000;

    /// Largest number; above are those with a special meaning to the kernel.
    pub const NUMBER_MAX: u32 = 0x7fff_fffe;

    /// The user of this number; `None` outside of the bounds.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (Self::NUMBER_MIN..=Self::NUMBER_MAX).contains(&number).then_some(Self { number })
    }

    /// Makes this user the owner of a file or folder. Links are not followed.
    ///
    /// # Errors
    /// When this process may not.
    pub fn give(self, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::lchown(path, Some(self.number), Some(self.number))
    }

    /// The number of user and group.
    #[must_use]
    pub fn number(self) -> u32 {
        self.number
    }
}
