//! A copy of a workspace for a fork of its conversation. Blocking.
//!
//! What is copied is an agent's, who may be at work in it and put a link in the place of a folder at any moment, and the
//! service may be root. So every folder is opened from the top without following any link, on both sides; a file
//! is looked at once it is open, and opening it waits for nothing. Links are copied as they are. Neither sockets, pipes and
//! devices are copied nor, where agents have users of their own, files of anybody else: they were not the agent's to read.
//! Files with several names become several files. The copy is made where nobody else comes, and is complete or is removed.

use std::ffi::CStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clawdforge_process::Identity;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, chownat, fchmod,
    fchown, fstat, futimens, mkdirat, openat, readlinkat, statat, symlinkat,
};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use crate::quota::{DEPTH_MAX, ENTRIES_MAX, FOLDER, open_below};

/// Bytes of one copy where workspaces have no quota: as much as the usual quota.
const BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// The longest time of one copy, in which a slow disk copies some gigabytes: the caller waits for it, and whoever gives the
/// conversation a prompt.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Bytes between two looks at the time and whether anybody still wants the copy: a fraction of a second on a slow disk.
const STEP_BYTES: u64 = 16 * 1024 * 1024;

/// How far a copy goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes of files, holes in them included.
    bytes: u64,
    /// Files and folders.
    entries: usize,
    /// Folders in each other.
    depth: usize,
    time: Duration,
}

impl Bounds {
    /// For workspaces that may take so many bytes.
    pub fn of(quota: Option<u64>) -> Self {
        Self { bytes: quota.unwrap_or(BYTES_MAX), entries: ENTRIES_MAX, depth: DEPTH_MAX, time: TIME_MAX }
    }
}

/// Why there is no copy.
#[derive(Debug)]
pub(crate) enum NotCopied {
    /// More than may be, or it took too long: which bound was met.
    TooMuch(&'static str),
    /// Nobody wanted it any more.
    GivenUp,
    Failed(io::Error),
}

impl From<io::Error> for NotCopied {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Errno> for NotCopied {
    fn from(error: Errno) -> Self {
        Self::Failed(error.into())
    }
}

/// Copies everything in a folder into a new one, `owner`'s where there is one. What the new one lies in is the service's,
/// and nobody else passes through it yet. A folder that is not there is an empty one.
pub(crate) fn copy(
    from: &Path,
    to: &Path,
    owner: Option<Identity>,
    bounds: Bounds,
    given_up: &CancellationToken,
) -> Result<(), NotCopied> {
    mkdirat(CWD, to, Mode::RWXU)?;
    let root = |path| openat(CWD, path, FOLDER, Mode::empty());
    let to = root(to)?;
    give(&to, owner)?;
    let from = match root(from) {
        Ok(from) => from,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let until = Instant::now() + bounds.time;
    let mut copying = Copying { from, to, owner, bounds, until, bytes: 0, entries: 0, waiting: vec![PathBuf::new()] };
    while let Some(folder) = copying.waiting.pop() {
        copying.folder(&folder, given_up)?;
    }
    Ok(())
}

struct Copying {
    from: OwnedFd,
    to: OwnedFd,
    owner: Option<Identity>,
    bounds: Bounds,
    until: Instant,
    bytes: u64,
    entries: usize,
    /// Folders that are there on both sides and were not looked into.
    waiting: Vec<PathBuf>,
}

impl Copying {
    fn folder(&mut self, path: &Path, given_up: &CancellationToken) -> Result<(), NotCopied> {
        let from = match open_below(&self.from, path) {
            Err(error) if is_gone(error) => return Ok(()),
            opened => opened?,
        };
        let to = open_below(&self.to, path)?;
        for entry in Dir::read_from(&from)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > self.bounds.entries {
                return Err(NotCopied::TooMuch("it has too many files"));
            }
            self.go_on(given_up)?;
            let found = match statat(&from, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(error) if is_gone(error) => continue,
                found => found?,
            };
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => self.sub_folder(&to, path, name, &found)?,
                FileType::RegularFile => self.file(&from, &to, name, given_up)?,
                FileType::Symlink => self.link(&from, &to, name)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn go_on(&self, given_up: &CancellationToken) -> Result<(), NotCopied> {
        if given_up.is_cancelled() {
            return Err(NotCopied::GivenUp);
        }
        if Instant::now() >= self.until { Err(NotCopied::TooMuch("copying it took too long")) } else { Ok(()) }
    }

    /// Makes a folder, which its owner may change whatever the other one's mode says: its contents come later.
    fn sub_folder(&mut self, to: &OwnedFd, path: &Path, name: &CStr, found: &Stat) -> Result<(), NotCopied> {
        let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        if path.components().count() > self.bounds.depth {
            return Err(NotCopied::TooMuch("it has too many folders in each other"));
        }
        mkdirat(to, name, Mode::RWXU)?;
        let made = openat(to, name, FOLDER, Mode::empty())?;
        give(&made, self.owner)?;
        fchmod(&made, permissions(found) | Mode::RWXU)?;
        self.waiting.push(path);
        Ok(())
    }

    fn file(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        given_up: &CancellationToken,
    ) -> Result<(), NotCopied> {
        // What is in its place by now may be a pipe, which is not waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = match openat(from, name, flags, Mode::empty()) {
            Err(error) if is_gone(error) => return Ok(()),
            opened => opened?,
        };
        let found = fstat(&from)?;
        let is_another_s = self.owner.is_some_and(|owner| owner.number() != found.st_uid);
        if is_another_s || !FileType::from_raw_mode(found.st_mode).is_file() {
            return Ok(());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
        give(&to, self.owner)?;
        let (mut from, mut to) = (std::fs::File::from(from), std::fs::File::from(to));
        loop {
            // One byte more than there may be is enough to know.
            let step = STEP_BYTES.min(self.bounds.bytes - self.bytes + 1);
            let copied = io::copy(&mut (&mut from).take(step), &mut to)?;
            if copied == 0 {
                break;
            }
            self.bytes += copied;
            if self.bytes > self.bounds.bytes {
                return Err(NotCopied::TooMuch("its files are too large together"));
            }
            self.go_on(given_up)?;
        }
        fchmod(&to, permissions(&found))?;
        // Tools that build go by it.
        futimens(&to, &last_changed(&found))?;
        Ok(())
    }

    fn link(&self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<(), NotCopied> {
        let target = match readlinkat(from, name, Vec::new()) {
            // Something else is in its place.
            Err(Errno::INVAL) => return Ok(()),
            Err(error) if is_gone(error) => return Ok(()),
            target => target?,
        };
        symlinkat(&*target, to, name)?;
        if let Some((user, group)) = self.owner.map(ids) {
            chownat(to, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

/// It vanished, or something else is in its place, which is not followed.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO)
}

/// What may be done with it, without the bits that lend somebody's rights.
fn permissions(found: &Stat) -> Mode {
    Mode::from_raw_mode(found.st_mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO)
}

fn last_changed(found: &Stat) -> Timestamps {
    let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let changed = Timespec { tv_sec: found.st_mtime, tv_nsec: found.st_mtime_nsec.try_into().unwrap_or_default() };
    Timestamps { last_access: omitted, last_modification: changed }
}

fn ids(owner: Identity) -> (Uid, Gid) {
    (Uid::from_raw(owner.number()), Gid::from_raw(owner.number()))
}

fn give(made: impl AsFd, owner: Option<Identity>) -> Result<(), NotCopied> {
    match owner.map(ids) {
        Some((user, group)) => Ok(fchown(made, Some(user), Some(group))?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
