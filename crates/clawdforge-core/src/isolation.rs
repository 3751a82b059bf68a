//! How well an agent is kept apart from the service, from other apps and from the host.

use std::fmt;

/// What stands between an agent and everything that is not its own. Ordered: more is stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isolation {
    /// Nothing but the operating system's own permissions.
    Off,
    /// The kernel's rules about files and signals, a filter of system calls and no capabilities, under the
    /// service's own user.
    Landlock,
    /// The same, and every app's agents under a user of their own.
    Uid,
    /// The kernel's rules, and a view of processes and files that leaves out what is not the agent's. Under a user
    /// of its own for every app where such users are given, else under the service's.
    Namespaces,
}

impl Isolation {
    /// Every level, the weakest first.
    pub const ALL: [Self; 4] = [Self::Off, Self::Landlock, Self::Uid, Self::Namespaces];

    /// Every level with its name on the wire, as a request demands it.
    pub const WORDS: [(&'static str, Self); 4] =
        [("off", Self::Off), ("landlock", Self::Landlock), ("uid", Self::Uid), ("namespaces", Self::Namespaces)];

    /// The stable name, as in the configuration, in the ledger and in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Landlock => "landlock",
            Self::Uid => "uid",
            Self::Namespaces => "namespaces",
        }
    }

    /// The level of a stable name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_level_and_levels_are_ordered_by_strength() {
        assert_eq!(Isolation::WORDS, Isolation::ALL.map(|level| (level.as_str(), level)));
        for level in Isolation::ALL {
            assert_eq!(Isolation::named(level.as_str()), Some(level));
        }
        assert_eq!(Isolation::named("jail"), None);
        assert!(Isolation::ALL.is_sorted() && Isolation::Uid > Isolation::Off);
    }
}
