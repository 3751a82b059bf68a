//! What a hostile agent would try beyond the [attacks](super::Attack) of the probe: tricks around a refusal, tries at
//! what is [not endless](greed), and a search for a secret in everything that can be seen.
//!
//! Each is one line of words, a verb and what it aims at, so that the demo agent can be told to; each answers
//! `outcome errno`. What a try needs, it makes in its working directory; what it takes, it gives back, but for what is
//! taken in order to be missed by others.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Resource, prlimit};
use rustix::thread::{sched_getaffinity, sched_setaffinity};

use super::attack::Outcome;
use super::greed;
use super::hunt::{comb, hunt};

/// How long a race is run; some ten thousand rounds.
const RACE: Duration = Duration::from_millis(300);

/// How long a neighbour on this machine may take to answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// Bytes in which the kernel says how a process is scheduled: the first version of its structure, which all know.
const SCHEDULING_BYTES: usize = 48;

/// `IOPRIO_WHO_PROCESS`.
const IO_PRIORITY_OF_PROCESS: libc::c_int = 1;

/// Bytes of an answer that are looked at: its status line.
const ANSWER_BYTES: usize = 64;

/// Tries what the words say; `None` when they are none of these.
#[must_use]
pub fn try_one(words: impl Iterator<Item = OsString>) -> Option<String> {
    let words: Vec<OsString> = words.collect();
    let (verb, rest) = words.split_first()?;
    let path = |at: usize| rest.get(at).map(PathBuf::from);
    let number = |at: usize| rest.get(at)?.to_str()?.parse::<i32>().ok();
    let tried = match verb.to_str()? {
        "read" => look(&path(0)?),
        "plant" => plant(&path(0)?),
        "link" => link(&path(0)?, &path(1)?),
        "dotdot" => by_dots(&path(0)?),
        "rename-race" => rename_race(&path(0)?),
        "mount" => mount(&path(0)?),
        "set-user-id" => set_user_id(&path(0)?),
        "open-files-of" => open_files_of(number(0)?),
        "limit" => limit(number(0)?),
        "renice" => renice(number(0)?),
        "pin" => pin(number(0)?),
        "ask" => ask(u16::try_from(number(0)?).ok()?, rest.get(1)?.to_str()?),
        "many-threads" => greed::many_threads(),
        "huge-file" => greed::huge_file(),
        "fill-disk" => greed::fill_disk(),
        "fork-bomb" => greed::fork_bomb(),
        "huge-memory" => greed::huge_memory(),
        "many-handles" => greed::many_handles(),
        "spin" => greed::spin(),
        "spare-me" => spare_me(),
        "hunt" => hunt(&from_hex(rest.first()?.to_str()?)?, rest.iter().skip(1).map(PathBuf::from).collect()),
        "comb" => {
            let needles: Vec<_> = rest.first()?.to_str()?.split(',').map(from_hex).collect::<Option<_>>()?;
            comb(&needles, number(1)?.into(), rest.iter().skip(2).map(PathBuf::from).collect())
        }
        _ => return None,
    };
    let errno = tried.as_ref().err().and_then(io::Error::raw_os_error).unwrap_or(0);
    Some(format!("{} {errno}", outcome(&tried).as_str()))
}

/// As of the attacks; what ran into a limit was refused as well.
fn outcome(tried: &io::Result<()>) -> Outcome {
    match tried.as_ref().map_err(io::Error::raw_os_error) {
        Err(Some(libc::EMFILE | libc::EAGAIN | libc::EFBIG | libc::ENOMEM | libc::EDQUOT)) => Outcome::Denied,
        _ => Outcome::of(tried),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (!text.is_empty() && text.len().is_multiple_of(2)).then(|| (0..text.len()).step_by(2).map(byte).collect())?
}

pub(super) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// Lists a folder, or reads the first byte of a file.
fn look(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() {
        return fs::read_dir(path)?.try_for_each(|entry| entry.map(drop));
    }
    File::open(path)?.read(&mut [0; 1]).map(drop)
}

/// Leaves a file where a later process would take it for its own.
fn plant(path: &Path) -> io::Result<()> {
    // One folder at most: where the way to it is not there, a way made in a place of one's own leads nowhere.
    match path.parent().filter(|above| !above.as_os_str().is_empty()).map(fs::create_dir) {
        Some(Err(error)) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::write(path, "{}")
}

/// Lays a link in the place of a folder or a file of one's own.
fn link(path: &Path, target: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.and_then(|()| std::os::unix::fs::symlink(target, path))
}

/// Up beyond the top, and down again.
fn by_dots(path: &Path) -> io::Result<()> {
    fs::create_dir_all("below")?;
    let mut way = PathBuf::from("below");
    way.extend(std::iter::repeat_n("..", 64));
    way.push(path.strip_prefix("/").unwrap_or(path));
    let tried = File::open(way).and_then(|mut file| file.read(&mut [0; 1])).map(drop);
    fs::remove_dir("below")?;
    tried
}

/// Exchanges a file of one's own and a link to somebody else's, again and again, while the name is opened.
fn rename_race(path: &Path) -> io::Result<()> {
    let (name, link) = (Path::new("race"), Path::new("race-link"));
    fs::write(name, "own")?;
    let own = fs::metadata(name)?.ino();
    std::os::unix::fs::symlink(path, link)?;
    let over = Arc::new(AtomicBool::new(false));
    let racer = {
        let over = Arc::clone(&over);
        std::thread::Builder::new().name("race".to_owned()).spawn(move || {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, "race", CWD, "race-link", RenameFlags::EXCHANGE)?;
            }
            io::Result::Ok(())
        })?
    };
    let began = Instant::now();
    let mut refused = errno(libc::ETIMEDOUT);
    let mut won = false;
    while !won && began.elapsed() < RACE {
        match File::open(name).and_then(|file| file.metadata()) {
            Ok(opened) => won = opened.ino() != own,
            Err(error) => refused = error,
        }
    }
    over.store(true, Ordering::Relaxed);
    racer.join().map_err(|_| errno(libc::EIO))??;
    fs::remove_file(name)?;
    fs::remove_file(link)?;
    if won { Ok(()) } else { Err(refused) }
}

