//! A view of the file system that leaves out what is nobody's business: made in a mount namespace of its own.
//!
//! Landlock judges what is opened; it does not judge who looks at sizes and times, changes modes, or connects to a
//! socket that has a path. So the places where such things are get covered: the service's data, what programs
//! keep at run time (sockets of engines and buses among it), and the temporary folders that all share. What the
//! rules name in there is laid out again. Everything that no rule lets write is read-only besides.

use std::ffi::{CStr, CString, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};
use rustix::process::umask;

use super::policy::{Access, Rule};
use super::rules::open_place;
use super::way::Way;

/// What programs keep while they run; links at its top lead to what belongs to the system.
const AT_RUN_TIME: &str = "/run";

/// Temporary folders that everybody shares; each process tree gets empty ones of its own.
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// A covered place holds what is laid out in it again and nothing else.
const COVER: &CStr = c"mode=0755,size=1m,nr_inodes=16k";

/// A temporary folder lies in memory, so it is small: agents are told of a folder on the disk (`TMPDIR`), and
/// this is for programs that do not listen.
const OWN_TEMPORARY: &CStr = c"mode=1777,size=256m,nr_inodes=64k";

/// Attributes of `mount_setattr`, in the layout the kernel wants.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const READ_ONLY: u64 = 1;
const NO_SET_USER_ID: u64 = 2;
const RECURSIVE: libc::c_int = 0x8000;

/// Makes the view. Must be called in a mount namespace of its own, by whoever may mount there, before the
/// working directory matters: it is entered anew. Links on the `ways` stay where they are. What is writable beside the rules comes back as rules.
pub(super) fn make(private: &Path, ways: &[PathBuf], rules: &[Rule]) -> io::Result<Vec<Rule>> {
    // The folders on the way to a place are passed through by the agent's user; the agent keeps the mask it is given.
    let mask = umask(Mode::WGRP | Mode::WOTH);
    let made = make_passable(private, ways, rules);
    umask(mask);
    made
}

fn make_passable(private: &Path, ways: &[PathBuf], rules: &[Rule]) -> io::Result<Vec<Rule>> {
    let cwd = std::env::current_dir()?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let covers = covers(private, rules);
    let covered = |path: &Path| covers.iter().any(|cover| path.starts_with(&cover.path));
    // Held before anything is covered. A rule about what is not there is none.
    let mut kept: Vec<(&Rule, OwnedFd)> = Vec::new();
    for rule in rules.iter().filter(|rule| covered(&rule.path)) {
        if let Ok(held) = open_place(&rule.path) {
            kept.push((rule, held));
        }
    }
    // A folder comes before what is in it.
    kept.sort_by(|one, other| one.0.path.cmp(&other.0.path));
    let mut writable: Vec<&Path> = rules
        .iter()
        .filter(|rule| rule.access == Access::Write && !covered(&rule.path))
        .map(|rule| &*rule.path)
        .collect();
    writable.sort_unstable();
    for place in &writable {
        // A mount of its own can be writable where the rest is not.
        mount_bind_recursive(*place, *place).or_else(unless_missing)?;
    }
    let mut links: Vec<(PathBuf, PathBuf)> = ways.iter().flat_map(|way| Way::along(way).links).collect();
    for cover in covers.iter().filter(|cover| cover.keeps_links) {
        links.extend(links_in(&cover.path)?);
    }
    for cover in &covers {
        let options = if cover.is_writable { OWN_TEMPORARY } else { COVER };
        mount("tmpfs", &cover.path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options)?;
    }
    for (rule, held) in &kept {
        let source = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
        make_mount_point(&rule.path, source.is_dir())?;
        mount_bind_recursive(&source, &rule.path)?;
    }
    for (link, target) in &links {
        if covered(link) && link.symlink_metadata().is_err() {
            link.parent().map_or(Ok(()), make_folder)?;
            std::os::unix::fs::symlink(target, link)?;
        }
    }
    writable.extend(kept.iter().filter(|(rule, _)| rule.access == Access::Write).map(|(rule, _)| &*rule.path));
    let of_its_own: Vec<&Path> = covers.iter().filter(|cover| cover.is_writable).map(|cover| &*cover.path).collect();
    close(&writable, &of_its_own)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    mount("proc", "/proc", "proc", flags, None)?;
    std::env::set_current_dir(cwd)?;
    Ok(of_its_own.iter().map(|path| Rule { path: (*path).to_owned(), access: Access::Write }).collect())
}

/// A place whose content is out of sight.
struct Cover {
    path: PathBuf,
    is_writable: bool,
    keeps_links: bool,
}

