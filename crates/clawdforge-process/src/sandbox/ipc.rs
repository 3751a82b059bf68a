//! Places where processes of one user meet without a file: shared memory, semaphores and queues of System V, queues of
//! POSIX. The kernel judges them by user alone, and Landlock not at all; they are in a namespace of their own, or their
//! [calls](super::calls) are refused.

use std::ffi::CString;
use std::io;

/// Bytes of the shared memory that is made to be attacked.
const MEMORY_BYTES: usize = 64;

/// Permissions of all of them: the user's alone.
const MODE: libc::c_int = 0o600;

/// How many keys are tried where others have theirs.
const KEYS_MAX: i32 = 64;

/// The bit that every key has, and the key where none could be had.
const NO_KEY: i32 = 1 << 30;

/// One of each, made to be attacked, by whoever is to be kept apart. Gone when dropped.
#[derive(Debug)]
pub struct Meeting {
    key: i32,
    memory: i32,
    semaphore: i32,
    messages: i32,
    queue: String,
}

impl Meeting {
    /// Makes them, for the trial of this name; what this machine does not have is left out, and nothing of it is found then.
    #[must_use]
    pub fn make(name: &str) -> Self {
        let us = std::process::id().cast_signed();
        let create = libc::IPC_CREAT | libc::IPC_EXCL | MODE;
        let made = keys(us).map(|key| {
            #[expect(unsafe_code, reason = "no safe wrapper of this crate offers what System V has")]
            // SAFETY: plain numbers.
            let memory = unsafe { libc::shmget(key, MEMORY_BYTES, create) };
            (key, memory)
        });
        let (key, memory) = made.into_iter().find(|(_, memory)| *memory >= 0).unwrap_or((NO_KEY, -1));
        #[expect(unsafe_code, reason = "no safe wrapper of this crate offers what System V has")]
        // SAFETY: plain numbers.
        let (semaphore, messages) = unsafe { (libc::semget(key, 1, create), libc::msgget(key, create)) };
        let queue = queue_name(us, name, key);
        if let Ok(name) = CString::new(queue.as_str()) {
            #[expect(unsafe_code, reason = "no safe wrapper of this crate offers queues")]
            // SAFETY: the name is a string that ends with a zero byte; with no attributes the kernel takes its own.
            unsafe {
                let made = libc::mq_open(
                    name.as_ptr(),
                    libc::O_CREAT | libc::O_RDWR | libc::O_CLOEXEC,
                    MODE,
                    std::ptr::null_mut::<libc::mq_attr>(),
                );
                if made >= 0 {
                    libc::mq_close(made);
                }
            }
        }
        Self { key, memory, semaphore, messages, queue }
    }

    /// The key of those of System V.
    #[must_use]
    pub fn key(&self) -> i32 {
        self.key
    }

    /// The name of the queue.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.queue
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        let name = CString::new(self.queue.as_str()).unwrap_or_default();
        #[expect(unsafe_code, reason = "no safe wrapper of this crate offers to remove them")]
        // SAFETY: numbers that the kernel gave for what was made here, or that it refuses; nothing is written; the name is a
        // string that ends with a zero byte. What cannot be removed is not there.
        unsafe {
            libc::shmctl(self.memory, libc::IPC_RMID, std::ptr::null_mut());
            libc::semctl(self.semaphore, 0, libc::IPC_RMID);
            libc::msgctl(self.messages, libc::IPC_RMID, std::ptr::null_mut());
            libc::mq_unlink(name.as_ptr());
        }
    }
}

/// The keys that a process of this number tries. Never 0, which asks for one without a key.
fn keys(us: i32) -> impl Iterator<Item = i32> {
    (1..=KEYS_MAX).map(move |number| us.wrapping_mul(KEYS_MAX + 1).wrapping_add(number) | NO_KEY)
}

fn queue_name(us: i32, name: &str, key: i32) -> String {
    format!("/clawdforge-{us}-{name}-{key}")
}

/// Removes what a process of this number left that was killed in the trial of this name: the kernel keeps it, and a user may
/// have only some ten queues.
pub(super) fn remove_leftovers(us: i32, name: &str) {
    for key in keys(us).chain([NO_KEY]) {
        let queue = queue_name(us, name, key);
        #[expect(unsafe_code, reason = "no safe wrapper of this crate offers what System V has")]
        // SAFETY: plain numbers, and a place for what the kernel tells, which is plain numbers as well.
        let (memory, maker) = unsafe {
            let memory = libc::shmget(key, 0, MODE);
            let mut found: libc::shmid_ds = std::mem::zeroed();
            (memory, (libc::shmctl(memory, libc::IPC_STAT, &raw mut found) == 0).then_some(found.shm_cpid))
        };
        // Whoever made the memory made the rest under its key.
        let is_left = maker == Some(us);
        #[expect(unsafe_code, reason = "no safe wrapper of this crate offers what System V has")]
        // SAFETY: plain numbers.
        let (semaphore, messages) =
            if is_left { unsafe { (libc::semget(key, 0, MODE), libc::msgget(key, MODE)) } } else { (-1, -1) };
        drop(Meeting { key, memory: if is_left { memory } else { -1 }, semaphore, messages, queue });
    }
}

/// Finds any of those of System V that somebody else made under this key, for reading and writing: the number alone is
/// told to everybody.
pub(super) fn reach_system_v(key: i32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe wrapper of this crate offers what System V has")]
    // SAFETY: plain numbers; nothing is made, and what is found is left as it is.
    let ways =
        unsafe { [libc::shmget(key, 0, MODE), libc::semget(key, 0, MODE), libc::msgget(key, MODE)].map(answered) };
    super::tries::any_of(ways)
}

/// Opens a queue that somebody else made.
pub(super) fn reach_queue(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    #[expect(unsafe_code, reason = "no safe wrapper of this crate offers queues")]
    // SAFETY: the name is a string that ends with a zero byte; what was opened is closed, and nobody else knows of it.
    unsafe {
        let queue = libc::mq_open(name.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC);
        answered(queue)?;
        answered(libc::mq_close(queue))
    }
}

fn answered(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_reached_until_it_is_gone() {
        let meeting = Meeting::make("usual");
        let (key, queue) = (meeting.key(), meeting.queue().to_owned());
        assert!(reach_system_v(key).is_ok());
        assert!(reach_queue(&queue).is_ok());
        drop(meeting);
        assert_eq!(reach_system_v(key).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!(reach_queue(&queue).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