/// Lays somebody else's folder over one of one's own.
fn mount(path: &Path) -> io::Result<()> {
    fs::create_dir_all("laid-over")?;
    let tried = rustix::mount::mount_bind(path, "laid-over");
    if tried.is_ok() {
        rustix::mount::unmount("laid-over", rustix::mount::UnmountFlags::DETACH)?;
    }
    fs::remove_dir("laid-over")?;
    Ok(tried?)
}

/// Runs a copy of `cat` whose file says that it runs as its owner, and looks at what it became.
fn set_user_id(program: &Path) -> io::Result<()> {
    let ran = Command::new(program).arg("/proc/self/status").env_clear().output();
    // One that cannot be run says nothing about what it would have become.
    let output = ran.map_err(|_| errno(libc::EPROTO))?;
    let status = String::from_utf8_lossy(&output.stdout);
    let words = |name: &str| -> Option<Vec<&str>> {
        Some(status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().collect())
    };
    let (users, powers) = (words("Uid:"), words("CapEff:"));
    match (users.as_deref(), powers.as_deref()) {
        (Some([real, effective, ..]), Some([powers])) => {
            let gained = real != effective || powers.bytes().any(|digit| digit != b'0');
            if gained { Ok(()) } else { Err(errno(libc::EPERM)) }
        }
        _ => Err(errno(libc::EPROTO)),
    }
}

