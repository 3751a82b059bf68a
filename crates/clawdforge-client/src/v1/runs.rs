//! Runs of `/v1`.

use clawdforge_api::legacy::RunRequest;
use clawdforge_api::v1::{Page, Run};
use clawdforge_core::event::EventSeq;

use super::PageQuery;
use crate::client::Client;
use crate::error::ClientError;
use crate::events::{EventSource, EventStream};

impl Client {
    /// Has a prompt run in the background, and gives the run as it stands at once. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with the code of the problem; the others as they say.
    pub async fn start_run(&self, request: &RunRequest, key: Option<&str>) -> Result<Run, ClientError> {
        Ok(self.perform(self.run_start_call(request, key)?).await?.value)
    }

    /// Runs one prompt and tells of it as it goes on, to its end. [`EventStream::source`] has its id. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with the code of the problem; the others as they say. When the connection breaks before the
    /// service has answered, the run may have begun: with a `key` the same call finds it.
    pub async fn stream_run(&self, request: &RunRequest, key: Option<&str>) -> Result<EventStream, ClientError> {
        EventStream::begin(self.clone(), self.run_post(request, key)?).await
    }

    /// A run, with what came of it once it has ended. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `not_found` when the app has none of that id; the others as they say.
    pub async fn get_run(&self, id: &str) -> Result<Run, ClientError> {
        Ok(self.perform(self.run_get_call(id)?).await?.value)
    }

    /// The app's runs, newest first. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError`], as its variants say.
    pub async fn list_runs(&self, page: &PageQuery) -> Result<Page<Run>, ClientError> {
        Ok(self.perform(self.runs_call(page)?).await?.value)
    }

    /// Has a run stopped. It may end by itself before that; its events and its outcome tell. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `already_ended` when there is nothing to stop; the others as they say.
    pub async fn cancel_run(&self, id: &str) -> Result<Run, ClientError> {
        Ok(self.perform(self.run_cancel_call(id)?).await?.value)
    }

    /// A run's events from behind number `after` on, to its end. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `not_found` when the app has none of that id; the others as they say.
    pub async fn follow_run(&self, id: &str, after: EventSeq) -> Result<EventStream, ClientError> {
        EventStream::follow(self.clone(), EventSource::run(id)?, after).await
    }
}
