//! Streams of events that last longer than their connections.
//!
//! What holds here:
//!
//! - Each number is given once, in order: whatever a new connection repeats is passed over.
//! - An event counts when its blank line has come. What was cut off within one comes again.
//! - A stream is over by the service's word: the end of the turn, or that the session is closed. The end of a connection
//!   alone is none.
//! - Tries without progress, pauses and silences are bounded ([`crate::limits`]).

mod connection;
mod event;
mod source;
mod sse;

use std::time::Duration;

use clawdforge_api::v1;
use clawdforge_core::event::EventSeq;
use reqwest::{Method, RequestBuilder};
use tokio::time::{Instant, sleep_until};

use crate::client::Client;
use crate::error::ClientError;
use crate::limits::{EVENT_CONNECTION_HELD, EVENT_PAUSE_MAX, EVENT_TRIES_MAX};
use crate::reply;
use connection::{Connection, Heard};
pub use event::{Event, EventKind};
pub use source::EventSource;
pub(crate) use source::{part, session_part};
use sse::Frame;

/// The events of a run, a turn or a session, as they come.
///
/// When the connection breaks, or nothing came for as long as [`crate::ClientBuilder::stream_silence`] says, not even a
/// heartbeat, it goes on over a new one where it was, also over a restart of the service. Dropping it changes nothing about
/// the work.
#[derive(Debug)]
#[must_use = "events come when they are asked for"]
pub struct EventStream {
    client: Client,
    source: EventSource,
    /// The last number that was given.
    seen: EventSeq,
    connection: Option<Connection>,
    tries: u32,
    /// When the next connection may be made.
    resume_at: Option<Instant>,
    /// The service said that the turn had ended, before a stream of it came that told nothing.
    has_ended: bool,
    is_over: bool,
}

/// What became of hearing once.
enum Step {
    Event(Event),
    /// Nothing for the caller.
    Quiet,
    Over,
}

impl EventStream {
    /// Follows from behind event `after` on. The first connection is made at once, and its failure is told.
    pub(crate) async fn follow(client: Client, source: EventSource, after: EventSeq) -> Result<Self, ClientError> {
        let mut stream = Self::new(client, source, after);
        stream.connection = Some(stream.connect().await?);
        Ok(stream)
    }

    /// Begins the work that `request` asks for, and follows it.
    pub(crate) async fn begin(client: Client, request: RequestBuilder) -> Result<Self, ClientError> {
        let connection = Connection::open(&client, request).await?;
        let source = EventSource::of_location(connection.location().unwrap_or_default())?;
        Ok(Self { connection: Some(connection), ..Self::new(client, source, 0) })
    }

    fn new(client: Client, source: EventSource, seen: EventSeq) -> Self {
        Self { client, source, seen, connection: None, tries: 0, resume_at: None, has_ended: false, is_over: false }
    }

    /// What it tells of.
    pub fn source(&self) -> &EventSource {
        &self.source
    }

    /// The number of the last event that was given; following from here on goes on behind it.
    pub fn seen(&self) -> EventSeq {
        self.seen
    }

