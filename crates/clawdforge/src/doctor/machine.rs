//! The machine: disk, clock, open files, memory.

use std::path::Path;
use std::time::Duration;

use clawdforge_core::time::Timestamp;
use rustix::process::{Resource, getrlimit};

use super::Check;
use crate::config::Config;

const MIB: u64 = 1024 * 1024;

/// Free bytes below which uploads and the database soon have no room.
const DISK_BYTES_SCARCE: u64 = 1024 * MIB;

/// Free bytes below which the ledger may soon not be written, and then no run starts.
const DISK_BYTES_MIN: u64 = 100 * MIB;

/// No clock of a machine that runs this release shows less: 2026-01-01.
const EARLIEST: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// How far a file's time may be ahead before the clock is suspected.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// Open files for 64 connections and 8 agents many times over; the usual hard limit is far above.
const OPEN_FILES_MIN: u64 = 4096;

/// What one working agent takes: 201 MB at its peak (Claude Code, measured), and something to spare.
const AGENT_BYTES: u64 = 250 * 1_000_000;

/// Checks what the service needs of the machine.
pub fn check(config: &Config, now: Timestamp) -> Vec<Check> {
    let mut checks = vec![disk(&config.data_dir), clock(now, newest_in(&config.data_dir))];
    checks.push(open_files(getrlimit(Resource::Nofile).maximum));
    checks.extend(available_memory().map(|bytes| memory(bytes, config.slots)));
    checks
}

fn disk(data_dir: &Path) -> Check {
    let name = "disk space";
    let there = data_dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(found) => judge_disk(found.f_bavail.saturating_mul(found.f_frsize), data_dir),
        Err(error) => Check::warn(name, format!("{} does not tell: {error}", there.display()), "look with `df`"),
    }
}

fn judge_disk(free: u64, data_dir: &Path) -> Check {
    let (name, mib) = ("disk space", free / MIB);
    let what = format!("{mib} MiB free for {}", data_dir.display());
    let todo = "make room, or move the data directory; `run_retention_secs` says how long runs are kept";
    match free {
        free if free < DISK_BYTES_MIN => Check::fail(name, what, todo),
        free if free < DISK_BYTES_SCARCE => Check::warn(name, what, todo),
        _ => Check::ok(name, what),
    }
}

fn clock(now: Timestamp, newest: Option<Timestamp>) -> Check {
    let (name, todo) = ("clock", "set the clock, and let it be kept by NTP (`timedatectl set-ntp true`)");
    if now < EARLIEST {
        return Check::fail(name, format!("it is {now} here, before this release was made"), todo);
    }
    if let Some(newest) = newest.filter(|newest| newest.since(now) > AHEAD_MAX) {
        return Check::warn(name, format!("it is {now} here, but data was written at {newest}"), todo);
    }
    // The kernel's own flag takes a system call that safe code has no access to; this file is
    // written by systemd's time service when it is in step.
    let in_step = Path::new("/run/systemd/timesync/synchronized").exists();
    Check::ok(name, format!("{now}{}", if in_step { ", synchronised" } else { "" }))
}

/// When a file of the data directory was last written.
fn newest_in(data_dir: &Path) -> Option<Timestamp> {
    let entries = std::fs::read_dir(data_dir).ok()?.flatten();
    let written = entries.filter_map(|entry| entry.metadata().ok()?.modified().ok());
    let newest = written.max()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_micros(i64::try_from(newest.as_micros()).ok()?))
}

/// The service raises its limit to the hard one, so that is the one that counts.
fn open_files(hard_limit: Option<u64>) -> Check {
    let name = "open files";
    match hard_limit {
        Some(limit) if limit < OPEN_FILES_MIN => {
            let todo =
                format!("raise it to {OPEN_FILES_MIN}: LimitNOFILE= in the unit, `ulimits` in compose, or limits.conf");
            Check::warn(name, format!("at most {limit}"), todo)
        }
        Some(limit) => Check::ok(name, format!("at most {limit}")),
        None => Check::ok(name, "no limit"),
    }
}

fn memory(available: u64, slots: usize) -> Check {
    let name = "memory";
    let wanted = AGENT_BYTES.saturating_mul(slots as u64);
    let what =
        format!("{} MB available; {slots} agents at once may take {} MB", available / 1_000_000, wanted / 1_000_000);
    if available < wanted { Check::warn(name, what, "lower `slots`, or add memory") } else { Check::ok(name, what) }
}

/// What the kernel would give without swapping, or the container's limit where that is less.
fn available_memory() -> Option<u64> {
    let machine = available_in(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = container.and_then(|text| text.trim().parse().ok());
    Some(machine.min(limit.unwrap_or(u64::MAX)))
}

fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn little_room_is_a_warning_and_none_a_failure() {
        let judged = |mib: u64| judge_disk(mib * MIB, Path::new("/data")).verdict;
        assert_eq!(
            [judged(99), judged(100), judged(1023), judged(1024)],
            [Verdict::Fail, Verdict::Warn, Verdict::Warn, Verdict::Ok]
        );
    }

    #[test]
    fn a_clock_before_this_release_or_behind_its_own_data_is_noticed() {
        let now = EARLIEST.plus(Duration::from_secs(1_000));
        assert_eq!(clock(now, None).verdict, Verdict::Ok);
        assert_eq!(clock(now, Some(now.plus(Duration::from_secs(59)))).verdict, Verdict::Ok);
        assert_eq!(clock(now, Some(now.plus(Duration::from_secs(61)))).verdict, Verdict::Warn);
        assert_eq!(clock(Timestamp::from_micros(0), None).verdict, Verdict::Fail);
    }

    #[test]
    fn the_data_directory_tells_when_it_was_last_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(newest_in(dir.path()), None);
        std::fs::write(dir.path().join("a"), "a").unwrap();
        assert!(newest_in(dir.path()).unwrap() > EARLIEST);
    }

    #[test]
    fn few_open_files_and_little_memory_are_warnings() {
        assert_eq!(open_files(Some(1024)).verdict, Verdict::Warn);
        assert_eq!(open_files(Some(4096)).verdict, Verdict::Ok);
        assert_eq!(open_files(None).verdict, Verdict::Ok);
        assert_eq!(memory(1_000_000_000, 8).verdict, Verdict::Warn);
        assert_eq!(memory(2_000_000_000, 8).verdict, Verdict::Ok);
    }

    #[test]
    fn available_memory_is_read_in_bytes() {
        assert_eq!(available_in("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 * MIB));
        assert_eq!(available_in("MemTotal: 9 kB\n"), None);
    }
}
