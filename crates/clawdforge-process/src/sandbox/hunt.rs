//! A search for a secret in everything that a process can see: files it may guess, its own and everybody's folders below
//! `/proc`, other processes' memory, and the folders that everybody shares.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::roots::of_the_system;

/// How long one search may take. One that is not through by then has found nothing out.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes that are read of one file, beyond which there is only more of the same.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Bytes of memory that are read of one process: all that a small service has.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// Bytes of memory that are read at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// Folders below each other that are gone into.
const DEPTH_MAX: usize = 12;

/// Where the kernel tells of itself.
const KERNELS_OWN: [&str; 2] = ["proc", "sys"];

/// What everybody shares.
const SHARED: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run"];

/// Files of a process that tell of it.
const TELLING: [&str; 12] = [
    "environ",
    "cmdline",
    "comm",
    "mountinfo",
    "mountstats",
    "maps",
    "status",
    "stat",
    "cgroup",
    "limits",
    "io",
    "stack",
];

/// Files that tell of all processes.
const TELLING_OF_ALL: [&str; 6] = ["net/unix", "keys", "key-users", "locks", "sysvipc/shm", "sysvipc/msg"];

/// Looks for the needle: first in the places that are named, then in everything else. Those that are folders of processes
/// come first among the processes.
///
/// # Errors
/// Not there: `ENOENT`. Not through in time: `ETIMEDOUT`.
pub(super) fn hunt(needle: &[u8], places: Vec<PathBuf>) -> io::Result<()> {
    let hunter = Hunter { needle, until: Instant::now() + TIME_MAX };
    let (named, files): (Vec<PathBuf>, Vec<PathBuf>) = places.into_iter().partition(|place| place.starts_with("/proc"));
    let found = files.iter().any(|place| hunter.below(place, DEPTH_MAX))
        || hunter.processes(named, &files)
        || SHARED.iter().any(|place| hunter.below(Path::new(place), DEPTH_MAX));
    match found {
        true => Ok(()),
        false if hunter.is_late() => Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
        false => Err(io::Error::from_raw_os_error(libc::ENOENT)),
    }
}

/// Looks for any of the needles in every file that changed since then: in the places that are named, then in all that a
/// sandbox lets be read, and what else can be listed. What is older cannot hold them.
///
/// # Errors
/// As [`hunt`].
pub(super) fn comb(needles: &[Vec<u8>], since: i64, places: Vec<PathBuf>) -> io::Result<()> {
    let until = Instant::now() + TIME_MAX;
    let hunters: Vec<Hunter<'_>> = needles.iter().map(|needle| Hunter { needle, until }).collect();
    let system = of_the_system().into_iter().map(|rule| rule.path).filter(|path| path.is_dir());
    let own = [PathBuf::from("."), PathBuf::from("/etc"), PathBuf::from("/")];
    for place in places.into_iter().chain(system).chain(own) {
        let mut fresh = Vec::new();
        changed_below(&place, since, DEPTH_MAX, until, &mut fresh);
        if fresh.iter().any(|path| hunters.iter().any(|hunter| hunter.bytes_of(path))) {
            return Ok(());
        }
    }
    Err(io::Error::from_raw_os_error(if Instant::now() > until { libc::ETIMEDOUT } else { libc::ENOENT }))
}

/// The files below a place that changed since then; nothing of the kernel's own, which is looked at by process.
fn changed_below(path: &Path, since: i64, depth: usize, until: Instant, fresh: &mut Vec<PathBuf>) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    if found.is_file() {
        fresh.extend((found.ctime() >= since).then(|| path.to_owned()));
    } else if found.is_dir()
        && depth > 0
        && Instant::now() < until
        && !KERNELS_OWN.iter().any(|own| path.ends_with(own))
    {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            changed_below(&entry.path(), since, depth - 1, until, fresh);
        }
    }
}

struct Hunter<'a> {
    needle: &'a [u8],
    until: Instant,
}

