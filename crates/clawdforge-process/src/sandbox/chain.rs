//! Processes that fork faster than they are killed: each makes its successor and ends at once, so that whoever has read
//! its number from `/proc` signals somebody who is gone. For trials of what ends them, and bounded by themselves.

use std::io;
use std::time::{Duration, Instant};

/// Chains that are started; each has one process at a time, for a moment two.
const CHAINS: usize = 2;

/// How long a chain goes on by itself: longer than anybody may take to end it, and an end all the same.
const LIFE_MAX: Duration = Duration::from_secs(20);

/// Starts them as children of this process, each process of which lives that long beside the forking itself: deaf to polite signals, with its environment and its open files. The
/// first opens a session for every generation, so that neither group nor session is what they have in common.
///
/// # Errors
/// When this process cannot fork.
pub fn start_chains(pause: Duration) -> io::Result<()> {
    for at in 0..CHAINS {
        #[expect(unsafe_code, reason = "no safe wrapper offers to go on as two processes")]
        // SAFETY: the child makes bare system calls only, and never returns.
        let child = unsafe { libc::fork() };
        match child {
            -1 => return Err(io::Error::last_os_error()),
            0 => go_on(at == 0, pause),
            _ => {}
        }
    }
    Ok(())
}

/// The life of a chain, from one process to the next. May run in a child of a program with threads: it allocates nothing
/// and locks nothing.
fn go_on(in_new_sessions: bool, pause: Duration) -> ! {
    #[expect(unsafe_code, reason = "between fork and end there are bare system calls alone")]
    // SAFETY: system calls on plain numbers that are safe after a fork of a threaded process.
    unsafe {
        libc::setsid();
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
    let began = Instant::now();
    let pause = libc::timespec { tv_sec: 0, tv_nsec: pause.subsec_nanos().into() };
    loop {
        #[expect(unsafe_code, reason = "no safe wrapper offers to go on as two processes")]
        // SAFETY: as above; the parent ends without running anything of the program's.
        unsafe {
            if pause.tv_nsec > 0 {
                libc::nanosleep(&raw const pause, std::ptr::null_mut());
            }
            if libc::fork() != 0 || began.elapsed() > LIFE_MAX {
                libc::_exit(0);
            }
            if in_new_sessions {
                libc::setsid();
            }
        }
    }
}
