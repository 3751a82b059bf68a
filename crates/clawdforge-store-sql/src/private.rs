//! The files beside and behind the database, for their owner only.
//!
//! Nothing here may open the database file while SQLite has it open in this process: POSIX file
//! locks belong to the process, and closing any handle of the file would drop SQLite's
//! (<https://sqlite.org/howtocorrupt.html>, 2.2). Hence the lock lies in a file of its own and is
//! taken first.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::OpenError;

/// Mode of every file of the store: prompts, answers and token hashes are nobody else's business.
const MODE: u32 = 0o600;

/// The exclusive right to a database, given back when dropped or when the process is gone.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// How long the right to a database is waited for. A server that is killed while it starts an agent leaves a
/// child that holds the lock until it has become the agent's program or has ended: milliseconds, on a machine
/// that is short of everything a good part of a second. Another server keeps it for longer.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Pause between two looks.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

impl Lock {
    /// Takes the right to the database at `path`, by a lock on `<path>.lock`; waits a little where somebody has it.
    pub(crate) async fn take(path: &Path) -> Result<Self, OpenError> {
        let beside = with_suffix(path, ".lock");
        // The lock file stays for ever: erasing it would let two servers lock two files of one name.
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(&beside);
        let file = opened.map_err(|error| not_writable(&beside, &error))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if began.elapsed() >= LOCK_WAIT_MAX => {
                    return Err(OpenError::Locked { path: path.to_owned() });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
                Err(TryLockError::Error(error)) => {
                    let reason = format!("the file system refused a lock: {error}");
                    return Err(OpenError::Other { path: beside, reason });
                }
            }
        }
    }
}

/// Sees to it that the database exists and that no other user can read it or its companions.
/// SQLite gives the log and the shared memory the mode of the database.
pub(crate) fn make_private(path: &Path) -> Result<(), OpenError> {
    match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(not_writable(path, &error)),
    }
    for file in [path.to_owned(), with_suffix(path, "-wal"), with_suffix(path, "-shm")] {
        tighten(&file).map_err(|error| not_writable(&file, &error))?;
    }
    Ok(())
}

/// The path with something added to its last component.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes a file away from other users, for example after it was restored from a backup.
fn tighten(path: &Path) -> io::Result<()> {
    let mode = match std::fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "other users could read this file; it is now private");
        std::fs::set_permissions(path, Permissions::from_mode(MODE))?;
    }
    Ok(())
}

fn not_writable(path: &Path, error: &io::Error) -> OpenError {
    OpenError::NotWritable { path: path.to_owned(), reason: error.to_string() }
}