impl Hunter<'_> {
    fn is_late(&self) -> bool {
        Instant::now() > self.until
    }

    /// Whether a file, or anything in a folder, holds it. What cannot be read does not.
    fn below(&self, path: &Path, depth: usize) -> bool {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => self.folder(path, depth),
            Ok(found) => self.file(path, &found),
            Err(_) => false,
        }
    }

    fn folder(&self, path: &Path, depth: usize) -> bool {
        if depth == 0 || self.is_late() {
            return false;
        }
        let Ok(entries) = fs::read_dir(path) else { return false };
        // A name may be one as well.
        entries.flatten().any(|entry| {
            self.is_in(entry.path().as_os_str().as_encoded_bytes()) || { self.below(&entry.path(), depth - 1) }
        })
    }

    fn file(&self, path: &Path, found: &Metadata) -> bool {
        found.is_file() && self.bytes_of(path)
    }

    /// As [`Self::file`]; and what waits in a pipe, such as the standard input of a child, unless it is one's own.
    fn open_file(&self, path: &Path, found: &Metadata, own: bool) -> bool {
        self.file(path, found) || (!own && found.file_type().is_fifo() && self.bytes_of(path))
    }

    fn bytes_of(&self, path: &Path) -> bool {
        let mut bytes = Vec::new();
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        // As much as there was, where it ends with an error.
        let read = opened.and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        (read.is_ok() || !bytes.is_empty()) && self.is_in(&bytes)
    }

    fn processes(&self, named: Vec<PathBuf>, files: &[PathBuf]) -> bool {
        if TELLING_OF_ALL.iter().any(|name| self.bytes_of(&Path::new("/proc").join(name))) {
            return true;
        }
        let Ok(entries) = fs::read_dir("/proc") else { return false };
        let is_number =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok());
        let all = entries.flatten().map(|entry| entry.path()).filter(is_number);
        named.into_iter().chain(all).any(|process| self.process(&process, files))
    }

    fn process(&self, process: &Path, files: &[PathBuf]) -> bool {
        if self.is_late() {
            return false;
        }
        let open = || fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let root = |place: &PathBuf| process.join("root").join(place.strip_prefix("/").unwrap_or(place));
        // Its own memory holds what it looks for.
        let own = process.file_name().is_some_and(|name| name.to_string_lossy() == std::process::id().to_string());
        TELLING.iter().any(|name| self.bytes_of(&process.join(name)))
            || open()
                .any(|entry| fs::metadata(entry.path()).is_ok_and(|found| self.open_file(&entry.path(), &found, own)))
            || files.iter().any(|place| self.below(&root(place), DEPTH_MAX))
            || (!own && (self.folder(&process.join("cwd"), 2) || self.memory(process)))
    }

    fn memory(&self, process: &Path) -> bool {
        let (Ok(memory), Ok(maps)) = (File::open(process.join("mem")), fs::read_to_string(process.join("maps"))) else {
            return false;
        };
        let place = |line: &str| -> Option<(u64, u64)> {
            let (range, rest) = line.split_once(' ')?;
            let (from, to) = range.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            rest.starts_with("rw").then_some((number(from)?, number(to)?))
        };
        let mut left = MEMORY_BYTES_MAX;
        let mut chunk = vec![0; usize::try_from(CHUNK_BYTES).unwrap_or(usize::MAX)];
        for (from, to) in maps.lines().filter_map(place) {
            // One chunk laps over the next, so that nothing is cut in two.
            let step = CHUNK_BYTES - self.needle.len() as u64;
            for at in (from..to).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
                if left == 0 || self.is_late() {
                    return false;
                }
                left = left.saturating_sub(step);
                let wanted = usize::try_from((to - at).min(CHUNK_BYTES)).unwrap_or(usize::MAX);
                let Some(part) = chunk.get_mut(..wanted) else { continue };
                if memory.read_at(part, at).is_ok_and(|read| self.is_in(part.get(..read).unwrap_or_default())) {
                    return true;
                }
            }
        }
        false
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        #[expect(unsafe_code, reason = "the one quick search of the standard C library; a loop of ours takes seconds")]
        // SAFETY: both are readable for as long as they say, and nothing is written.
        let found =
            unsafe { libc::memmem(bytes.as_ptr().cast(), bytes.len(), self.needle.as_ptr().cast(), self.needle.len()) };
        !found.is_null()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(needle: &str, place: &Path) -> Option<i32> {
        hunt(needle.as_bytes(), vec![place.to_owned()]).err().and_then(|error| error.raw_os_error())
    }

    #[test]
    fn a_secret_is_found_in_a_file_below_and_in_a_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/named-secret-b9")).unwrap();
        fs::write(dir.path().join("a/file"), "before secret-a7 behind").unwrap();
        assert_eq!(found("secret-a7", dir.path()), None);
        assert_eq!(found("secret-b9", dir.path()), None);
    }

    #[test]
    fn what_changed_since_is_combed_for_every_secret_and_what_did_not_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "before secret-c3 behind").unwrap();
        let now = fs::metadata(dir.path().join("file")).unwrap().ctime();
        let mut fresh = Vec::new();
        changed_below(dir.path(), now + 1, 2, Instant::now() + TIME_MAX, &mut fresh);
        assert_eq!(fresh, Vec::<PathBuf>::new());
        let needles = [b"secret-d4".to_vec(), b"secret-c3".to_vec()];
        assert!(comb(&needles, now, vec![dir.path().to_owned()]).is_ok());
    }

    #[test]
    fn a_secret_is_found_in_the_memory_of_another_process() {
        use std::io::BufRead as _;
        let script = "s=secret; s=$s-in-memory-5d; echo ready; read x";
        #[expect(clippy::disallowed_methods, reason = "a plain child of this test, which waits for its end")]
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let hunter = Hunter { needle: b"secret-in-memory-5d", until: Instant::now() + TIME_MAX };
        let place = PathBuf::from(format!("/proc/{}", child.id()));
        let seen = File::open(place.join("mem")).is_ok();
        assert_eq!(hunter.memory(&place), seen, "it is found wherever it may be looked at");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
