//! The service's own streams.

use std::time::Duration;

use anyhow::{Context, Result};

use super::super::{Caller, PROMPT};
use super::log::{Log, Stream};
use crate::bench::measure::service::Service;

/// Events to a page: the most there are.
const PAGE_EVENTS: usize = 500;

/// A service, and an app of it.
pub struct Ours {
    pub service: Service,
    pub token: String,
}

/// A closed session with a long log.
pub struct Flooded {
    session: String,
    /// Events in its log.
    pub events: usize,
}

impl Ours {
    /// A session whose agent is warm.
    pub async fn opened(&self) -> Result<String> {
        let mut caller = self.caller().await?;
        let session = caller.open().await?;
        caller.turn(&session, PROMPT).await?;
        Ok(session)
    }

    /// A closed session with a log of so many calls of a tool.
    pub async fn flooded(&self, calls: usize) -> Result<Flooded> {
        let mut caller = self.caller().await?;
        let session = caller.open().await?;
        caller.turn(&session, &"use tool: Read {}\n".repeat(calls)).await?;
        caller.close(&session).await?;
        Ok(Flooded { events: self.head(&session).await?, session })
    }

    /// From the request for a streamed turn to the first word on it; its end is waited for as well.
    pub async fn first_word(&self, session: &str, prompt: &str) -> Result<Duration> {
        let (address, token) = (self.service.address, &self.token);
        let body = serde_json::json!({ "prompt": prompt }).to_string();
        let head = format!(
            "POST {}/turns HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nAccept: text/event-stream\r\n\r\n",
            path(session),
            body.len()
        );
        let mut stream = Stream::ask(address, &(head + &body)).await?;
        let took = stream.until("event: text\n").await?;
        stream.until("event: ended\n").await?;
        Ok(took)
    }

    /// Turns of a session that so many follow.
    pub async fn fan_out(&self, session: &str, followers: usize, rounds: usize) -> Result<Vec<Duration>> {
        let log = self.log(session, self.head(session).await?, "event: ended\n");
        let mut caller = self.caller().await?;
        log.fan_out(followers, rounds, async || caller.turn(session, PROMPT).await.map(drop)).await
    }

    /// The whole log of a closed session.
    pub fn log_of(&self, flooded: &Flooded) -> Log {
        self.log(&flooded.session, 0, "event: closed\n")
    }

    /// The number of the last event of a session, which is how many it has.
    async fn head(&self, session: &str) -> Result<usize> {
        let mut caller = self.caller().await?;
        let mut after = 0;
        loop {
            let page = caller.get(&format!("{}/events?limit={PAGE_EVENTS}&after={after}", path(session))).await?;
            let Some(last) = page["data"].as_array().context("a page has events")?.last() else { return Ok(after) };
            after = usize::try_from(last["seq"].as_u64().context("an event has a number")?)?;
        }
    }

    fn log(&self, session: &str, after: usize, end: &'static str) -> Log {
        Log {
            address: self.service.address,
            path: format!("{}/events?after={after}", path(session)),
            headers: format!("Authorization: Bearer {}\r\n", self.token),
            end,
        }
    }

    async fn caller(&self) -> Result<Caller> {
        Caller::new(self.service.address, &self.token).await
    }
}

/// Where `/v1` has a session that the first versions' route opened.
fn path(session: &str) -> String {
    format!("/v1/sessions/{session}")
}
