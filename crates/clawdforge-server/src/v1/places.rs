//! The streams that each app has open, and its requests that wait for the end of their work. Each keeps a connection for as long as
//! its reader wants to, so without a bound one app could take all of them: queues bound the work, but any number of requests
//! with one idempotency key may wait for the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawdforge_core::id::AppId;
use clawdforge_engine::EngineError;

use crate::limits::{PLACE_RETRY_AFTER, PLACES_PER_APP_MAX};

type Open = Mutex<HashMap<AppId, usize>>;

/// The places of all streams that are open and of all requests that wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Arc<Open>);

/// The place of one stream or waiting request of an app; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    app: AppId,
    open: Arc<Open>,
}

fn lock(open: &Open) -> MutexGuard<'_, HashMap<AppId, usize>> {
    // What is behind the lock is changed in one step, so a poisoned one is usable.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Places {
    /// A place for one more.
    pub fn enter(&self, app: AppId) -> Result<Place, EngineError> {
        let mut open = lock(&self.0);
        let count = open.entry(app).or_default();
        if *count >= PLACES_PER_APP_MAX {
            let reason = "this app has as many streams open and requests waiting for their work as it may have";
            return Err(EngineError::Busy { reason, retry_after: PLACE_RETRY_AFTER });
        }
        *count += 1;
        Ok(Place { app, open: Arc::clone(&self.0) })
    }
}

impl Drop for Place {
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
    fn an_app_has_so_many_places_and_takes_none_of_another() {
        let places = Places::default();
        let (one, other) = (AppId::from_u128(1), AppId::from_u128(2));
        let mut taken: Vec<_> = (0..PLACES_PER_APP_MAX).map(|_| places.enter(one).unwrap()).collect();
        assert!(matches!(places.enter(one), Err(EngineError::Busy { .. })));
        drop(places.enter(other).unwrap());
        taken.pop();
        taken.push(places.enter(one).unwrap());
        assert!(places.enter(one).is_err());
        drop(taken);
        assert!(lock(&places.0).is_empty(), "what is over costs nothing");
    }
}
