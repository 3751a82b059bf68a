//! How much a folder takes on the disk, counted within bounds. Blocking.
//!
//! The folder is an agent's, who may be at work in it and does not want to be counted. So every folder in it is opened
//! from the top without following any link, whatever is put in its place meanwhile; what is counted are the blocks of
//! the disk, of a file with several names once; and the count ends with the first bound it meets. What vanishes
//! meanwhile takes nothing. What cannot be looked into is told.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, statat};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

/// Bytes in which the system counts what a file takes, whatever the disk's own blocks are.
const BLOCK_BYTES: u64 = 512;

/// Entries between two looks at the time and whether anybody still wants the count: about a millisecond's work.
const ENTRIES_PER_STEP: usize = 256;

/// How far a count goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes that may be taken.
    pub bytes: u64,
    /// Files and folders.
    pub entries: usize,
    /// Folders in each other.
    pub depth: usize,
    /// The longest time it may take.
    pub time: Duration,
}

/// What a count came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// All of it was counted: so many bytes.
    Whole(u64),
    /// No bound was met, but something was left out.
    Part(u64, LeftOut),
    /// More than may be.
    Over(Excess),
    /// Nobody wanted it any more.
    GivenUp,
}

/// Why something was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeftOut {
    /// A folder that lets the service's user not in.
    Closed,
    /// The time was over.
    Late,
    /// The system failed.
    Failed(Errno),
}

/// The bound that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// So many bytes, as far as they were counted.
    Bytes(u64),
    Entries,
    Depth,
}

/// Counts what a folder and everything in it takes. One that is not there takes nothing.
pub(super) fn count(root: &Path, bounds: Bounds, given_up: &CancellationToken) -> Count {
    match open_root(root) {
        Ok(root) => Counting::new(root, bounds).all(given_up),
        Err(Errno::NOENT) => Count::Whole(0),
        Err(error) => Count::Part(0, left_out(error)),
    }
}

struct Counting {
    root: OwnedFd,
    bounds: Bounds,
    until: Instant,
    bytes: u64,
    entries: usize,
    /// Folders to look into, below the root.
    waiting: Vec<PathBuf>,
    /// Files with several names that were counted.
    counted: HashSet<(u64, u64)>,
    left_out: Option<LeftOut>,
}

/// Why a count goes no further.
enum End {
    Over(Excess),
    Late,
    GivenUp,
}

impl Counting {
    fn new(root: OwnedFd, bounds: Bounds) -> Self {
        let until = Instant::now() + bounds.time;
        Self {
            root,
            bounds,
            until,
            bytes: 0,
            entries: 0,
            waiting: vec![PathBuf::new()],
            counted: HashSet::new(),
            left_out: None,
        }
    }

    fn all(mut self, given_up: &CancellationToken) -> Count {
        while let Some(folder) = self.waiting.pop() {
            match self.folder(&folder, given_up) {
                Ok(()) => {}
                Err(End::Over(excess)) => return Count::Over(excess),
                Err(End::GivenUp) => return Count::GivenUp,
                Err(End::Late) => return Count::Part(self.bytes, LeftOut::Late),
            }
        }
        match self.left_out {
            None => Count::Whole(self.bytes),
            Some(why) => Count::Part(self.bytes, why),
        }
    }

    fn folder(&mut self, path: &Path, given_up: &CancellationToken) -> Result<(), End> {
        let opened = open_below(&self.root, path).and_then(|fd| Ok((Dir::read_from(&fd)?, fd)));
        let (listed, fd) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.missed(error),
        };
        for entry in listed {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.missed(error),
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > self.bounds.entries {
                return Err(End::Over(Excess::Entries));
            }
            if self.entries.is_multiple_of(ENTRIES_PER_STEP) {
                self.go_on(given_up)?;
            }
            match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => self.add(&found, || path.join(OsStr::from_bytes(name.to_bytes())))?,
                Err(error) => self.missed(error)?,
            }
        }
        self.go_on(given_up)
    }

    fn go_on(&self, given_up: &CancellationToken) -> Result<(), End> {
        if given_up.is_cancelled() {
            return Err(End::GivenUp);
        }
        if Instant::now() >= self.until { Err(End::Late) } else { Ok(()) }
    }

    fn add(&mut self, found: &Stat, path: impl FnOnce() -> PathBuf) -> Result<(), End> {
        if FileType::from_raw_mode(found.st_mode).is_dir() {
            let path = path();
            if path.components().count() > self.bounds.depth {
                return Err(End::Over(Excess::Depth));
            }
            self.waiting.push(path);
        } else if found.st_nlink > 1 && !self.counted.insert((found.st_dev, found.st_ino)) {
            return Ok(());
        }
        let blocks = u64::try_from(found.st_blocks).unwrap_or_default();
        self.bytes = self.bytes.saturating_add(blocks.saturating_mul(BLOCK_BYTES));
        if self.bytes > self.bounds.bytes { Err(End::Over(Excess::Bytes(self.bytes))) } else { Ok(()) }
    }

    /// Something could not be looked at.
    fn missed(&mut self, error: Errno) -> Result<(), End> {
        match error {
            // It is gone, or something else is in its place, which is not followed.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {}
            Errno::NAMETOOLONG => return Err(End::Over(Excess::Depth)),
            error => self.left_out = Some(left_out(error)),
        }
        Ok(())
    }
}

fn left_out(error: Errno) -> LeftOut {
    if matches!(error, Errno::ACCESS | Errno::PERM) { LeftOut::Closed } else { LeftOut::Failed(error) }
}

pub(crate) const FOLDER: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::RDONLY).union(OFlags::CLOEXEC);

fn open_root(path: &Path) -> rustix::io::Result<OwnedFd> {
    openat(CWD, path, FOLDER, Mode::empty())
}

/// Opens a folder below another one, with no link anywhere on the way.
pub(crate) fn open_below(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    if path.as_os_str().is_empty() {
        return openat(root, ".", FOLDER, Mode::empty());
    }
    match openat2(root, path, FOLDER, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH) {
        // Kernels before 5.6 do not have it, and some filters of containers do not let it through.
        Err(Errno::NOSYS | Errno::PERM) => open_step_by_step(root, path),
        opened => opened,
    }
}

fn open_step_by_step(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let mut at = openat(root, ".", FOLDER, Mode::empty())?;
    for step in path.components() {
        if let Component::Normal(name) = step {
            at = openat(&at, name, FOLDER, Mode::empty())?;
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests;