/// Opens one of the files that another process has open.
fn open_files_of(process: i32) -> io::Result<()> {
    let mut refused = errno(libc::ENOENT);
    for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
        // The other end of a pipe is not waited for.
        match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(entry?.path()) {
            Ok(_) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn process(number: i32) -> io::Result<Pid> {
    Pid::from_raw(number).ok_or_else(|| errno(libc::EINVAL))
}

/// Sets a limit of another process, to what it is, so that success changes nothing.
fn limit(number: i32) -> io::Result<()> {
    let text = fs::read_to_string(format!("/proc/{number}/limits"));
    // Readable or not: an attacker would not care what it was.
    let is = text.ok().and_then(|text| {
        let mut words = text.lines().find_map(|line| line.strip_prefix("Max core file size"))?.split_whitespace();
        Some((words.next()?.parse().ok(), words.next()?.parse().ok()))
    });
    let (current, maximum) = is.unwrap_or((Some(0), Some(0)));
    prlimit(Some(process(number)?), Resource::Core, rustix::process::Rlimit { current, maximum })?;
    Ok(())
}

/// Sets the priority of another process, to what it is, in each of the ways there are.
fn renice(number: i32) -> io::Result<()> {
    let other = process(number)?;
    let is = rustix::process::getpriority_process(Some(other))?;
    let plainly = rustix::process::setpriority_process(Some(other), is).map_err(io::Error::from);
    any_of([plainly, reschedule(number), prefer_on_disk(number)])
}

/// Of several ways: well where one is open, else what is the least of a refusal, so that no failure hides behind one.
pub(super) fn any_of<const N: usize>(ways: [io::Result<()>; N]) -> io::Result<()> {
    let is_refusal = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let mut told = None;
    for way in ways {
        let Err(error) = way else { return Ok(()) };
        if told.as_ref().is_none_or(is_refusal) {
            told = Some(error);
        }
    }
    told.map_or(Ok(()), Err)
}

fn answered(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `sched_setattr`, which sets priorities as well.
fn reschedule(number: i32) -> io::Result<()> {
    let mut is = [0_u8; SCHEDULING_BYTES];
    #[expect(unsafe_code, reason = "no safe wrapper tells how another process is scheduled")]
    // SAFETY: the array is writable for the call, as long as the kernel is told.
    let told = unsafe { libc::syscall(libc::SYS_sched_getattr, number, is.as_mut_ptr(), SCHEDULING_BYTES, 0) };
    answered(told)?;
    #[expect(unsafe_code, reason = "no safe wrapper sets how another process is scheduled")]
    // SAFETY: the kernel filled the array, its size included, and only reads it now.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, number, is.as_ptr(), 0) };
    answered(set).map(drop)
}

/// `ioprio_set`: who comes first at the disk.
fn prefer_on_disk(number: i32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe wrapper tells priorities at the disk")]
    // SAFETY: plain numbers.
    let is = answered(unsafe { libc::syscall(libc::SYS_ioprio_get, IO_PRIORITY_OF_PROCESS, number) })?;
    #[expect(unsafe_code, reason = "no safe wrapper sets priorities at the disk")]
    // SAFETY: plain numbers.
    let set = unsafe { libc::syscall(libc::SYS_ioprio_set, IO_PRIORITY_OF_PROCESS, number, is) };
    answered(set).map(drop)
}

/// Says on which processors another process may run: on those it does.
fn pin(number: i32) -> io::Result<()> {
    let other = process(number)?;
    Ok(sched_setaffinity(Some(other), &sched_getaffinity(Some(other))?)?)
}

/// Has the kernel take others than oneself where memory runs out.
fn spare_me() -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", "0")
}

/// Asks a service on this machine for a page, without a token; refused is what it answers with 401 or 403.
fn ask(port: u16, path: &str) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WAIT_MAX)?;
    stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; ANSWER_BYTES];
    let read = stream.read(&mut answer)?;
    let line = String::from_utf8_lossy(answer.get(..read).unwrap_or_default()).into_owned();
    match line.split_whitespace().nth(1) {
        Some("200") => Ok(()),
        Some("401" | "403") => Err(errno(libc::EACCES)),
        _ => Err(errno(libc::EPROTO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(line: &str) -> Option<String> {
        try_one(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn every_way_to_set_a_priority_works_where_nothing_forbids_it() {
        let me = i32::try_from(std::process::id()).unwrap();
        reschedule(me).unwrap();
        prefer_on_disk(me).unwrap();
        renice(me).unwrap();
    }

    #[test]
    fn of_several_ways_a_failure_does_not_hide_behind_a_refusal() {
        let of = |code: i32| Err(io::Error::from_raw_os_error(code));
        assert!(any_of([of(libc::EPERM), Ok(())]).is_ok());
        for ways in [[of(libc::EPERM), of(libc::EINVAL)], [of(libc::EINVAL), of(libc::EPERM)]] {
            assert_eq!(any_of(ways).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
        assert_eq!(any_of([of(libc::EPERM), of(libc::EPERM)]).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn words_that_are_no_try_are_none() {
        for line in ["", "nothing", "read", "limit x", "ask 70000 /", "hunt abc /", "hunt zz /"] {
            assert_eq!(tried(line), None, "{line}");
        }
    }

    #[test]
    fn a_limit_that_was_met_is_a_refusal_and_a_riddle_is_none() {
        let of = |number| outcome(&Err(errno(number)));
        assert_eq!([of(libc::EMFILE), of(libc::EAGAIN), of(libc::EFBIG), of(libc::EACCES)], [Outcome::Denied; 4]);
        assert_eq!([of(libc::ETIMEDOUT), of(libc::EPROTO)], [Outcome::Unknown; 2]);
    }

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("there"), "x").unwrap();
        assert_eq!(tried(&format!("read {}/there", dir.path().display())).unwrap(), "open 0");
        assert_eq!(tried(&format!("read {}", dir.path().display())).unwrap(), "open 0");
        assert_eq!(tried(&format!("read {}/else", dir.path().display())).unwrap(), "denied 2");
    }

    #[test]
    fn a_program_that_gains_nothing_is_told_from_one_that_tells_nothing() {
        let gains_nothing = set_user_id(Path::new("/bin/cat"));
        // Unless whoever runs the test has every power already.
        let powerless = rustix::thread::capabilities(None).unwrap().effective.is_empty();
        assert_eq!(gains_nothing.is_err(), powerless);
        let silent = set_user_id(Path::new("/bin/true")).unwrap_err();
        assert_eq!(silent.raw_os_error(), Some(libc::EPROTO));
    }
}
