//! One event, as a stream or a page tells it.

use clawdforge_api::v1;
use clawdforge_core::event::{EventBody, EventSeq, TurnOutcome};
use serde::Deserialize;

/// The `type` of the event that ends a turn.
const ENDED: &str = "ended";

/// One thing a stream tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// Its number in its session, by which a stream goes on behind it. Of a gap, that of its last event.
    pub seq: EventSeq,
    /// What it tells.
    pub kind: EventKind,
    name: String,
    json: String,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// Something happened.
    Recorded(Box<v1::Event>),
    /// Events are not kept any more.
    Gap(v1::Gap),
    /// Something that only newer clients know; see [`Event::json`].
    Unknown,
}

/// What every event has.
#[derive(Deserialize)]
struct Head {
    seq: EventSeq,
    #[serde(rename = "type")]
    kind: String,
}

impl Event {
    /// Reads an event of a stream or of a page.
    pub(crate) fn read(json: String) -> Result<Self, serde_json::Error> {
        let head: Head = serde_json::from_str(&json)?;
        let kind = match serde_json::from_str(&json) {
            Ok(event) => EventKind::Recorded(Box::new(event)),
            // It has its number, so it can be passed on.
            Err(_) => EventKind::Unknown,
        };
        Ok(Self { seq: head.seq, kind, name: head.kind, json })
    }

    pub(super) fn gap(gap: v1::Gap) -> Self {
        let v1::Gap { from, to } = gap;
        let json = format!(r#"{{"type":"gap","from":{from},"to":{to}}}"#);
        Self { seq: to, kind: EventKind::Gap(gap), name: v1::GAP.to_owned(), json }
    }

    /// Its `type`, such as `text`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The event as the service sent it, in one line.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// What happened, if it is something recorded.
    #[must_use]
    pub fn body(&self) -> Option<&EventBody> {
        match &self.kind {
            EventKind::Recorded(event) => Some(&event.body),
            EventKind::Gap(_) | EventKind::Unknown => None,
        }
    }

    /// Its piece of the answer, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self.body()? {
            EventBody::Text { content } => Some(content),
            _ => None,
        }
    }

    /// How the turn ended, if it is its end.
    #[must_use]
    pub fn outcome(&self) -> Option<&TurnOutcome> {
        match self.body()? {
            EventBody::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Nothing follows it in its turn.
    pub(super) fn is_end(&self) -> bool {
        self.name == ENDED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str) -> Event {
        Event::read(format!(r#"{{"seq":3,"at":"2026-11-29T00:01:10.444Z","turn_id":"trn_1",{kind}}}"#)).unwrap()
    }

    #[test]
    fn what_only_newer_clients_know_keeps_its_number_and_its_text() {
        assert_eq!(read(r#""type":"text","content":"a""#).text(), Some("a"));
        let dream = read(r#""type":"dream","content":"a""#);
        assert_eq!((dream.seq, &dream.kind, dream.is_end()), (3, &EventKind::Unknown, false));
        assert!(dream.json().contains("dream"));
        let end = read(r#""type":"ended","failure":{"kind":"unheard_of","message":"x"},"duration_ms":1"#);
        assert_eq!((&end.kind, end.is_end()), (&EventKind::Unknown, true));
        assert!(Event::read("{}".to_owned()).is_err());
    }
}
