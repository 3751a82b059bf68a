//! One line that shows a person that something is going on, and for how long.

use std::future::Future;
use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::io::Io;

/// How often the line is drawn anew: it counts seconds.
const REDRAW_EVERY: Duration = Duration::from_secs(1);

/// To the start of the line, and erase to its end.
const CLEAR: &str = "\r\x1b[K";

/// Waits for `work` under a line that `text` makes of the time gone by. Draws only where standard
/// error is a terminal, and leaves nothing behind.
pub(super) async fn watch<T>(io: &mut Io, text: impl Fn(Duration) -> String, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    if !io.stderr_is_terminal {
        return work.await;
    }
    let started = Instant::now();
    let mut redraw = interval(REDRAW_EVERY);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        // Both are cancel-safe: the work is only borrowed, a tick that is not taken comes again.
        tokio::select! {
            biased;
            done = &mut work => {
                clear(io);
                return done;
            }
            _ = redraw.tick() => draw(io, &format!("{CLEAR}{}", text(started.elapsed()))),
        }
    }
}

/// Takes the line away, if there can be one.
pub(super) fn clear(io: &mut Io) {
    if io.stderr_is_terminal {
        draw(io, CLEAR);
    }
}

/// A time for a person: `7 s`, `3 min 07 s`.
pub(super) fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {:02} s", seconds / 60, seconds % 60) }
}

fn draw(io: &mut Io, text: &str) {
    // A progress line that cannot be drawn is not worth failing for.
    let _ = io.stderr.write_all(text.as_bytes()).and_then(|()| io.stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(elapsed(Duration::from_millis(7_900)), "7 s");
        assert_eq!(elapsed(Duration::from_secs(187)), "3 min 07 s");
    }
}