    /// The next event; `None` at the end of the run or turn, or when the session is closed. Waits for as long as nothing
    /// happens. Cancel-safe.
    ///
    /// # Errors
    /// [`ClientError::StreamLost`] when [`EVENT_TRIES_MAX`] tries to go on made no progress; without further tries what
    /// no try can mend, such as [`ClientError::Api`] with status 404 when it is erased. Calling it again tries again.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if self.is_over {
                return Ok(None);
            }
            match Box::pin(self.step()).await {
                Ok(Step::Event(event)) => return Ok(Some(event)),
                Ok(Step::Quiet) => {}
                Ok(Step::Over) => {
                    self.is_over = true;
                    self.connection = None;
                }
                Err(error) => self.take_failure(error)?,
            }
        }
    }

    /// Each of its waits can be dropped: what was heard is in the connection, and what was asked for is asked again.
    async fn step(&mut self) -> Result<Step, ClientError> {
        if let Some(at) = self.resume_at {
            sleep_until(at).await;
            self.resume_at = None;
        }
        if self.connection.is_none() {
            self.connection = Some(self.connect().await?);
        }
        let Some(connection) = &mut self.connection else { return Ok(Step::Quiet) };
        match connection.hear(&self.client).await? {
            Heard::Frame(Frame::Comment) => {
                if connection.age() >= EVENT_CONNECTION_HELD {
                    self.tries = 0;
                }
                Ok(Step::Quiet)
            }
            Heard::Frame(Frame::Event { id, name, data }) => self.take_event(id.as_deref(), &name, data),
            Heard::End => self.take_end().await,
        }
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let mut path = self.source.path();
        path.push("events");
        let request = self.client.as_app(self.client.to(Method::GET, &path)?)?;
        let request = request.header("last-event-id", self.seen);
        Connection::open(&self.client, request).await
    }

    fn take_event(&mut self, id: Option<&str>, name: &str, data: String) -> Result<Step, ClientError> {
        let unreadable = |_| ClientError::BadReply(format!("its event {name:?} has another shape"));
        let event = match name {
            v1::CLOSED => return Ok(Step::Over),
            v1::ERROR => return Err(reply::told_problem(&serde_json::from_str(&data).map_err(unreadable)?)),
            v1::GAP => Event::gap(serde_json::from_str(&data).map_err(unreadable)?),
            // Something about the stream that this client does not know: what is recorded has a number.
            _ if id.is_none() => return Ok(Step::Quiet),
            _ => Event::read(data).map_err(unreadable)?,
        };
        if event.seq <= self.seen {
            return Ok(Step::Quiet);
        }
        self.seen = event.seq;
        self.tries = 0;
        self.has_ended = false;
        if let Some(connection) = &mut self.connection {
            connection.has_told = true;
        }
        if event.is_end() && self.source.ends_with_turn() {
            self.is_over = true;
            self.connection = None;
        }
        Ok(Step::Event(event))
    }

    /// A connection that ended without the word that would end the stream. A turn that was followed from behind its end
    /// has nothing to tell; only the turn itself says that, and one more connection that nothing was missed.
    async fn take_end(&mut self) -> Result<Step, ClientError> {
        let is_empty = self.connection.as_ref().is_some_and(|connection| !connection.has_told);
        if is_empty && self.source.ends_with_turn() {
            if self.has_ended {
                return Ok(Step::Over);
            }
            let call = self.client.progress_call(&self.source)?;
            self.has_ended = self.client.perform(call).await?.value.state == "ended";
        }
        Err(ClientError::Unfinished)
    }

    /// Goes on after a failure, unless it is one that no new connection mends, or there were too many.
    fn take_failure(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.connection = None;
        let tries = std::mem::take(&mut self.tries);
        if !is_passing(&error) {
            return Err(error);
        }
        if tries >= EVENT_TRIES_MAX {
            return Err(ClientError::StreamLost { seen: self.seen, tries, source: Box::new(error) });
        }
        self.tries = tries + 1;
        let pause = pause(self.client.stream_pause, tries).max(error.retry_after().unwrap_or_default());
        self.resume_at = Some(Instant::now() + pause.min(EVENT_PAUSE_MAX));
        Ok(())
    }
}

/// How long to wait after so many tries without progress: not at all at first, then ever longer.
fn pause(first: Duration, tries: u32) -> Duration {
    match tries.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => first.saturating_mul(2_u32.saturating_pow(doublings)),
    }
}

/// Whether the same may go well on a new connection.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Transport { .. }
        | ClientError::Deadline { .. }
        | ClientError::Busy { .. }
        | ClientError::Unfinished => true,
        // 408 and 429 are a matter of time as well.
        ClientError::Api { status, .. } => matches!(status, 408 | 429 | 500..),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_nothing_to_their_bound() {
        let pauses: Vec<u64> =
            [0, 1, 2, 3, 40].iter().map(|tries| pause(Duration::from_secs(1), *tries).as_secs()).collect();
        assert_eq!(pauses[..4], [0, 1, 2, 4]);
        assert!(pauses[4] > EVENT_PAUSE_MAX.as_secs());
    }
}
