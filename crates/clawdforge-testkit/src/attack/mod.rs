//! The attack suite: an agent of one app tries, inside a running service, what would harm another app, the service or
//! the host; a row for each attack, a run of all of them for each level of isolation.
//!
//! A row says beforehand what must come of it, so that a suite that nobody reads fails by itself: what is refused from
//! which level on, what stays open and under which name that is published, and that it works without isolation, which
//! shows that it is an attack.

mod memory;
mod rows;
mod shell;
mod siege;
mod stage;
mod table;

use clawdforge_core::isolation::Isolation;
use clawdforge_process::sandbox::{Outcome, PORTS_ABI, landlock_abi};
use rustix::process::geteuid;

pub use rows::Row;
pub use shell::Shell;
pub use stage::{Weakness, run, run_in};
pub use table::{Report, matrix};

/// The version of Landlock's interface from which on signals and abstract sockets are judged.
const SCOPE_ABI: u32 = 6;

/// Where a suite is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ground {
    /// The level that the service gives its agents.
    pub level: Isolation,
    /// Whether each app has a user of its own.
    pub users: bool,
    /// Whether the service is root's, and so can do without isolation what an attack needs.
    pub root: bool,
    /// The version of Landlock's interface.
    pub landlock_abi: u32,
    /// Whether the memory of the whole service can be bounded from outside, as its unit or container would; it is, while
    /// the memory is taken.
    pub bounds_memory: bool,
}

impl Ground {
    /// This machine at a level; with users wherever the level lets them be and they can be had.
    #[must_use]
    pub fn here(level: Isolation) -> Self {
        let root = geteuid().is_root();
        Self {
            level,
            users: root && level >= Isolation::Uid,
            root,
            landlock_abi: landlock_abi(),
            bounds_memory: memory::Bound::make().is_some(),
        }
    }
}

/// What keeps an attack off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// Something that is there without any isolation as well.
    Always,
    /// The level, and all that are stronger; below it, the gap of this name.
    From(Isolation, &'static str),
    /// As the level, on kernels that know it; on older ones, users and namespaces. The gap of this name.
    Scope(&'static str),
    /// Landlock alone, on kernels that know it. The gap of this name.
    ScopeAlone(&'static str),
    /// A user of its own for each app; without, the gap of this name.
    Users(&'static str),
    /// Landlock, on kernels that judge ports, and the filter of system calls with it. The gap of this name.
    Ports(&'static str),
    /// A bound around the whole service, which the operator sets; without, the gap of this name.
    Memory(&'static str),
    /// Nothing yet: the gap of this name.
    Nothing(&'static str),
}

/// What an attack does where nothing is isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// It works.
    Works,
    /// It works where the service is root's; elsewhere the system keeps some of it off.
    WorksAsRoot,
    /// What the machine lets it.
    AsItIs,
}

/// What must come of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It is refused.
    Refused,
    /// A gap, by its name.
    Open(&'static str),
    /// Without isolation: it works.
    Works,
    /// Without isolation, where it says nothing.
    Either,
}

impl Expected {
    /// Whether this is what came.
    #[must_use]
    pub fn holds(self, observed: Outcome) -> bool {
        match self {
            Self::Refused => observed == Outcome::Denied,
            Self::Open(_) | Self::Works => observed == Outcome::Open,
            Self::Either => observed != Outcome::Unknown,
        }
    }
}

/// What must come of a row on a ground.
#[must_use]
pub fn expected(barrier: Barrier, control: Control, ground: Ground) -> Expected {
    let open_unless = |refused: bool, gap| if refused { Expected::Refused } else { Expected::Open(gap) };
    if ground.level == Isolation::Off {
        return match (barrier, control) {
            (Barrier::Always, _) => Expected::Refused,
            (_, Control::Works) => Expected::Works,
            (_, Control::WorksAsRoot) if ground.root => Expected::Works,
            (_, Control::WorksAsRoot | Control::AsItIs) => Expected::Either,
        };
    }
    let scoped = ground.landlock_abi >= SCOPE_ABI;
    match barrier {
        Barrier::Always => Expected::Refused,
        Barrier::From(level, gap) => open_unless(ground.level >= level, gap),
        Barrier::Scope(gap) => open_unless(scoped || ground.level >= Isolation::Uid, gap),
        Barrier::ScopeAlone(gap) => open_unless(scoped, gap),
        Barrier::Users(gap) => open_unless(ground.users, gap),
        Barrier::Ports(gap) => open_unless(ground.landlock_abi >= PORTS_ABI, gap),
        Barrier::Memory(gap) => open_unless(ground.bounds_memory, gap),
        Barrier::Nothing(gap) => Expected::Open(gap),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ground(level: Isolation) -> Ground {
        Ground { level, users: level == Isolation::Uid, root: true, landlock_abi: 7, bounds_memory: true }
    }

    #[test]
    fn an_attack_is_refused_from_its_level_on_and_a_named_gap_below() {
        let at = |level| expected(Barrier::From(Isolation::Uid, "gap"), Control::Works, ground(level));
        assert_eq!(at(Isolation::Off), Expected::Works);
        assert_eq!(at(Isolation::Landlock), Expected::Open("gap"));
        assert_eq!([at(Isolation::Uid), at(Isolation::Namespaces)], [Expected::Refused; 2]);
    }

    #[test]
    fn an_old_kernel_is_not_held_to_what_it_does_not_know() {
        let old = Ground { landlock_abi: 5, ..ground(Isolation::Landlock) };
        assert_eq!(expected(Barrier::Scope("gap"), Control::Works, old), Expected::Open("gap"));
        assert_eq!(expected(Barrier::Scope("gap"), Control::Works, ground(Isolation::Landlock)), Expected::Refused);
    }

    #[test]
    fn what_proves_nothing_is_never_as_expected() {
        for expected in [Expected::Refused, Expected::Open("gap"), Expected::Works, Expected::Either] {
            assert!(!expected.holds(Outcome::Unknown), "{expected:?}");
        }
        assert!(!Expected::Refused.holds(Outcome::Open) && !Expected::Open("gap").holds(Outcome::Denied));
    }
}