/// What is covered: nothing that a rule opens as a whole, and no place twice.
fn covers(private: &Path, rules: &[Rule]) -> Vec<Cover> {
    let cover = |path: &Path, is_writable, keeps_links| {
        path.canonicalize().ok().map(|path| Cover { path, is_writable, keeps_links })
    };
    let temporary = TEMPORARY.iter().filter_map(|path| cover(Path::new(path), true, false));
    let wanted = temporary.chain(cover(Path::new(AT_RUN_TIME), false, true)).chain(cover(private, false, false));
    let mut covers: Vec<Cover> = Vec::new();
    for cover in wanted {
        let is_given = rules.iter().any(|rule| cover.path.starts_with(&rule.path));
        let is_in_another = covers.iter().any(|other| cover.path.starts_with(&other.path));
        if !is_given && !is_in_another && cover.path.parent().is_some() {
            covers.retain(|other| !other.path.starts_with(&cover.path));
            covers.push(cover);
        }
    }
    covers
}

fn links_in(folder: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut links = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_symlink() {
            links.push((entry.path(), fs::read_link(entry.path())?));
        }
    }
    Ok(links)
}

/// A folder, with those on the way to it. Whoever the agent is passes through, whatever umask the service has.
fn make_folder(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|above| above.symlink_metadata().is_err()).collect();
    missing.into_iter().rev().try_for_each(|folder| {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
    })
}

fn make_mount_point(path: &Path, is_dir: bool) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    if is_dir {
        return make_folder(path);
    }
    path.parent().map_or(Ok(()), make_folder)?;
    fs::File::create(path).map(drop)
}

/// Makes everything read-only but these places with what is mounted in them, and these without.
fn close(writable: &[&Path], alone: &[&Path]) -> io::Result<()> {
    let stay_open: Vec<PathBuf> = mounts()?
        .into_iter()
        .filter(|mount| mount.is_writable)
        .map(|mount| mount.point)
        .filter(|point| writable.iter().any(|place| point.starts_with(place)) || alone.contains(&&**point))
        .collect();
    set_attributes(Path::new("/"), RECURSIVE, READ_ONLY | NO_SET_USER_ID, 0)?;
    for point in stay_open {
        set_attributes(&point, 0, 0, READ_ONLY).or_else(unless_missing)?;
    }
    Ok(())
}

/// One that is covered by another is not found by its path any more.
fn unless_missing<E: Into<io::Error>>(error: E) -> io::Result<()> {
    match error.into() {
        error if error.kind() == io::ErrorKind::NotFound => Ok(()),
        error => Err(error),
    }
}

struct Mount {
    point: PathBuf,
    is_writable: bool,
}

/// The mounts that this process sees.
fn mounts() -> io::Result<Vec<Mount>> {
    let listed = fs::read("/proc/self/mountinfo")?;
    let mount = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == b' ').skip(4);
        let (point, options) = (words.next()?, words.next()?);
        let is_writable = options.split(|byte| *byte == b',').any(|option| option == b"rw");
        Some(Mount { point: PathBuf::from(OsString::from_vec(unescaped(point))), is_writable })
    };
    Ok(listed.split(|byte| *byte == b'\n').filter_map(mount).collect())
}

/// The kernel writes blanks and backslashes in paths as three octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

fn set_attributes(path: &Path, flags: libc::c_int, set: u64, clear: u64) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = MountAttr { set, clear, propagation: 0, user_namespace: 0 };
    #[expect(unsafe_code, reason = "no safe wrapper offers to set attributes of mounts")]
    // SAFETY: the path ends with a zero byte, the attributes have the layout and the size the kernel is told, and both
    // outlive the call, which reads them only.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str, access: Access) -> Rule {
        Rule { path: path.into(), access }
    }

    fn covered(private: &Path, rules: &[Rule]) -> Vec<PathBuf> {
        covers(private, rules).into_iter().map(|cover| cover.path).collect()
    }

    #[test]
    fn what_is_in_a_covered_place_is_not_covered_again_and_what_was_given_not_at_all() {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let tmp = PathBuf::from("/tmp");
        let all = covered(dir.path(), &[rule("/usr", Access::Read)]);
        assert!(all.contains(&tmp) && !all.contains(&dir.path().to_owned()), "{all:?}");
        let given = covered(dir.path(), &[rule("/tmp", Access::Write)]);
        assert!(!given.contains(&tmp), "{given:?}");
        let inside = covered(dir.path(), &[rule("/tmp/x", Access::Write)]);
        assert!(inside.contains(&tmp), "{inside:?}");
        assert!(covered(Path::new("/usr"), &[]).contains(&PathBuf::from("/usr")));
    }

    #[test]
    fn blanks_in_the_paths_of_mounts_are_read() {
        assert_eq!(unescaped(br"/a\040b\134c"), br"/a b\c");
        assert_eq!(unescaped(br"/a\04"), br"/a\04");
        assert!(mounts().unwrap().iter().any(|mount| mount.point == Path::new("/")));
    }
}
