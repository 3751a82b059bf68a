//! One turn as its caller sees it: while it goes on, and when it is over.

use anyhow::{Context as _, ensure};
use clawdforge_testkit::sse::{Sse, Stream};
use reqwest::Method;
use serde_json::Value;

use super::stage::Stage;

/// Characters of a record, or of what was said, that a message shows.
pub const SHOWN_CHARS_MAX: usize = 2_000;

/// A turn under way.
pub struct Turn {
    path: String,
    stream: Stream,
    events: Vec<Sse>,
}

/// A turn that is over.
pub struct Ended {
    /// As the service has it on record.
    pub record: Value,
    /// None where nobody was there to see them.
    pub events: Vec<Sse>,
}

impl Turn {
    pub fn of(stream: Stream) -> anyhow::Result<Self> {
        let path = stream.location().context("it says where the turn is")?;
        Ok(Self { path, stream, events: Vec::new() })
    }

    /// Waits until the agent has said so many bytes.
    pub async fn has_said(&mut self, bytes: usize) -> anyhow::Result<()> {
        let mut said = 0;
        while said < bytes {
            let event = self.stream.next().await?.context("the turn goes on")?;
            ensure!(event.name != "ended", "it has ended before it said enough: {:?}", event.data);
            said += text_in(&event).len();
            self.events.push(event);
        }
        Ok(())
    }

    /// Asks for it to be stopped.
    pub async fn cancel(&self, stage: &Stage) -> anyhow::Result<()> {
        stage.call(Method::POST, &format!("{}/cancel", self.path)).await.map(drop)
    }

    /// Follows it to its end.
    pub async fn end(self, stage: &Stage) -> anyhow::Result<Ended> {
        let Self { path, stream, mut events } = self;
        events.extend(stream.rest().await?);
        ensure!(events.last().is_some_and(|event| event.name == "ended"), "its stream has no end");
        let record = stage.call(Method::GET, &path).await?;
        Ok(Ended { record, events })
    }

    /// Its end where the stream was cut off.
    pub async fn end_without_stream(self, stage: &Stage) -> anyhow::Result<Ended> {
        Ok(Ended { record: stage.call(Method::GET, &self.path).await?, events: Vec::new() })
    }
}

impl Ended {
    /// It has this outcome on record, with an answer or a failure in words for a caller.
    pub fn must_be(&self, outcome: &str, stage: &Stage) -> anyhow::Result<()> {
        let record = &self.record;
        let is_so = record["state"] == "ended" && record["outcome"] == outcome;
        ensure!(is_so, "not {outcome}: {}; log:\n{}", self.brief(), stage.app.log()?);
        let (failure, reason) = (&record["result"]["failure"], &record["result"]["stop_reason"]);
        if outcome == "completed" {
            ensure!(failure.is_null() && reason == "end_turn", "{}", self.brief());
        } else {
            let words = failure["message"].as_str().unwrap_or_default();
            ensure!(!words.is_empty() && !words.contains(char::is_control), "no words for a caller: {}", self.brief());
        }
        Ok(())
    }

    /// Its record for a message; the answer in it may be a flood.
    fn brief(&self) -> String {
        self.record.to_string().chars().take(SHOWN_CHARS_MAX).collect()
    }

    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |event| event.name == name).map(|event| &event.data)
    }

    /// What the agent said.
    pub fn text(&self) -> String {
        self.events.iter().map(text_in).collect()
    }

    /// Where the agent had its memory from.
    pub fn context(&self) -> String {
        self.named("context").filter_map(|data| data["source"].as_str()).last().unwrap_or("none").to_owned()
    }
}

fn text_in(event: &Sse) -> &str {
    if event.name == "text" { event.data["content"].as_str().unwrap_or_default() } else { "" }
}
