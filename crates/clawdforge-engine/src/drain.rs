//! Stopping in good order.
//!
//! No new work; what waits for a slot ends as interrupted at once; what runs may finish until the
//! deadline and is then interrupted, its process tree ended and its outcome recorded.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Shared;

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
    shared.background.finish().await;
    DrainReport { interrupted }
}
