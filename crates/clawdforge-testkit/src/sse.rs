//! Reading server-sent events as a client does.

use crate::app::PATIENCE;
use anyhow::{Context as _, bail, ensure};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use serde_json::Value;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Sse {
    /// Its number, if it has one.
    pub id: Option<u64>,
    /// Its name.
    pub name: String,
    /// What it carries, which is JSON.
    pub data: Value,
}

/// A stream being read.
pub struct Stream {
    response: reqwest::Response,
    text: String,
}

/// Sends a request that is answered with a stream.
///
/// # Errors
/// When it is answered with anything else.
pub async fn follow(request: reqwest::RequestBuilder) -> anyhow::Result<Stream> {
    let response = tokio::time::timeout(PATIENCE, request.send()).await??;
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("none").to_owned();
    if !response.status().is_success() || kind != "text/event-stream" {
        bail!("{} {kind}: {}", response.status(), response.text().await?);
    }
    Ok(Stream { response, text: String::new() })
}

impl Stream {
    /// Where what is streamed is.
    #[must_use]
    pub fn location(&self) -> Option<String> {
        self.response.headers().get(LOCATION)?.to_str().ok().map(str::to_owned)
    }

    /// The next event; nothing at the end.
    ///
    /// # Errors
    /// When the stream breaks off, nothing comes for long, or something is no event.
    pub async fn next(&mut self) -> anyhow::Result<Option<Sse>> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event.starts_with(':') {
                    continue;
                }
                return parse(&event).map(Some);
            }
            match tokio::time::timeout(PATIENCE, self.response.chunk()).await?? {
                Some(chunk) => self.text.push_str(std::str::from_utf8(&chunk).context("events are UTF-8")?),
                None => {
                    ensure!(self.text.is_empty(), "cut off within an event: {:?}", self.text);
                    return Ok(None);
                }
            }
        }
    }

    /// All that comes, to the end.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn rest(mut self) -> anyhow::Result<Vec<Sse>> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }
}

fn parse(text: &str) -> anyhow::Result<Sse> {
    let mut event = Sse { id: None, name: "message".to_owned(), data: Value::Null };
    for line in text.lines() {
        match line.split_once(": ").with_context(|| format!("no field: {line}"))? {
            ("id", id) => event.id = Some(id.parse()?),
            ("event", name) => event.name = name.to_owned(),
            ("data", data) => event.data = serde_json::from_str(data)?,
            (field, _) => bail!("an unknown field: {field}"),
        }
    }
    Ok(event)
}
