//! Reading `/proc`: who exists, whose child it is, and which mark it carries.
//!
//! The file system is a moving picture: a process may vanish between two reads (that is "gone", never an
//! error), and one pass is no snapshot. Callers repeat passes until they agree. All of it blocks.

use std::fs::File;
use std::io::{self, Read as _};

use crate::mark::TREE_MARK_VARIABLE;

/// Bytes of `/proc/PID/stat` that are read: 52 numbers and a name of at most 64 bytes fit several times.
const STAT_BYTES_MAX: u64 = 4 * 1024;

/// Bytes of one process's environment that are read: the kernel's own bound for arguments and
/// environment together is a quarter of an 8 MiB stack; more needs a raised stack limit.
const ENVIRON_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Reads of the list of our children before it counts as restless.
const CHILDREN_READS_MAX: usize = 4;

/// A process, beyond the reuse of its number within this boot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key {
    pub pid: i32,
    pub start_ticks: u64,
}

/// One process as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub key: Key,
    pub ppid: i32,
    pub group: i32,
    pub session: i32,
    /// It has ended and only waits to be reaped.
    pub ended: bool,
}

/// Every process that is visible, without the threads of the kernel, which are nobody's and never become anybody's. An
/// error means that the picture would have holes.
pub(crate) fn everyone() -> io::Result<Vec<Entry>> {
    let mut entries = Vec::with_capacity(256);
    let mut bytes = Vec::with_capacity(1024);
    for item in std::fs::read_dir("/proc")? {
        let Some(pid) = item?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        entries.extend(read_entry(pid, &mut bytes)?.filter(|_| !is_of_kernel(&bytes)));
    }
    Ok(entries)
}

/// One process, or nothing when it is gone.
pub(crate) fn entry(pid: i32) -> io::Result<Option<Entry>> {
    read_entry(pid, &mut Vec::new())
}

/// The number that was given away last in our namespace of processes; whoever got it may be gone or not there yet.
pub(crate) fn newest() -> io::Result<i32> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let last = text.split_ascii_whitespace().next_back().and_then(|number| number.parse().ok());
    last.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/loadavg is unreadable"))
}

/// Whether the process was started with a mark that `wanted` accepts. What may not be read has no mark; of one without
/// any environment, as of one that is ending or gone, nobody knows.
pub(crate) fn carries_mark(pid: i32, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Option<bool>> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/environ"));
    match file.and_then(|file| file.take(ENVIRON_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(marks_in(&bytes).any(wanted))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Some(false)),
        Err(error) => Err(error),
    }
}

/// The session of this process; 0 when its leader is outside of our PID namespace, as it is for what a
/// container runtime or `unshare --pid` started without a session of its own.
pub(crate) fn own_session() -> io::Result<i32> {
    // Not `rustix::process::getsid`: it takes 0 for impossible.
    let us = rustix::process::getpid().as_raw_pid();
    let entry = entry(us)?.ok_or_else(|| io::Error::other("/proc does not show this process; is it mounted?"))?;
    Ok(entry.session)
}

/// The children of this process, by any of its threads; nothing when the kernel does not list them or
/// they come and go too fast. Far cheaper than a pass over everyone.
pub(crate) fn own_children() -> Option<Vec<i32>> {
    // The kernel may skip a child when one that it listed before ends during the read. That one is then
    // missing from the next read, so two equal reads in a row are complete.
    let mut before = read_own_children().ok()?;
    for _ in 1..CHILDREN_READS_MAX {
        let now = read_own_children().ok()?;
        if now == before {
            return Some(now);
        }
        before = now;
    }
    None
}

/// The kernel's random id of this boot.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn read_own_children() -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    let mut text = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        let path = thread?.path().join("children");
        text.clear();
        match File::open(&path).and_then(|mut file| file.read_to_end(&mut text)) {
            Ok(_) => {}
            // The thread ended in between; its children moved to another one. Without the kernel option
            // every thread lacks the file, and the error of our own thread says so.
            Err(error) if is_gone(&error) && path_exists("/proc/thread-self/children") => continue,
            Err(error) => return Err(error),
        }
        let numbers = text.split(u8::is_ascii_whitespace).filter_map(parse_number);
        children.extend(numbers.filter_map(|number| i32::try_from(number).ok()));
    }
    children.sort_unstable();
    Ok(children)
}

fn path_exists(path: &str) -> bool {
    std::fs::metadata(path).is_ok()
}

fn read_entry(pid: i32, bytes: &mut Vec<u8>) -> io::Result<Option<Entry>> {
    if !read_if_there(&format!("/proc/{pid}/stat"), STAT_BYTES_MAX, bytes)? {
        return Ok(None);
    }
    match parse_stat(bytes) {
        Some(entry) => Ok(Some(entry)),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is unreadable"))),
    }
}

