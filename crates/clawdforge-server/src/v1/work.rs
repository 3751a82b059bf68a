//! How work that takes time is answered: runs and turns alike.

use std::future::Future;

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use clawdforge_engine::{EngineError, EventStream};
use serde::Serialize;

use super::places::Place;
use super::{Wanted, accepted, locate, located, replayed, stream};
use crate::App;
use crate::answer::Refusal;
use crate::extract::ByApp;

/// How a caller hears of its work, with what that takes.
pub(super) enum Hearing {
    Outcome(Place),
    Stream(Place),
    Location,
}

impl Hearing {
    /// As the headers say. Asked before the work is accepted: what is refused must not have begun.
    pub fn of(headers: &HeaderMap, app: &App, by: &ByApp) -> Result<Self, Refusal> {
        Ok(match Wanted::of(headers) {
            Wanted::Outcome => Self::Outcome(app.places.enter(by.token.app.id)?),
            Wanted::Stream => Self::Stream(app.places.enter(by.token.app.id)?),
            Wanted::Location => Self::Location,
        })
    }

    /// Whether events are told as they come.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// The answer about work that is at `location`: `outcome` waits for the end of what was just submitted and is not
    /// there where it had been submitted before, `follow` gives its events from the first on, `view` shows how it stands.
    pub async fn answer<T: Serialize>(
        self,
        by: &ByApp,
        location: &str,
        outcome: Option<impl Future<Output = Result<(), EngineError>>>,
        follow: impl Future<Output = Result<EventStream, EngineError>>,
        view: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<Response, Refusal> {
        let is_known = outcome.is_none();
        let response = match (self, outcome) {
            (Self::Stream(place), _) => {
                let mut response = stream::answer(follow.await?, by.request, false, place);
                locate(&mut response, location);
                response
            }
            (Self::Location, _) => accepted(location, view.await?),
            (Self::Outcome(_place), outcome) => {
                match outcome {
                    Some(outcome) => outcome.await?,
                    None => stream::ended(follow.await?).await?,
                }
                located(StatusCode::OK, location, view.await?)
            }
        };
        Ok(if is_known { replayed(response) } else { response })
    }
}
