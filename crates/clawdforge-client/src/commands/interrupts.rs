//! The interrupts (Ctrl-C) of a process, or a test's stand-in for them.

use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Interrupts, one after the other.
pub struct Interrupts(Pin<Box<dyn Stream<Item = ()> + Send>>);

impl Interrupts {
    /// Those of this process. Until the first is waited for, an interrupt ends the process as ever.
    #[must_use]
    pub fn of_process() -> Self {
        Self::from_stream(stream::unfold(None, |listener: Option<Signal>| async {
            let listener = listener.map_or_else(|| signal(SignalKind::interrupt()), Ok);
            // Without a handler the signal does what it does by itself.
            let Ok(mut listener) = listener else { return pending().await };
            listener.recv().await.map(|()| ((), Some(listener)))
        }))
    }

    /// None at all.
    #[must_use]
    pub fn never() -> Self {
        Self::from_stream(stream::pending())
    }

    /// A single one, when the future completes.
    pub fn once(interrupt: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::from_stream(stream::once(interrupt))
    }

    /// One for each item.
    pub fn from_stream(interrupts: impl Stream<Item = ()> + Send + 'static) -> Self {
        Self(Box::pin(interrupts))
    }

    /// Completes with the next one; cancel-safe.
    pub async fn next(&mut self) {
        if self.0.next().await.is_none() {
            // There was a last one.
            *self = Self::never();
            pending().await
        }
    }

    /// Waits for `work`, or gives it up at the next interrupt.
    pub(super) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        // Cancel-safe: what is dropped with `work` is the caller's to know, an interrupt is taken only by winning.
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.next() => None,
        }
    }
}

impl fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupts")
    }
}
