//! Waiting for what may be absent.

use std::future::{Future, pending};

use tokio::time::{Instant, sleep_until};

/// What comes of a future, which stays where it is; never where there is none.
pub(crate) async fn present<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// Waits for an instant; for ever where there is none.
pub(crate) async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
