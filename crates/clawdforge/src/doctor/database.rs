//! The database: whole, and of this version.
//!
//! A service that runs on it is left alone: its own answer counts. Whether one does is read from the
//! kernel's list of locks, because trying the lock could make a starting service fail.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use clawdforge_store_sql::{Check as Found, inspect};
use tokio::time::timeout;

use super::Check;
use super::port::Listener;
use crate::config::Config;
use crate::serve::DATABASE;

/// How long the check may take; it reads about a gigabyte in a few seconds.
const CHECK_WAIT_MAX: Duration = Duration::from_secs(30);

const NAME: &str = "database";

/// A write-ahead log beyond this has not been moved into the database for long.
const LOG_BYTES_USUAL: u64 = 64 * 1024 * 1024;

/// Checks the database of the data directory.
pub async fn check(config: &Config, listener: &Listener) -> Check {
    let path = config.data_dir.join(DATABASE);
    if !path.exists() {
        return Check::ok(NAME, "none yet; it is made at the first start");
    }
    if let Some(pid) = lock_holder(&path) {
        return match listener {
            Listener::Ours { .. } => Check::ok(NAME, format!("in use by the running service (process {pid})")),
            Listener::Nobody | Listener::Other { .. } | Listener::Refused(_) => Check::warn(
                NAME,
                format!("in use by process {pid}, but no service answers at {}", config.listen),
                "start this with the flags of that service, above all --listen",
            ),
        };
    }
    match timeout(CHECK_WAIT_MAX, inspect(&path)).await {
        Ok(Ok(found)) => judge(&path, &found),
        Ok(Err(error)) => Check::fail(NAME, error.to_string(), "run this as the service's user, or restore a backup"),
        Err(_) => Check::warn(
            NAME,
            format!("the check did not finish within {} s", CHECK_WAIT_MAX.as_secs()),
            format!("run `sqlite3 {} 'PRAGMA quick_check'` while the service is stopped", path.display()),
        ),
    }
}

fn judge(path: &Path, found: &Found) -> Check {
    if let Some(first) = found.problems.first() {
        let what = format!("{} is damaged: {first}", path.display());
        return Check::fail(NAME, what, "restore it from a backup, or move it away to start empty");
    }
    let size = found.pages.saturating_mul(found.page_bytes).div_ceil(1_000_000);
    let what = format!("whole, {size} MB, schema {}", found.schema);
    if found.log_bytes > LOG_BYTES_USUAL {
        let log = found.log_bytes / 1_000_000;
        return Check::warn(
            NAME,
            format!("{what}; its log has {log} MB"),
            "start the service once; it moves the log into the database",
        );
    }
    Check::ok(NAME, what)
}

/// Whether a process has the data directory.
pub fn is_in_use(config: &Config) -> bool {
    lock_holder(&config.data_dir.join(DATABASE)).is_some()
}

/// The process that holds the lock beside the database, if one does.
fn lock_holder(database: &Path) -> Option<String> {
    let mut lock = database.as_os_str().to_owned();
    lock.push(".lock");
    let inode = fs::metadata(Path::new(&lock)).ok()?.ino();
    holder_in(&fs::read_to_string("/proc/locks").ok()?, inode)
}

/// Lines look like `1: FLOCK  ADVISORY  WRITE 4711 08:01:393 0 EOF`; devices are not compared, because
/// some file systems report another one there.
fn holder_in(locks: &str, inode: u64) -> Option<String> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, pid) = (words.next()?, words.nth(2)?);
        let file = words.next()?.rsplit(':').next()?;
        (kind == "FLOCK" && file == inode.to_string()).then(|| pid.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn found() -> Found {
        Found { problems: Vec::new(), schema: 1, page_bytes: 4096, pages: 300, free_pages: 0, log_bytes: 0 }
    }

    #[test]
    fn damage_is_a_failure_and_a_long_log_a_warning() {
        let path = Path::new("/data/x.sqlite");
        assert_eq!(judge(path, &found()), Check::ok(NAME, "whole, 2 MB, schema 1"));
        let damaged = Found { problems: vec!["row 3 missing from index".to_owned()], ..found() };
        assert_eq!(judge(path, &damaged).verdict, Verdict::Fail);
        let long = Found { log_bytes: LOG_BYTES_USUAL + 1, ..found() };
        assert_eq!(judge(path, &long).verdict, Verdict::Warn);
    }

    #[test]
    fn the_holder_of_a_lock_is_found_by_the_files_number() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:393 0 EOF\n2: FLOCK  ADVISORY  WRITE 4711 08:01:393 0 EOF\n";
        assert_eq!(holder_in(locks, 393), Some("4711".to_owned()));
        assert_eq!(holder_in(locks, 39), None);
    }

    #[test]
    fn a_lock_that_is_really_held_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("x.sqlite");
        let lock = fs::File::create(dir.path().join("x.sqlite.lock")).unwrap();
        assert_eq!(lock_holder(&database), None);
        lock.try_lock().unwrap();
        assert_eq!(lock_holder(&database), Some(std::process::id().to_string()));
    }
}
