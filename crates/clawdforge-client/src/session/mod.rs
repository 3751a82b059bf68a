//! A session as a value: turns are sent through it, and it is closed when nobody holds it any more.
//!
//! What holds here:
//!
//! - The mark that a session is closed is set by the service's own word and by nothing else. A close that failed
//!   or was given up leaves it open here, so that it can be tried again; one that succeeded is never repeated.
//! - Only a session that was opened through this handle is closed on drop.

mod key;
mod pace;

use std::sync::atomic::{AtomicBool, Ordering};

use clawdforge_api::legacy::{SessionState, TurnReply, TurnRequest};

use crate::calls::time_limit;
use crate::client::Client;
use crate::error::ClientError;
pub(crate) use key::SessionKey;
use pace::Pace;

/// A conversation with one agent.
///
/// From [`Client::open_session`]: it is closed when it is dropped, as far as that can be done without waiting. Inside of a
/// Tokio runtime a task does it, elsewhere a thread; neither is heard when the program ends right behind, and the
/// service then closes the session once it was idle for long. [`Session::close`] waits, and says whether it worked.
///
/// From [`Client::session`], or after [`Session::leave_open`], it stays open.
#[derive(Debug)]
#[must_use = "a session that is dropped is closed"]
pub struct Session {
    client: Client,
    key: SessionKey,
    is_own: bool,
    is_closed: AtomicBool,
    pace: Pace,
}

impl Session {
    pub(crate) fn opened(client: Client, key: SessionKey) -> Self {
        Self::new(client, key, true)
    }

    pub(crate) fn attached(client: Client, key: SessionKey) -> Self {
        Self::new(client, key, false)
    }

    fn new(client: Client, key: SessionKey, is_own: bool) -> Self {
        Self { client, key, is_own, is_closed: AtomicBool::new(false), pace: Pace::new() }
    }

    /// The id, by which [`Client::session`] finds the session again.
    #[must_use]
    pub fn id(&self) -> &str {
        self.key.as_str()
    }

    /// Gives the agent one prompt and waits for the end of the turn.
    ///
    /// The service does the turns of a session one after the other. The wait ends after the request's `timeout_secs` (or
    /// [`crate::limits::RUN_SECS_DEFAULT`]), those of the turns that were sent through this handle before, and the grace
    /// of the builder. Turns of other handles are not known here. Dropping the future ends the waiting, not the turn.
    ///
    /// # Errors
    /// [`ClientError::TurnFailed`] when the agent failed, and the next turn may go well; [`ClientError::SessionClosed`]
    /// when there will be none, without a request when it was closed through this handle; [`ClientError::Busy`] when too
    /// many wait, or the service stops; the others as they say.
    pub async fn turn(&self, request: TurnRequest) -> Result<TurnReply, ClientError> {
        if self.is_closed() {
            let message = "the session was closed here; open a new one".to_owned();
            return Err(ClientError::SessionClosed { status: None, message });
        }
        let call = self.client.turn_call(&self.key, &request, self.pace.ahead())?;
        let place = self.pace.enter(time_limit(request.timeout_secs));
        let outcome = self.client.perform(call).await;
        match &outcome {
            Ok(_) | Err(ClientError::TurnFailed(_) | ClientError::RunFailed(_)) => self.pace.done(place),
            Err(refused) if refused.status().is_some() => self.pace.refused(place),
            // It may be going on.
            Err(_) => {}
        }
        Ok(outcome?.value)
    }

    /// What the service knows of the session.
    ///
    /// # Errors
    /// [`ClientError::Api`] with status 404 once it is erased; the others as they say.
    pub async fn state(&self) -> Result<SessionState, ClientError> {
        Ok(self.client.perform(self.client.state_call(&self.key)?).await?.value.session)
    }

    /// Closes the session; a turn under way ends. Once it is closed, further calls do nothing.
    ///
    /// That it is closed already, or was opened here and is erased since, is a success.
    ///
    /// # Errors
    /// [`ClientError::Api`] with status 404 when it was attached to and there is none; the others as they say. The session
    /// then counts as open, and closing it can be tried again.
    pub async fn close(&self) -> Result<(), ClientError> {
        if self.is_closed() {
            return Ok(());
        }
        match self.client.perform(self.client.close_call(&self.key)?).await {
            Ok(_) | Err(ClientError::SessionClosed { .. }) => {}
            // What was opened here did exist.
            Err(ClientError::Api { status: 404, .. }) if self.is_own => {}
            Err(error) => return Err(error),
        }
        self.is_closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the session was closed through this handle.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Lets go of the session without closing it, and gives its id.
    pub fn leave_open(mut self) -> String {
        self.is_own = false;
        self.id().to_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_own && !self.is_closed() {
            close_behind(self.client.clone(), self.key.clone());
        }
    }
}

/// Closes a session that nobody holds any more. Nobody is left to be told whether it works; the service closes
/// idle sessions by itself.
fn close_behind(client: Client, key: SessionKey) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        // Bounded by the deadline of the call, and dropped with the runtime.
        drop(runtime.spawn(async move { close_once(&client, &key).await }));
        return;
    }
    let thread = std::thread::Builder::new().name("session-closer".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // The connections of the client are moved by a runtime that may be gone or at rest.
        if let (Ok(runtime), Ok(client)) = (runtime, client.with_own_connections()) {
            runtime.block_on(close_once(&client, &key));
        }
    });
    // A thread that cannot be started leaves the session to the service.
    drop(thread);
}

async fn close_once(client: &Client, key: &SessionKey) {
    if let Ok(call) = client.close_call(key) {
        // See above: nobody is left.
        let _ = client.perform(call).await;
    }
}
