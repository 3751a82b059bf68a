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
    /// Where locks keep nobody out it is refused, unless that is `despite`.
    pub(crate) async fn take(path: &Path, despite: bool) -> Result<Self, OpenError> {
        Self::take_with(path, despite, File::try_lock).await
    }

    async fn take_with(path: &Path, despite: bool, lock: TryLock) -> Result<Self, OpenError> {
        let beside = with_suffix(path, ".lock");
        // The lock file stays for ever: erasing it would let two servers lock two files of one name.
        let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(&beside);
        let file = open().map_err(|error| not_writable(&beside, &error))?;
        let unlocked = |how: String| {
            let reason = format!("on this file system, {}, {how}", file_system(&file));
            OpenError::NoLocks { path: path.to_owned(), reason }
        };
        let began = Instant::now();
        loop {
            match lock(&file) {
                Ok(()) if despite => return Ok(Self { _file: file }),
                // Measured rather than known by the name of the file system: its mount options decide.
                Ok(()) => match lock(&open().map_err(|error| not_writable(&beside, &error))?) {
                    Err(TryLockError::WouldBlock) => return Ok(Self { _file: file }),
                    Ok(()) => return Err(unlocked("a lock keeps nobody out".to_owned())),
                    Err(TryLockError::Error(error)) => return Err(unlocked(format!("a lock fails: {error}"))),
                },
                Err(TryLockError::WouldBlock) if began.elapsed() >= LOCK_WAIT_MAX => {
                    return Err(OpenError::Locked { path: path.to_owned() });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
                Err(TryLockError::Error(_)) if despite => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(unlocked(format!("a lock fails: {error}"))),
            }
        }
    }
}

/// How a file is locked; another way in tests only.
type TryLock = fn(&File) -> Result<(), TryLockError>;

/// The file system a file lies in, as its type is called, or by its number.
fn file_system(file: &File) -> String {
    const NAMES: [(i64, &str); 6] = [
        (0x6969, "NFS"),
        (0x0102_1997, "9p"),
        (0xff53_4d42, "SMB"),
        (0xfe53_4d42, "SMB"),
        (0x6573_5546, "FUSE"),
        (0x794c_7630, "overlay"),
    ];
    match rustix::fs::fstatfs(file) {
        Ok(found) => {
            let kind = found.f_type;
            let name = NAMES.iter().find(|(number, _)| *number == kind);
            name.map_or_else(|| format!("of type {kind:#x}"), |(_, name)| (*name).to_owned())
        }
        Err(_) => "of a type that it does not tell".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(lock: TryLock) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        assert!(Lock::take_with(&path, true, lock).await.is_ok(), "allowed by the option");
        let error = Lock::take_with(&path, false, lock).await.unwrap_err();
        assert!(matches!(error, OpenError::NoLocks { .. }), "{error:?}");
        error.to_string()
    }

    #[tokio::test]
    async fn a_file_system_on_which_a_lock_keeps_nobody_out_is_refused() {
        let told = refused(|_| Ok(())).await;
        assert!(told.contains("a lock keeps nobody out") && told.contains("no-locks"), "{told}");
    }

    #[tokio::test]
    async fn a_file_system_that_knows_no_locks_is_refused_with_its_word_for_it() {
        let told = refused(|_| Err(TryLockError::Error(io::ErrorKind::Unsupported.into()))).await;
        assert!(told.contains("a lock fails: unsupported"), "{told}");
    }

    #[tokio::test]
    async fn measuring_a_lock_does_not_give_it_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let held = Lock::take(&path, false).await.unwrap();
        let other = File::open(with_suffix(&path, ".lock")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        other.try_lock().unwrap();
    }
}
