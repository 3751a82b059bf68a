//! What errands leave behind: processes that carry a mark and have no leader of ours.
//!
//! Some programs start a process that outlives them on purpose. It opens a session of its own, and when its
//! parent ends it becomes a child of this process, the subreaper. It is known by its mark.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::exit::ExitWatch;
use crate::proc::Key;
use crate::signal;
use crate::spawner::Spawner;
use crate::sweep::Swept;
use crate::undertaker::{Grave, Remains};

/// Everything that carries a mark and is in no tree.
///
/// Dropping it kills all of it with SIGKILL, from another thread and without blocking; [`Kin::end`] is the
/// polite way. What still hangs below a live leader is not reached: end the errands first.
#[must_use = "kin that are dropped are killed"]
pub struct Kin {
    grave: Grave,
    spawner: Spawner,
    eldest: Option<ExitWatch>,
}

/// What it took to end kin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KinReport {
    /// Processes that had to be killed with SIGKILL.
    pub killed: usize,
    /// Processes that were still there when the time was up. The undertaker tries once more.
    pub survivors: usize,
}

impl Kin {
    pub(crate) fn new(grave: Grave, spawner: Spawner) -> Self {
        Self { grave, spawner, eldest: None }
    }

    /// Waits until the eldest of them is gone, and reaps it: programs that look for it by its number would
    /// take its zombie for alive. Returns at once where there is nobody. Cancel-safe.
    pub async fn eldest_gone(&mut self) {
        if self.eldest.is_none() {
            self.eldest = self.find_eldest().await;
        }
        if let Some(eldest) = &mut self.eldest {
            eldest.exited().await;
            self.eldest = None;
        }
        self.spawner.reap_orphans();
    }

    /// Ends all of them: SIGTERM, `grace`, then kills whoever is left. Takes `grace` plus a few seconds at
    /// most. Dropping the future kills them.
    pub async fn end(self, grace: Duration) -> KinReport {
        let Some(mut scope) = self.grave.scope().cloned() else { return KinReport::default() };
        let leaders = self.spawner.leaders().clone();
        let swept = self.spawner.runtime().spawn_blocking(move || {
            match scope.look() {
                Ok(members) => drop(signal::terminate(&members.alive, Instant::now() + grace)),
                // The sweep looks again, and says so when it cannot either.
                Err(error) => tracing::debug!(%error, "could not look for what was left behind"),
            }
            let asked = scope.seen();
            (Remains::sweep(&mut scope, None, &leaders), asked)
        });
        let (swept, asked) = swept.await.unwrap_or_else(|error| {
            // The runtime is shutting down; the undertaker's own thread ends them.
            tracing::debug!(%error, "could not end here what was left behind");
            (Swept { survivors: 1, ..Swept::default() }, 0)
        });
        let report = KinReport { killed: swept.killed, survivors: swept.survivors };
        if report.survivors > 0 {
            // The grave stays open, so dropping it has the undertaker try again.
            tracing::error!(process.survivors = report.survivors, "what was left behind could not be killed");
        } else {
            tracing::debug!(process.asked = asked, process.killed = report.killed, "ended what was left behind");
            self.grave.close();
        }
        self.spawner.reap_orphans();
        report
    }

    async fn find_eldest(&self) -> Option<ExitWatch> {
        let mut scope = self.grave.scope().cloned()?;
        let looked = self.spawner.runtime().spawn_blocking(move || scope.look()).await;
        let eldest = match looked {
            Ok(Ok(members)) => members.alive.into_iter().min_by_key(|key| (key.start_ticks, key.pid)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "could not look for what was left behind");
                None
            }
            // The runtime is shutting down.
            Err(_) => None,
        };
        let Key { pid, .. } = eldest?;
        // One that has ended since is as good as none.
        ExitWatch::start(Pid::from_raw(pid)?).ok()
    }
}

impl fmt::Debug for Kin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kin").finish_non_exhaustive()
    }
}
