//! How long the turns that were sent through a session may still take: whoever sends a further one waits for
//! them too.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// When the last of the turns sent is done at the latest. Times count from the making of the session, so that no
/// time limit, however long, leaves the range of an [`Instant`].
#[derive(Debug)]
pub(super) struct Pace {
    origin: Instant,
    done_by: Mutex<Duration>,
}

/// A turn's place among the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    begins_by: Duration,
    done_by: Duration,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), done_by: Mutex::new(Duration::ZERO) }
    }

    /// How long what was sent before may still take.
    pub(super) fn ahead(&self) -> Duration {
        self.done_by().saturating_sub(self.origin.elapsed())
    }

    /// Notes a turn with this time limit behind all others.
    pub(super) fn enter(&self, time_limit: Duration) -> Place {
        let mut done_by = self.done_by();
        let begins_by = (*done_by).max(self.origin.elapsed());
        *done_by = begins_by.saturating_add(time_limit);
        Place { begins_by, done_by: *done_by }
    }

    /// Notes that a turn is done: if it was the last, nothing is ahead any more.
    pub(super) fn done(&self, place: Place) {
        self.shorten(place, self.origin.elapsed());
    }

    /// Notes that a turn was not taken: if it was the last, the one before it is.
    pub(super) fn refused(&self, place: Place) {
        self.shorten(place, place.begins_by);
    }

    /// Where others were sent behind it, they keep the longer time: it only ever means more patience.
    fn shorten(&self, place: Place, to: Duration) {
        let mut done_by = self.done_by();
        if *done_by == place.done_by {
            *done_by = to.min(place.done_by);
        }
    }

    fn done_by(&self) -> MutexGuard<'_, Duration> {
        // One number is whole whoever panicked beside it.
        self.done_by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1_000);
    /// Far above what a test takes between two looks, far below a time limit.
    const SOON: Duration = Duration::from_secs(100);

    fn about(pace: &Pace, expected: Duration) {
        let ahead = pace.ahead();
        assert!(ahead <= expected && ahead + SOON > expected, "{ahead:?} instead of about {expected:?}");
    }

    #[test]
    fn a_turn_waits_for_all_that_were_sent_before() {
        let pace = Pace::new();
        assert_eq!(pace.ahead(), Duration::ZERO);
        let first = pace.enter(LONG);
        about(&pace, LONG);
        let second = pace.enter(2 * LONG);
        about(&pace, 3 * LONG);
        pace.done(first);
        about(&pace, 3 * LONG);
        pace.done(second);
        assert_eq!(pace.ahead(), Duration::ZERO);
    }

    #[test]
    fn a_refused_turn_leaves_those_before_it() {
        let pace = Pace::new();
        pace.enter(LONG);
        let refused = pace.enter(LONG);
        about(&pace, 2 * LONG);
        pace.refused(refused);
        about(&pace, LONG);
    }

    #[test]
    fn a_time_limit_without_measure_is_only_a_long_one() {
        let pace = Pace::new();
        pace.enter(Duration::MAX);
        pace.enter(Duration::MAX);
        assert!(pace.ahead() > Duration::MAX / 2);
    }
}
