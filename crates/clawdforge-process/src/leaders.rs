//! Who of our children is the leader of a live tree, and reaping everybody else that fell to us.
//!
//! The kernel hands every orphan of every tree to this process. Waiting for "any child" would steal the
//! exit of a leader, or of a command that other code of this process runs, so a child is reaped only
//! when it is certainly an orphan: of a foreign session (whatever is born in a tree is; commands of ours
//! are not) and no leader. That holds for one [`Spawner`](crate::Spawner) in a process.

use std::collections::HashSet;
use std::io;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::birth::Newborn;
use crate::error::SpawnError;
use crate::proc::{self, Entry, Key};

/// Looks at our orphans until none of them has just ended; where some always have, a sweep is what helps.
const ORPHAN_LOOKS_MAX: usize = 4;

/// The leaders that were born and not yet reaped.
#[derive(Debug)]
pub(crate) struct Leaders {
    us: i32,
    our_session: i32,
    unreaped: Mutex<HashSet<i32>>,
    /// Kin whose processes are not known to be gone.
    kin: AtomicUsize,
    /// Held from fork until the child is known, and while anybody is reaped: a child that could not
    /// start is reaped by the standard library, and one not known yet must not be taken for an orphan.
    birth_or_reaping: Mutex<()>,
}

impl Leaders {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self::of(rustix::process::getpid().as_raw_pid(), proc::own_session()?))
    }

    /// As [`Self::new`] for a process of this number and session.
    pub(crate) fn of(us: i32, our_session: i32) -> Self {
        Self {
            us,
            our_session,
            unreaped: Mutex::default(),
            kin: AtomicUsize::new(0),
            birth_or_reaping: Mutex::default(),
        }
    }

    /// The number of this process.
    pub(crate) fn us(&self) -> i32 {
        self.us
    }

    /// The session of this process, which no process of a tree can be in; 0 where its leader is outside of
    /// our PID namespace. A session opened in a tree always has a leader inside, thus never 0.
    pub(crate) fn our_session(&self) -> i32 {
        self.our_session
    }

    /// Gives birth to a leader and takes it in, in one step for everybody who reaps orphans.
    pub(crate) fn bear(
        &self,
        birth: impl FnOnce() -> Result<Newborn, SpawnError>,
    ) -> Result<(Newborn, Key), SpawnError> {
        let _alone = lock(&self.birth_or_reaping);
        let newborn = birth()?;
        let pid = newborn.child.id().cast_signed();
        let found =
            proc::entry(pid).and_then(|entry| entry.ok_or_else(|| io::Error::other("the new process is not in /proc")));
        match found {
            Ok(entry) => {
                lock(&self.unreaped).insert(pid);
                Ok((newborn, entry.key))
            }
            Err(source) => {
                discard(newborn.child);
                Err(SpawnError::Os { action: "read the identity of the new process", source })
            }
        }
    }

    /// A copy of the leaders' numbers. Does not wait for a birth that is under way.
    pub(crate) fn pids(&self) -> HashSet<i32> {
        lock(&self.unreaped).clone()
    }

    /// Reaps a leader that has ended. One that has not is left to [`Self::reap_orphans`].
    pub(crate) fn release(&self, leader: i32) {
        let mut unreaped = lock(&self.unreaped);
        reap(leader);
        unreaped.remove(&leader);
    }

    /// Counts kin that were made.
    pub(crate) fn take_in_kin(&self) {
        self.kin.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts kin that are gone.
    pub(crate) fn release_kin(&self) {
        self.kin.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether neither a tree nor kin are left.
    pub(crate) fn nobody_is_left(&self) -> bool {
        lock(&self.unreaped).is_empty() && self.kin.load(Ordering::Relaxed) == 0
    }

    /// Reaps those of these processes that have ended, are children of ours and lead no tree. Waits for
    /// a birth that is under way, if there is anything to reap.
    pub(crate) fn reap(&self, pids: &[i32]) -> usize {
        if pids.is_empty() {
            return 0;
        }
        let _alone = lock(&self.birth_or_reaping);
        self.reap_alone(pids)
    }

    /// The same, but reaps nobody and says false where a birth is under way.
    pub(crate) fn reap_now(&self, pids: &[i32]) -> bool {
        let alone = match self.birth_or_reaping.try_lock() {
            Ok(alone) => alone,
            // See [`lock`].
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        self.reap_alone(pids);
        drop(alone);
        true
    }

    /// To be called by who holds the lock for it.
    fn reap_alone(&self, pids: &[i32]) -> usize {
        let leaders = self.pids();
        pids.iter().filter(|pid| !leaders.contains(pid) && reap(**pid)).count()
    }

    /// Reaps every orphan that has ended by itself.
    pub(crate) fn reap_orphans(&self) -> io::Result<usize> {
        let ended = self.children()?.into_iter().filter(|child| child.ended && self.is_orphan(child));
        Ok(self.reap(&ended.map(|orphan| orphan.key.pid).collect::<Vec<_>>()))
    }

    /// Whether an orphan has ended and is not reaped. One of several threads cannot be before the last of them is gone.
    pub(crate) fn has_ended_orphan(&self) -> io::Result<bool> {
        let children = self.children()?;
        let leaders = self.pids();
        let is_left = |child: &Entry| child.ended && self.is_orphan(child) && !leaders.contains(&child.key.pid);
        Ok(children.iter().any(is_left))
    }

    /// Whether no orphan of any tree is alive. After a leader's end this proves that nothing of its tree
    /// is left: whoever outlives its parents hangs below an orphan that fell to us. Orphans that have ended are
    /// reaped on the way, and then it looks again: one that has just ended may have left a successor, which was
    /// not ours when our children were listed.
    pub(crate) fn no_orphan_is_alive(&self) -> bool {
        for _ in 0..ORPHAN_LOOKS_MAX {
            let Some(children) = proc::own_children() else { return false };
            // A leader that is being born just now may look like an orphan; then there is a sweep too many.
            let leaders = self.pids();
            let mut ended = Vec::new();
            for pid in children.into_iter().filter(|pid| !leaders.contains(pid)) {
                match proc::entry(pid) {
                    Ok(Some(child)) if !self.is_orphan(&child) => {}
                    Ok(Some(child)) if !child.ended => return false,
                    Ok(Some(_) | None) => ended.push(pid),
                    Err(_) => return false,
                }
            }
            if ended.is_empty() {
                return true;
            }
            self.reap(&ended);
        }
        false
    }

    fn children(&self) -> io::Result<Vec<Entry>> {
        match proc::own_children() {
            Some(pids) => pids.into_iter().filter_map(|pid| proc::entry(pid).transpose()).collect(),
            None => Ok(proc::everyone()?.into_iter().filter(|entry| entry.ppid == self.us).collect()),
        }
    }

    /// Whether a child of this process can be one: leaders are, too.
    pub(crate) fn is_orphan(&self, child: &Entry) -> bool {
        child.session != self.our_session
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they guard is whole after every single operation, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps one child if it has ended. Whatever is no child of ours is not touched.
fn reap(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else {
        return false;
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
}

fn discard(child: Child) {
    let Some(pid) = Pid::from_raw(child.id().cast_signed()) else {
        return;
    };
    // It is our unreaped child, so the number is its own; a failure means that it has ended already.
    let _ = kill_process(pid, Signal::KILL);
    // Nothing to do about a failure: a zombie costs nothing but a number.
    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
}
