//! One process tree, owned from birth to the last wait.
//!
//! The leader is not reaped before everything else is gone: its zombie keeps the numbers of process,
//! group and session ours (see the crate's page).

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::error::SpawnError;
use crate::exit::{ExitReport, ExitWatch, LeaderWatch};
use crate::identity::TreeIdentity;
use crate::proc::Key;
use crate::scope::Scope;
use crate::spawner::Spawner;
use crate::sweep::Swept;
use crate::tail::Tail;
use crate::undertaker::{Grave, Remains};

/// How long the leader's end may take to be noticed after it was killed and seen gone.
const LEADER_WAIT_MAX: Duration = Duration::from_millis(500);

/// A program that was started, and everything that it started.
///
/// Dropping it kills all of it with SIGKILL, from another thread and without blocking; [`Tree::end`] is
/// the polite way. If the server dies, the leader gets SIGTERM from the kernel.
#[must_use = "a tree that is dropped is killed"]
pub struct Tree {
    identity: TreeIdentity,
    leader: Pid,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Tail,
    listeners: Vec<TcpListener>,
    exit: ExitWatch,
    grave: Grave,
    spawner: Spawner,
}

/// What it took to end a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndReport {
    /// How the leader ended.
    pub exit: ExitReport,
    /// Processes that had to be killed with SIGKILL, the leader included.
    pub killed: usize,
    /// Processes that were still there when the time was up; 0 unless one hangs in the kernel or
    /// belongs to another user. The tree's thread tries once more.
    pub survivors: usize,
    /// From the call to the last process gone.
    pub took: Duration,
}

