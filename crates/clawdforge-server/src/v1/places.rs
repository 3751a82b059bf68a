//! The streams that each app has open, and its requests that wait for the end of their work. Each keeps a connection for as long as
//! its reader wants to, so without a bound one app could take all of them: queues bound the work, but any number of requests
//! with one idempotency key may wait for the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawdforge_core::id::AppId;
use clawdforge_engine::EngineError;

use crate::limits::{STREAM_RETRY_AFTER, STREAMS_PER_APP_MAX};

type Open = Mutex<HashMap<AppId, usize>>;

/// All streams that are open, and requests that wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams(Arc<Open>);

/// One of an app's streams; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    app: AppId,
    open: Arc<Open>,
}

fn lock(open: &Open) -> MutexGuard<'_, HashMap<AppId, usize>> {
    // What is behind the lock is changed in one step, so a poisoned one is usable.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Streams {
    /// A place for one more.
    pub fn enter(&self, app: AppId) -> Result<StreamPlace, EngineError> {
        let mut open = lock(&self.0);
        let count = open.entry(app).or_default();
        if *count >= STREAMS_PER_APP_MAX {
            let reason = "this app has as many streams open and requests waiting for their work as it may have";
            return Err(EngineError::Busy { reason, retry_after: STREAM_RETRY_AFTER });
        }
        *count += 1;
        Ok(StreamPlace { app, open: Arc::clone(&self.0) })
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        if let Some(count) = open.get_mut(&self.app) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_so_many_streams_open_and_takes_no_place_of_another() {
        let streams = Streams::default();
        let (one, other) = (AppId::from_u128(1), AppId::from_u128(2));
        let mut places: Vec<_> = (0..STREAMS_PER_APP_MAX).map(|_| streams.enter(one).unwrap()).collect();
        assert!(matches!(streams.enter(one), Err(EngineError::Busy { .. })));
        drop(streams.enter(other).unwrap());
        places.pop();
        places.push(streams.enter(one).unwrap());
        assert!(streams.enter(one).is_err());
        drop(places);
        assert!(lock(&streams.0).is_empty(), "what is over costs nothing");
    }
}
