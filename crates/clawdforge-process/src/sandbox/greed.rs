//! Tries at what is not endless: threads, processes, memory, processor time, open files, places on the disk.
//!
//! Those that are a siege keep what they took, so that others can be watched meanwhile: processes of their own hold it,
//! deaf to polite signals, until somebody ends them or their time is over. How much is taken is bounded, for the sake of
//! the machine that has no bounds.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::powers::{FILE_BYTES_MAX, OPEN_FILES_MAX, PROCESSES_MAX};
use super::tries::errno;

/// Stack of a thread that only waits.
const STACK_BYTES: usize = 16 * 1024;

/// Threads beyond what a user of agents may have.
const THREADS: u64 = PROCESSES_MAX + 104;

/// Processes of a bomb that nothing bounds: as many.
const BOMB_SIZE: u32 = THREADS as u32;

/// Bytes that are written where a smaller quota is expected: more than a kernel keeps to itself without a place for them.
const FILL_BYTES: u64 = 64 << 20;

/// Bytes of memory that one process takes: less than a service has, so that it is not the one the kernel would choose by
/// size.
const MEAL_BYTES: usize = 16 << 20;

/// Processes that take as much where nothing bounds them: 1 GiB together.
const EATERS: u32 = 64;

/// Processes that spin: many for each processor of a usual machine.
const SPINNERS: u32 = 16;

/// Processes that open files.
const HOARDERS: u32 = 4;

/// Seconds after which a process of a siege ends by itself, should nobody end it.
const SIEGE_SECS_MAX: u32 = 60;

/// How long a siege may take to stand; a fork bomb takes a second or two.
const SIEGE_WAIT_MAX: Duration = Duration::from_secs(30);

/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(5);

/// Between the beginnings of two meals: what one takes some milliseconds for.
const MEAL_PAUSE: Duration = Duration::from_millis(20);

/// After how long a process of a bomb that was refused to fork tries again: often enough to take every place that becomes
/// free while it is ended, and seldom enough for machines that others need.
const AGAIN: Duration = Duration::from_millis(500);

/// Makes more threads than a user of agents may have; the kernel counts them as it does processes.
pub(super) fn many_threads() -> io::Result<()> {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let start = |_| {
        let gate = Arc::clone(&gate);
        std::thread::Builder::new()
            .name("waits".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || drop(gate.lock().unwrap_or_else(PoisonError::into_inner)))
    };
    let mut waiting = Vec::new();
    let mut tried = Ok(());
    for number in 0..THREADS {
        match start(number) {
            Ok(thread) => waiting.push(thread),
            Err(error) => {
                tried = Err(error);
                break;
            }
        }
    }
    drop(closed);
    for thread in waiting {
        thread.join().map_err(|_| errno(libc::EIO))?;
    }
    tried
}

/// Makes a file that is longer than any may be; it takes no place on the disk.
pub(super) fn huge_file() -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe wrapper offers to ignore the signal that comes with the refusal")]
    // SAFETY: plain numbers; nothing of this process acts on that signal.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    let tried = File::create("huge").and_then(|file| file.set_len(FILE_BYTES_MAX + 1));
    fs::remove_file("huge")?;
    tried
}

/// Writes, and leaves it there: whoever has a quota sees it at the next look.
pub(super) fn fill_disk() -> io::Result<()> {
    let chunk = vec![1_u8; 1 << 20];
    let mut file = File::create("filling")?;
    let chunks = FILL_BYTES / (1 << 20);
    (0..chunks).try_for_each(|_| file.write_all(&chunk))?;
    file.sync_all()
}

/// Processes of which each forks again and again, in a session of its own, until that is refused; and again whenever a
/// place has become free because one of them was killed.
pub(super) fn fork_bomb() -> io::Result<()> {
    besiege(1, BOMB_SIZE, |siege| {
        loop {
            // One more than is allowed gives its place back and stays as it is.
            if siege.standing.fetch_add(1, Ordering::SeqCst) >= BOMB_SIZE {
                siege.standing.fetch_sub(1, Ordering::SeqCst);
                hold();
            }
            match fork_bare() {
                Forked::Child => settle(),
                Forked::Parent => {}
                Forked::Refused(errno) => {
                    siege.standing.fetch_sub(1, Ordering::SeqCst);
                    siege.refuse(errno);
                    nap(AGAIN);
                }
            }
        }
    })
}

/// Processes that take memory and use it, one after the other, until the kernel kills one for it; and another for each
/// that was killed.
pub(super) fn huge_memory() -> io::Result<()> {
    besiege(1, EATERS, |siege| {
        let mut eaters = 0;
        loop {
            if eaters < EATERS {
                match fork_bare() {
                    Forked::Child => {
                        settle();
                        eat();
                        siege.stand();
                        hold();
                    }
                    Forked::Parent => eaters += 1,
                    Forked::Refused(errno) => siege.refuse(errno),
                }
            }
            while lost_a_child() {
                eaters -= 1;
                siege.refuse(libc::ENOMEM);
            }
            nap(MEAL_PAUSE);
        }
    })
}

/// Processes that do nothing, as fast as they can.
pub(super) fn spin() -> io::Result<()> {
    besiege(SPINNERS, SPINNERS, |siege| {
        siege.stand();
        loop {
            std::hint::spin_loop();
        }
    })
}

