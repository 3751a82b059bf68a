//! Stopping in good order.
//!
//! No new work; what waits for a slot ends as interrupted at once; what runs may finish until the
//! deadline and is then interrupted, its process tree ended and its outcome recorded.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Shared;

/// How long background work may take to end: a commit may wait for ten seconds.
const BACKGROUND_WAIT_MAX: Duration = Duration::from_secs(15);

/// What a drain came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Runs that had to be interrupted at the deadline.
    pub interrupted: usize,
}

pub(crate) async fn drain(shared: &Arc<Shared>, deadline: Duration) -> DrainReport {
    shared.stopping.cancel();
    let in_time = tokio::select! {
        () = shared.work.idle() => true,
        () = tokio::time::sleep(deadline) => false,
        () = shared.expired.cancelled() => false,
    };
    let interrupted = if in_time { 0 } else { shared.slots.load().0 };
    shared.expired.cancel();
    shared.work.finish().await;
    // A sweep ends after the commit it is in; a disk that does not answer must not keep the service alive.
    if tokio::time::timeout(BACKGROUND_WAIT_MAX, shared.background.finish()).await.is_err() {
        tracing::warn!("the sweep did not end in time; it is cut, and the next start sweeps again");
    }
    DrainReport { interrupted }
}
