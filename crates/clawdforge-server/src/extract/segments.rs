//! The segments of a path that stand for something.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use clawdforge_engine::EngineError;
use serde::de::DeserializeOwned;

use crate::App;
use crate::answer::Refusal;

/// What the path names. What is no text cannot be anybody's: the same kind of answer as for what is not there.
pub(crate) struct Segments<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Segments<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let read = Path::from_request_parts(parts, app).await;
        read.map(|Path(named)| Self(named)).map_err(|_| EngineError::NotFound("thing").into())
    }
}
