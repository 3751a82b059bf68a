//! Sessions and turns of `/v1`. A session is named by its `ses_…` or its UUID.

use clawdforge_api::legacy::TurnRequest;
use clawdforge_api::v1::{Page, Session, SessionChanges, SessionRequest, Turn};
use clawdforge_core::event::EventSeq;

use super::PageQuery;
use crate::client::Client;
use crate::error::ClientError;
use crate::events::{Event, EventSource, EventStream};

impl Client {
    /// Opens a session, which stays open until it is closed. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with the code of the problem; the others as they say.
    pub async fn open_v1_session(&self, options: &SessionRequest, key: Option<&str>) -> Result<Session, ClientError> {
        Ok(self.perform(self.session_open_call(options, key)?).await?.value)
    }

    /// Forks a session that has no turn under way: a new one that knows what this one knows now, with the same choices but for
    /// these changes. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `session_busy`, `fork_impossible` (with the reason) or another one; the others as they
    /// say.
    pub async fn fork_session(
        &self,
        id: &str,
        changes: &SessionChanges,
        key: Option<&str>,
    ) -> Result<Session, ClientError> {
        Ok(self.perform(self.session_fork_call(id, changes, key)?).await?.value)
    }

    /// Changes a session: turns that begin from then on go by it, and its agent is started anew for another model, effort or
    /// mode and takes the conversation up. Sent again it changes nothing. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `session_closed` or another one; the others as they say.
    pub async fn change_session(&self, id: &str, changes: &SessionChanges) -> Result<Session, ClientError> {
        Ok(self.perform(self.session_change_call(id, changes)?).await?.value)
    }

    /// A session. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `not_found` when the app has none of that id; the others as they say.
    pub async fn get_v1_session(&self, id: &str) -> Result<Session, ClientError> {
        Ok(self.perform(self.session_get_call(id)?).await?.value)
    }

    /// The app's sessions, newest first. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError`], as its variants say.
    pub async fn list_v1_sessions(&self, include_closed: bool, page: &PageQuery) -> Result<Page<Session>, ClientError> {
        Ok(self.perform(self.sessions_page_call(include_closed, page)?).await?.value)
    }

    /// Closes a session; what is under way ends. Closing it again changes nothing. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `not_found` when the app has none of that id; the others as they say.
    pub async fn close_v1_session(&self, id: &str) -> Result<Session, ClientError> {
        Ok(self.perform(self.session_close_call(id)?).await?.value)
    }

    /// A page of a session's events that are there now, from behind number `after` on. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `not_found` when the app has none of that id; the others as they say.
    pub async fn session_events(
        &self,
        id: &str,
        after: EventSeq,
        page: &PageQuery,
    ) -> Result<Page<Event>, ClientError> {
        let found = self.perform(self.events_page_call(id, after, page)?).await?.value;
        let events = found.data.into_iter().map(|event| Event::read(Box::<str>::from(event).into_string()));
        let data = events.collect::<Result<_, _>>();
        let data = data.map_err(|_| ClientError::BadReply("an event has another shape".to_owned()))?;
        Ok(Page { data, next_cursor: found.next_cursor })
    }

    /// All events of a session from behind number `after` on, until it is closed. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `not_found` when the app has none of that id; the others as they say.
    pub async fn follow_session(&self, id: &str, after: EventSeq) -> Result<EventStream, ClientError> {
        EventStream::follow(self.clone(), EventSource::session(id)?, after).await
    }

    /// Gives a session one prompt in the background, and gives the turn as it stands at once. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `session_closed` when it takes none any more; the others as they say.
    pub async fn start_turn(
        &self,
        session: &str,
        request: &TurnRequest,
        key: Option<&str>,
    ) -> Result<Turn, ClientError> {
        Ok(self.perform(self.turn_start_call(session, request, key)?).await?.value)
    }

    /// Gives a session one prompt and tells of the turn as it goes on, to its end. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `session_closed` when it takes none any more; the others as they say. When the
    /// connection breaks before the service has answered, the turn may be accepted: with a `key` the same call finds it.
    pub async fn stream_turn(
        &self,
        session: &str,
        request: &TurnRequest,
        key: Option<&str>,
    ) -> Result<EventStream, ClientError> {
        EventStream::begin(self.clone(), self.turn_post(session, request, key)?).await
    }

    /// A turn, with what came of it once it has ended. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `not_found` when there is none of that id; the others as they say.
    pub async fn get_turn(&self, session: &str, turn: &str) -> Result<Turn, ClientError> {
        Ok(self.perform(self.turn_get_call(session, turn)?).await?.value)
    }

    /// The turns of a session, in their order. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `not_found` when the app has no session of that id; the others as they say.
    pub async fn list_turns(&self, session: &str, page: &PageQuery) -> Result<Page<Turn>, ClientError> {
        Ok(self.perform(self.turns_call(session, page)?).await?.value)
    }

    /// Has a turn stopped, or taken out of the queue. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `already_ended` when there is nothing to stop; the others as they say.
    pub async fn cancel_turn(&self, session: &str, turn: &str) -> Result<Turn, ClientError> {
        Ok(self.perform(self.turn_cancel_call(session, turn)?).await?.value)
    }

    /// A turn's events from behind number `after` of its session on, to its end. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `not_found` when there is none of that id; the others as they say.
    pub async fn follow_turn(&self, session: &str, turn: &str, after: EventSeq) -> Result<EventStream, ClientError> {
        EventStream::follow(self.clone(), EventSource::turn(session, turn)?, after).await
    }
}