/// Processes that open more files than one may, as far up as each can set its own limit, and keep them.
pub(super) fn many_handles() -> io::Result<()> {
    besiege(HOARDERS, HOARDERS, |siege| {
        if let Err(refused) = open_all() {
            siege.refuse(refused);
        }
        siege.stand();
        hold();
    })
}

/// What the processes of a siege and whoever began it have in common.
struct Siege {
    standing: AtomicU32,
    refused: AtomicI32,
}

impl Siege {
    /// In memory that is shared with all that are forked, for good.
    fn new() -> io::Result<&'static Self> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let allowed = libc::PROT_READ | libc::PROT_WRITE;
        #[expect(unsafe_code, reason = "no safe wrapper of this crate offers memory that is shared with children")]
        // SAFETY: a new place of the kernel's choice, filled with zeros, which both numbers may be; never given back.
        unsafe {
            let place = libc::mmap(std::ptr::null_mut(), size_of::<Self>(), allowed, flags, -1, 0);
            if place == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(&*place.cast::<Self>()) }
        }
    }

    /// One more is where it wants to be.
    fn stand(&self) {
        self.standing.fetch_add(1, Ordering::SeqCst);
    }

    fn refuse(&self, errno: i32) {
        self.refused.store(errno, Ordering::SeqCst);
    }

    /// Waits until something was refused or everybody stands.
    fn outcome(&self, everybody: u32) -> io::Result<()> {
        let began = Instant::now();
        while began.elapsed() < SIEGE_WAIT_MAX {
            match self.refused.load(Ordering::SeqCst) {
                0 if self.standing.load(Ordering::SeqCst) >= everybody => return Ok(()),
                0 => std::thread::sleep(PAUSE),
                refused => return Err(errno(refused)),
            }
        }
        Err(errno(libc::ETIMEDOUT))
    }
}

/// Starts so many processes that do something, which must be bare system calls alone, and waits for what comes of it.
fn besiege(beginning: u32, everybody: u32, act: impl Fn(&Siege) -> Infallible) -> io::Result<()> {
    let siege = Siege::new()?;
    for _ in 0..beginning {
        match fork_bare() {
            Forked::Child => {
                settle();
                act(siege);
            }
            Forked::Parent => {}
            Forked::Refused(errno) => siege.refuse(errno),
        }
    }
    siege.outcome(everybody)
}

/// Who goes on after a fork.
enum Forked {
    Child,
    Parent,
    Refused(i32),
}

/// A child may be one of a program with threads, so it must allocate nothing and lock nothing.
fn fork_bare() -> Forked {
    #[expect(unsafe_code, reason = "no safe wrapper offers to go on as two processes")]
    // SAFETY: every child makes bare system calls only, and never returns into the program.
    match unsafe { libc::fork() } {
        -1 => Forked::Refused(last_errno()),
        0 => Forked::Child,
        _ => Forked::Parent,
    }
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)
}

/// Gets out of the way of whoever would end it politely, and sees to an end all the same.
fn settle() {
    #[expect(unsafe_code, reason = "bare system calls on plain numbers")]
    // SAFETY: safe after a fork of a threaded process; nothing acts on these signals.
    unsafe {
        libc::setsid();
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::signal(signal, libc::SIG_IGN);
        }
        libc::alarm(SIEGE_SECS_MAX);
    }
}

fn hold() -> ! {
    loop {
        #[expect(unsafe_code, reason = "a bare system call")]
        // SAFETY: it only waits.
        unsafe {
            libc::pause();
        }
    }
}

fn nap(time: Duration) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
    #[expect(unsafe_code, reason = "a bare system call, because std's may do more")]
    // SAFETY: the time outlives the call, and what is left of it is not asked for.
    unsafe {
        libc::nanosleep(&raw const time, std::ptr::null_mut());
    }
}

/// Takes memory and writes into each page of it.
fn eat() {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    #[expect(unsafe_code, reason = "no safe wrapper of this crate offers plain memory")]
    // SAFETY: a new place of the kernel's choice, written within its bounds, which ends with the process.
    unsafe {
        let place = libc::mmap(std::ptr::null_mut(), MEAL_BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if place != libc::MAP_FAILED {
            std::ptr::write_bytes(place.cast::<u8>(), 1, MEAL_BYTES);
        }
    }
}

/// Whether a child has ended, which is forgotten with the question.
fn lost_a_child() -> bool {
    #[expect(unsafe_code, reason = "a bare system call, because this process has children of no other kind")]
    // SAFETY: the kernel is given no place to write to.
    let ended = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    ended > 0
}

/// Opens files until there are more than one process may have; the number of the error where that is refused.
fn open_all() -> Result<(), i32> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[expect(unsafe_code, reason = "bare system calls, which are safe after a fork of a threaded process")]
    // SAFETY: the limit is ours to be written and read for the calls; the path is a string that ends with a zero byte.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        for _ in 0..=OPEN_FILES_MAX {
            if libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) < 0 {
                return Err(last_errno());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_siege_says_what_was_refused_before_it_says_that_it_stands() {
        let siege = Siege::new().unwrap();
        siege.stand();
        assert!(siege.outcome(1).is_ok());
        siege.refuse(libc::EAGAIN);
        assert_eq!(siege.outcome(1).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
    }
}
