//! One connection that a stream is read from.

use std::time::Duration;

use clawdforge_api::v1::EVENT_STREAM;
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::{RequestBuilder, Response};
use tokio::time::{Instant, timeout};

use super::sse::{Bounds, Fault, Frame, Parser};
use crate::client::Client;
use crate::error::ClientError;
use crate::limits::{EVENT_BYTES_MAX, EVENT_LINE_BYTES_MAX};
use crate::reply;

#[derive(Debug)]
pub(super) struct Connection {
    response: Response,
    parser: Parser,
    since: Instant,
    /// A new event came.
    pub(super) has_told: bool,
}

/// What is heard of a connection.
#[derive(Debug)]
pub(super) enum Heard {
    Frame(Frame),
    /// It has ended in good order.
    End,
}

impl Connection {
    /// Sends a request that is answered with a stream, and waits for the head of the answer.
    pub(super) async fn open(client: &Client, request: RequestBuilder) -> Result<Self, ClientError> {
        let request = request.header(ACCEPT, EVENT_STREAM);
        let wait = client.call_wait;
        let Ok(response) = timeout(wait, request.send()).await else {
            return Err(client.late(wait));
        };
        let response = response.map_err(|error| client.broken(error, None))?;
        if !response.status().is_success() {
            return Err(reply::refusal(response).await);
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(EVENT_STREAM)) {
            return Err(ClientError::BadReply("it is no stream of events".to_owned()));
        }
        let bounds = Bounds {
            line_bytes_max: EVENT_LINE_BYTES_MAX.min(client.reply_bytes_max),
            event_bytes_max: EVENT_BYTES_MAX.min(client.reply_bytes_max),
        };
        Ok(Self { response, parser: Parser::new(bounds), since: Instant::now(), has_told: false })
    }

    /// Where the answer says that what it streams is.
    pub(super) fn location(&self) -> Option<&str> {
        self.response.headers().get(LOCATION)?.to_str().ok()
    }

    /// How long it has held.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// What comes next. Cancel-safe: what has arrived stays here.
    pub(super) async fn hear(&mut self, client: &Client) -> Result<Heard, ClientError> {
        loop {
            if let Some(frame) = self.parser.next().map_err(unreadable)? {
                return Ok(Heard::Frame(frame));
            }
            let silence = client.stream_silence;
            let Ok(chunk) = timeout(silence, self.response.chunk()).await else {
                return Err(client.late(silence));
            };
            match chunk.map_err(|error| client.broken(error, None))? {
                Some(bytes) => self.parser.push(&bytes),
                None => return Ok(Heard::End),
            }
        }
    }
}

fn unreadable(fault: Fault) -> ClientError {
    match fault {
        Fault::TooLarge(limit) => ClientError::TooLarge { limit },
        Fault::NotText => ClientError::BadReply("the stream is not UTF-8".to_owned()),
    }
}
