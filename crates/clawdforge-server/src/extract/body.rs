//! JSON bodies: bounded, patient but not for ever, and read into a value that is then validated.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use clawdforge_core::limits::JSON_BODY_BYTES_MAX;
use http_body::Body;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::App;
use crate::answer::Refusal;
use crate::limits::BODY_PAUSE_MAX;
use crate::validate;

/// A JSON body of whatever shape.
pub(crate) struct JsonBody(pub Value);

impl FromRequest<App> for JsonBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, _app: &App) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            return Err(Refusal::WrongContentType("application/json"));
        }
        let bytes = read(request, JSON_BODY_BYTES_MAX, BODY_PAUSE_MAX).await?;
        if bytes.is_empty() {
            return Err(Refusal::Invalid(vec![validate::missing_body()]));
        }
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self(value)),
            Err(error) => Err(Refusal::Invalid(vec![validate::not_json(&bytes, &error)])),
        }
    }
}

/// A body without a content type is taken for JSON: some of the old clients' HTTP libraries leave it
/// out, and no browser form can do so.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return true };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || (essence.len() > 5 && essence[essence.len() - 5..].eq_ignore_ascii_case("+json"))
}

async fn read(request: Request, bytes_max: usize, pause_max: Duration) -> Result<Bytes, Refusal> {
    let mut body = request.into_body();
    // What says of itself that it is too large is not waited for.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal::BodyTooLarge(bytes_max as u64));
    }
    let mut bytes = Vec::new();
    loop {
        let frame = match tokio::time::timeout(pause_max, body.frame()).await {
            Err(_elapsed) => return Err(Refusal::BodyTooSlow),
            Ok(None) => return Ok(bytes.into()),
            Ok(Some(Err(error))) => return Err(Refusal::BodyBroken(error.to_string())),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > bytes_max {
                return Err(Refusal::BodyTooLarge(bytes_max as u64));
            }
            bytes.extend_from_slice(&data);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn a_body_that_stops_arriving_is_given_up() {
        let begun = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{\"prompt\":"))]);
        let stalled = futures_util::StreamExt::chain(begun, stream::pending());
        let request = Request::new(Body::from_stream(stalled));
        let refused = read(request, 100, Duration::from_millis(20)).await;
        assert!(matches!(refused, Err(Refusal::BodyTooSlow)), "{refused:?}");
    }

    #[test]
    fn only_json_and_nothing_said_are_taken_for_json() {
        let with = |value: &'static str| HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
            assert!(is_json(&with(good)), "{good}");
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "+json", ""] {
            assert!(!is_json(&with(bad)), "{bad}");
        }
        assert!(is_json(&HeaderMap::new()));
    }
}