impl Tree {
    /// The leader's process number, which is also its group and its session.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.identity.pid
    }

    /// Which process the leader is, for storing.
    #[must_use]
    pub fn identity(&self) -> &TreeIdentity {
        &self.identity
    }

    /// The pipe to its standard input; once, and only if it was asked for.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// The pipe from its standard output; once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// The listeners in its own network, where it has one ([`Sandbox::own_network`](crate::Sandbox::own_network)): for each
    /// port that it may connect to, on the addresses of loopback that there are. They block. Once; dropped, what connects
    /// there is refused.
    pub fn take_listeners(&mut self) -> Vec<TcpListener> {
        std::mem::take(&mut self.listeners)
    }

    /// The end of what it said on its error stream so far, at most
    /// [`STDERR_TAIL_BYTES_MAX`](clawdforge_core::limits::STDERR_TAIL_BYTES_MAX) bytes, as UTF-8 with
    /// replacement characters. Complete after [`Tree::wait`].
    #[must_use]
    pub fn stderr_tail(&self) -> String {
        self.stderr.text()
    }

    /// Waits for the leader's end. Others of the tree may live on until [`Tree::end`]. An untaken
    /// standard input stays open. Cancel safe; may be called again.
    pub async fn wait(&mut self) -> ExitReport {
        let exit = self.exit.exited().await;
        self.stderr.settle().await;
        exit
    }

    /// Another watch over the leader's end; it stays true when the tree has been ended.
    ///
    /// # Errors
    /// When the system has no descriptor left for it.
    pub fn watch_leader(&self) -> io::Result<LeaderWatch> {
        LeaderWatch::start(self.leader)
    }

    /// Ends the whole tree: closes the untaken pipes, sends SIGTERM to the leader's group, gives the
    /// leader `grace` to end, then kills whoever is left, wherever it went, and waits for all of it.
    /// A leader that has ended already gets no grace. One whose output has ended may still be about to
    /// exit: call [`Tree::wait`] first where its exit code matters.
    ///
    /// Takes `grace` plus a few seconds at most. Dropping the future kills the tree.
    pub async fn end(mut self, grace: Duration) -> EndReport {
        let began = Instant::now();
        drop((self.stdin.take(), self.stdout.take()));
        if self.exit.now().is_none() {
            // While the leader lives, its descendants are known as such; afterwards they are orphans.
            self.look().await;
            self.terminate();
            // When the grace is over, the sweep below is what follows.
            let _ = timeout(grace, self.exit.exited()).await;
        }
        let in_group = self.grave.scope().is_some_and(Scope::group_is_populated);
        let alone = !in_group && self.spawner.leaders().no_orphan_is_alive();
        let swept = if self.exit.now().is_some() && alone { Swept::default() } else { self.sweep().await };
        let exit = timeout(LEADER_WAIT_MAX, self.exit.exited()).await.unwrap_or_default();
        let report = EndReport { exit, killed: swept.killed, survivors: swept.survivors, took: began.elapsed() };
        self.close(&report);
        report
    }

    /// Takes a newborn in. Must run inside the runtime.
    pub(crate) fn take(child: Child, leader: Key, grave: Grave, spawner: Spawner) -> Result<Self, SpawnError> {
        let pid = Pid::from_child(&child);
        let exit = ExitWatch::start(pid).map_err(SpawnError::os("watch the new process"))?;
        let Child { stdin, stdout, stderr, .. } = child;
        let pipes = SpawnError::os("take the pipes of the new process");
        let (stdin, stdout, stderr) = (|| {
            let stderr = stderr.ok_or_else(|| io::Error::other("no error stream"))?;
            Ok((
                stdin.map(ChildStdin::from_std).transpose()?,
                stdout.map(ChildStdout::from_std).transpose()?,
                ChildStderr::from_std(stderr)?,
            ))
        })()
        .map_err(pipes)?;
        Ok(Self {
            identity: TreeIdentity { pid: leader.pid, start_ticks: leader.start_ticks, boot_id: spawner.boot_id() },
            leader: pid,
            stdin,
            stdout,
            stderr: Tail::start(spawner.runtime(), stderr),
            listeners: Vec::new(),
            exit,
            grave,
            spawner,
        })
    }

    /// Gives it what leads out of its network.
    pub(crate) fn with_listeners(self, listeners: Vec<TcpListener>) -> Self {
        Self { listeners, ..self }
    }

    fn terminate(&self) {
        for signal in [Signal::TERM, Signal::CONT] {
            // The unreaped leader keeps the group's number ours. A group that is gone needs no signal;
            // one that refuses it is what the sweep is for.
            let _ = kill_process_group(self.leader, signal);
        }
    }

    async fn look(&mut self) {
        let Some(mut scope) = self.grave.scope().cloned() else {
            return;
        };
        let looked = self.spawner.runtime().spawn_blocking(move || scope.look().map(|_| scope)).await;
        match looked {
            Ok(Ok(scope)) => self.grave.remember(scope),
            // Without the look, marks, groups and sessions are still there to find members by.
            Ok(Err(error)) => tracing::debug!(process.pid = self.pid(), error = %error, "could not look at a tree"),
            Err(error) => tracing::debug!(process.pid = self.pid(), error = %error, "could not look at a tree"),
        }
    }

    async fn sweep(&mut self) -> Swept {
        let Some(mut scope) = self.grave.scope().cloned() else {
            return Swept::default();
        };
        let leader = Key { pid: self.identity.pid, start_ticks: self.identity.start_ticks };
        let leaders = self.spawner.leaders().clone();
        let swept =
            self.spawner.runtime().spawn_blocking(move || Remains::sweep(&mut scope, Some(leader), &leaders)).await;
        swept.unwrap_or_else(|error| {
            // The runtime is shutting down; the undertaker's own thread ends the tree.
            tracing::debug!(process.pid = leader.pid, error = %error, "could not sweep a tree here");
            Swept { survivors: 1, ..Swept::default() }
        })
    }

    fn close(self, report: &EndReport) {
        let (pid, took_ms) = (self.pid(), report.took.as_millis());
        if report.survivors > 0 {
            // The grave stays open, so dropping it has the undertaker try again.
            tracing::error!(
                process.pid = pid,
                process.survivors = report.survivors,
                duration_ms = took_ms,
                "processes of a tree could not be killed"
            );
            return;
        }
        if report.killed > 0 {
            tracing::debug!(
                process.pid = pid,
                process.killed = report.killed,
                duration_ms = took_ms,
                "killed what was left of a process tree"
            );
        }
        self.grave.close();
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("identity", &self.identity).finish_non_exhaustive()
    }
}