/// Reads a file of a process, or says that the process is gone or hidden from us.
fn read_if_there(path: &str, bytes_max: u64, bytes: &mut Vec<u8>) -> io::Result<bool> {
    bytes.clear();
    match File::open(path).and_then(|file| file.take(bytes_max).read_to_end(bytes)) {
        Ok(_) => Ok(true),
        Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// The name is in parentheses and may itself hold spaces, parentheses and line breaks, so the fields
/// count from the last closing one.
fn parse_stat(bytes: &[u8]) -> Option<Entry> {
    let pid = parse_number(bytes.split(|byte| *byte == b' ').next()?)?;
    let name_end = bytes.iter().rposition(|byte| *byte == b')')?;
    let mut fields = bytes.get(name_end + 1..)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    let mut id = || i32::try_from(parse_number(fields.next()?)?).ok();
    let (ppid, group, session) = (id()?, id()?, id()?);
    // Fields 4 to 6 are taken; the start time is field 22.
    let start_ticks = u64::try_from(parse_number(fields.nth(15)?)?).ok()?;
    let key = Key { pid: i32::try_from(pid).ok()?, start_ticks };
    Some(Entry { key, ppid, group, session, ended: matches!(state, b'Z' | b'X' | b'x') })
}

/// Whether a line is about a thread of the kernel. These have no environment, as what is just ending has none, and whoever
/// looks for marks would take each of them for somebody that was missed.
fn is_of_kernel(stat: &[u8]) -> bool {
    /// `PF_KTHREAD` of the kernel's `sched.h`, in field 9; no program can set it.
    const KERNEL_THREAD: i64 = 0x0020_0000;
    let name_end = stat.iter().rposition(|byte| *byte == b')').unwrap_or(0);
    let mut fields =
        stat.get(name_end + 1..).unwrap_or_default().split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    fields.nth(6).and_then(parse_number).is_some_and(|flags| flags & KERNEL_THREAD != 0)
}

fn parse_number(field: &[u8]) -> Option<i64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn marks_in(environ: &[u8]) -> impl Iterator<Item = &[u8]> {
    environ
        .split(|byte| *byte == 0)
        .filter_map(|entry| entry.strip_prefix(TREE_MARK_VARIABLE.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(name: &str, state: char) -> Vec<u8> {
        format!("4242 ({name}) {state} 7 4200 4100 34816 4200 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3\n")
            .into_bytes()
    }

    #[test]
    fn a_stat_line_is_read_whatever_the_process_calls_itself() {
        for name in ["sh", "a b", "(x)", "x) Z 1 1 1", ")) S 9", "", "line\nbreak", "\u{1f600}"] {
            let expected = Entry {
                key: Key { pid: 4242, start_ticks: 987_654 },
                ppid: 7,
                group: 4200,
                session: 4100,
                ended: false,
            };
            assert_eq!(parse_stat(&stat(name, 'S')), Some(expected), "{name:?}");
        }
    }

    #[test]
    fn threads_of_the_kernel_are_told_by_their_flags() {
        let line = stat("kworker/0:1) (x", 'S');
        assert!(!is_of_kernel(&line) && !is_of_kernel(b""));
        let line = String::from_utf8(line).unwrap().replace("4194304", "69238880");
        assert!(is_of_kernel(line.as_bytes()));
        let pids: Vec<i32> = everyone().unwrap().iter().map(|entry| entry.key.pid).collect();
        assert!(pids.contains(&std::process::id().cast_signed()));
        let kernels = |pid: &i32| std::fs::read(format!("/proc/{pid}/stat")).is_ok_and(|line| is_of_kernel(&line));
        assert_eq!(pids.into_iter().find(kernels), None);
    }

    #[test]
    fn a_name_that_is_no_text_does_not_matter() {
        let mut line = stat("????", 'R');
        for byte in &mut line {
            if *byte == b'?' {
                *byte = 0xff;
            }
        }
        assert_eq!(parse_stat(&line).map(|entry| entry.key.pid), Some(4242));
    }

    #[test]
    fn zombies_have_ended_and_stopped_ones_have_not() {
        let ended = |state| parse_stat(&stat("sh", state)).map(|entry| entry.ended);
        assert_eq!((ended('Z'), ended('X')), (Some(true), Some(true)));
        assert_eq!((ended('T'), ended('D'), ended('t')), (Some(false), Some(false), Some(false)));
    }

    #[test]
    fn a_torn_stat_line_is_nobody() {
        for line in ["", "12", "12 (sh", "12 (sh)", "12 (sh) S 1 2", "x (sh) S 1 2 3"] {
            assert_eq!(parse_stat(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn only_whole_marks_count() {
        let marks = |environ: &'static [u8]| marks_in(environ).collect::<Vec<_>>();
        assert_eq!(marks(b"A=1\0CLAWDFORGE_TREE=m1\0B=2\0"), [b"m1"]);
        assert_eq!(marks(b"CLAWDFORGE_TREE=m1"), [b"m1"]);
        assert!(marks(b"XCLAWDFORGE_TREE=m1\0CLAWDFORGE_TREES=m1\0A=CLAWDFORGE_TREE=m1\0").is_empty());
    }

    #[test]
    fn we_see_ourselves() {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let own = entry(pid).unwrap().unwrap();
        assert_eq!(own.key.pid, pid);
        assert_eq!(own.session, own_session().unwrap());
        assert!(everyone().unwrap().iter().any(|entry| entry.key == own.key));
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(newest().unwrap() > 0);
    }
}
