//! Files, signals and ports: the policy's rules as a Landlock domain.
//!
//! Landlock is an allow-list by place: a rule on a directory counts for everything below it, and there is no
//! way to take something out again. It judges opening, running, listing, making, removing, renaming and
//! truncating. It does **not** judge `stat`, `chmod`, `chown`, times and extended attributes, nor sockets
//! that have a path (before version 9 of its interface): those are what a user of its own is for.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat, openat2};
use rustix::io::Errno;

use super::Ports;
use super::policy::{Access, Rule};

/// The newest version of the interface that we were tried with. Older kernels enforce what they know.
const NEWEST: ABI = ABI::V7;

/// The version of the interface from which on ports of TCP are judged.
pub const PORTS_ABI: u32 = 4;

/// `landlock_create_ruleset` with this flag tells the version instead of making one.
const TELL_VERSION: libc::c_uint = 1;

/// The version of Landlock's interface that the running kernel offers; 0 where there is none.
#[must_use]
pub fn landlock_abi() -> u32 {
    #[expect(unsafe_code, reason = "no library tells the version without making a ruleset")]
    // SAFETY: with no attributes of no size, the kernel reads no memory; it answers with a number.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, TELL_VERSION)
    };
    u32::try_from(version).unwrap_or(0)
}

/// Rules whose places are held open, so that they can be used after the right to go there is given up.
pub(super) struct Held(Vec<(OwnedFd, BitFlags<AccessFs>)>);

/// Why there is no domain.
#[derive(Debug, thiserror::Error)]
pub(super) enum RulesError {
    #[error(transparent)]
    Refused(#[from] RulesetError),
    #[error("the kernel enforces no Landlock rule")]
    NotEnforced,
    #[error("the kernel's Landlock does not judge ports")]
    NoPorts,
}

/// Opens the places of the rules. What is not there needs no rule.
pub(super) fn hold(rules: &[Rule]) -> Held {
    let open_one = |rule: &Rule| {
        let place = open_place(&rule.path).ok()?;
        let is_dir = fstat(&place).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory);
        let all = rights(rule.access);
        // A right that only directories can have makes the kernel refuse a rule about a file.
        Some((place, if is_dir { all } else { all & AccessFs::from_file(NEWEST) }))
    };
    Held(rules.iter().filter_map(open_one).collect())
}

/// Opens a place by a path that has no link in it, or not any more: where one appeared since the path was found, somebody
/// put it there who wants another place opened.
pub(super) fn open_place(path: &Path) -> io::Result<OwnedFd> {
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    match openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        // Filters of containers may not know the call, and say either.
        Err(Errno::NOSYS | Errno::PERM) => open_by_parts(path),
        opened => Ok(opened?),
    }
}

/// The same where the kernel does not keep links off by itself.
fn open_by_parts(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut place = open("/", flags, Mode::empty())?;
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        place = openat(&place, name, flags, Mode::empty())?;
        // With these flags a link is opened like a file.
        if FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Symlink {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
    }
    Ok(place)
}

/// Restricts this thread for good. A list of ports that the kernel would not enforce is an error: whoever gave one
/// relies on it.
pub(super) fn enforce(held: Held, ports: Option<&Ports>) -> Result<(), RulesError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?;
    if ports.is_some() {
        if landlock_abi() < PORTS_ABI {
            return Err(RulesError::NoPorts);
        }
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    let mut ruleset = ruleset.create()?;
    for (place, rights) in held.0 {
        ruleset = ruleset.add_rule(PathBeneath::new(place, rights))?;
    }
    if let Some(Ports { connect, bind }) = ports {
        for (ports, right) in [(connect, AccessNet::ConnectTcp), (bind, AccessNet::BindTcp)] {
            for port in ports {
                ruleset = ruleset.add_rule(NetPort::new(*port, right))?;
            }
        }
    }
    let status = ruleset.restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced { Err(RulesError::NotEnforced) } else { Ok(()) }
}

fn rights(access: Access) -> BitFlags<AccessFs> {
    match access {
        Access::Read => AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute,
        Access::Use => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev,
        Access::Write => {
            // Devices are nothing that an agent makes.
            AccessFs::from_all(NEWEST) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_opened_over_no_link_at_its_end_or_before() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("real/deep")).unwrap();
        std::fs::write(top.join("real/file"), "").unwrap();
        std::os::unix::fs::symlink("real", top.join("link")).unwrap();
        for opened in [open_place, open_by_parts] {
            for open in ["", "real", "real/deep", "real/file"] {
                assert!(opened(&top.join(open)).is_ok(), "{open}");
            }
            for shut in ["link", "link/deep", "link/file", "missing"] {
                assert!(opened(&top.join(shut)).is_err(), "{shut}");
            }
        }
        for shut in [&*top.join("real/../real"), Path::new("real"), Path::new("")] {
            assert!(open_place(shut).is_err(), "{}", shut.display());
        }
    }

    #[test]
    fn a_place_that_became_a_link_after_it_was_named_is_not_held() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir(top.join("private")).unwrap();
        std::fs::create_dir(top.join("own")).unwrap();
        let rules = [Rule { path: top.join("own"), access: Access::Write }];
        assert_eq!(hold(&rules).0.len(), 1);
        std::fs::remove_dir(top.join("own")).unwrap();
        std::os::unix::fs::symlink(top.join("private"), top.join("own")).unwrap();
        assert_eq!(hold(&rules).0.len(), 0);
    }
}
