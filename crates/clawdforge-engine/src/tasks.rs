//! The only place that spawns tasks. Each has a kind that says what its failure means (I7).

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a task is and what it means when it panics.
#[derive(Debug, Clone, Copy)]
pub struct TaskKind {
    /// Its name in logs.
    pub name: &'static str,
    /// What a panic in it leads to.
    pub on_error: OnError,
}

/// What a panic in a task leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It is logged; the work the task owned was ended by the task's own guard.
    Log,
    /// The service cannot go on without it and stops in good order.
    Shutdown,
}

/// All tasks of the service: counted, cancelled together, waited for.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    broken: CancellationToken,
}

impl Tasks {
    /// Starts a task of a kind.
    pub fn spawn<F>(&self, kind: TaskKind, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let broken = self.broken.clone();
        let guarded = async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                tracing::error!(task.name = kind.name, "a task panicked");
                if kind.on_error == OnError::Shutdown {
                    broken.cancel();
                }
            }
        };
        #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
        drop(tokio::spawn(self.tracker.track_future(guarded)));
    }

    /// Cancelled when background tasks should end.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Resolves when a task without which the service cannot go on has failed.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Resolves when no task is left; new ones may still come later.
    pub async fn idle(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Tells background tasks to end and waits until every task has.
    pub async fn finish(&self) {
        self.stop.cancel();
        self.idle().await;
    }
}
