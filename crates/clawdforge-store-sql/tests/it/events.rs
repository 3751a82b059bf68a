//! The event log: contiguous, whole, in order.

use clawdforge_core::commit::Write;
use clawdforge_core::event::{Event, EventBody};
use clawdforge_core::run::{Effort, SystemMode};
use clawdforge_store::EventBounds;

use crate::support::{Fixture, accept, file_id, outcome, session_id, text, unexpected};

#[tokio::test]
async fn every_kind_of_event_is_read_back_whole() {
    let fixture = Fixture::with_app().await;
    fixture.write(accept(1)).await.unwrap();
    let bodies = [
        EventBody::Prompt {
            text: "quote \" nul \0 emoji \u{1f525}".to_owned(),
            model: "opus".to_owned(),
            system: Some("be brief".to_owned()),
            system_mode: SystemMode::Replace,
            effort: Some(Effort::High),
            files: vec![file_id(1)],
            output_schema: Some(serde_json::json!({"type": "object"})),
            instruction: Some("as JSON".into()),
        },
        EventBody::Started,
        EventBody::Text { content: "x".repeat(1_000_000) },
        EventBody::Thinking { content: String::new() },
        EventBody::ToolCall { call: "c".into(), name: "Read".into(), args: serde_json::json!({"path": "a"}) },
        EventBody::ToolResult { call: "c".into(), result: serde_json::json!([1, null]), failed: true },
        EventBody::Retry { attempt: 2, status: Some(529), reason: "overloaded".into() },
        EventBody::Unrecognised { raw: "{".into() },
        EventBody::Ended(outcome()),
    ];
    let events: Vec<_> = (1..).zip(bodies).map(|(seq, body)| Event { body, ..text(1, seq, "") }).collect();
    fixture.write([Write::AppendEvents(events.clone())]).await.unwrap();
    assert_eq!(fixture.store().events.events_after(session_id(1), 0, 100).await.unwrap(), events);
}

#[tokio::test]
async fn events_can_be_read_from_anywhere_in_pages() {
    let fixture = Fixture::with_app().await;
    fixture.write(accept(1)).await.unwrap();
    fixture.write([Write::AppendEvents((1..=10).map(|seq| text(1, seq, "a")).collect())]).await.unwrap();
    let numbers = async |after, limit| {
        let events = fixture.store().events.events_after(session_id(1), after, limit).await.unwrap();
        events.into_iter().map(|event| event.seq).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0, 3).await, [1, 2, 3]);
    assert_eq!(numbers(8, 3).await, [9, 10]);
    assert_eq!(numbers(10, 3).await, [0u64; 0]);
    assert_eq!(numbers(u64::MAX, 3).await, [0u64; 0]);
    assert_eq!(fixture.store().events.head(session_id(1)).await.unwrap(), 10);
    assert_eq!(fixture.store().events.head(session_id(2)).await.unwrap(), 0);
}

#[tokio::test]
async fn numbers_that_do_not_follow_on_are_refused() {
    let fixture = Fixture::with_app().await;
    fixture.write(accept(1)).await.unwrap();
    let append = async |numbers: &[u64]| {
        fixture.write([Write::AppendEvents(numbers.iter().map(|seq| text(1, *seq, "a")).collect())]).await
    };
    for bad in [&[0][..], &[2], &[1, 3], &[1, 1], &[2, 1], &[u64::MAX]] {
        assert_eq!(append(bad).await, Err(unexpected(0)), "{bad:?} on an empty log");
    }
    assert_eq!(append(&[]).await, Ok(()));
    assert_eq!(append(&[1, 2]).await, Ok(()));
    for bad in [&[1][..], &[2], &[4], &[3, 5]] {
        assert_eq!(append(bad).await, Err(unexpected(0)), "{bad:?} after 2");
    }
    assert_eq!(append(&[3]).await, Ok(()));
    assert_eq!(fixture.store().events.head(session_id(1)).await.unwrap(), 3);
}

#[tokio::test]
async fn one_change_may_append_to_several_sessions() {
    let fixture = Fixture::with_app().await;
    fixture.write(accept(1)).await.unwrap();
    fixture.write(accept(2)).await.unwrap();
    let mixed = vec![text(1, 1, "a"), text(2, 1, "b"), text(1, 2, "c")];
    fixture.write([Write::AppendEvents(mixed)]).await.unwrap();
    assert_eq!(fixture.store().events.head(session_id(1)).await.unwrap(), 2);
    assert_eq!(fixture.store().events.head(session_id(2)).await.unwrap(), 1);
}

#[tokio::test]
async fn events_of_an_unknown_session_are_refused() {
    let fixture = Fixture::with_app().await;
    assert_eq!(fixture.write([Write::AppendEvents(vec![text(1, 1, "a")])]).await, Err(unexpected(0)));
}

#[tokio::test]
async fn a_long_group_of_events_is_whole_or_not_there() {
    let fixture = Fixture::with_app().await;
    fixture.write(accept(1)).await.unwrap();
    let mut events: Vec<_> = (1..=300).map(|seq| text(1, seq, &format!("event {seq}"))).collect();
    events[250].seq = 252;
    assert_eq!(fixture.write([Write::AppendEvents(events.clone())]).await, Err(unexpected(0)));
    assert_eq!(fixture.store().events.head(session_id(1)).await.unwrap(), 0);
    events[250].seq = 251;
    // Every length in which a group can be cut into statements occurs.
    for group in [1, 85, 86, 106, 22].iter().scan(0, |from, length| {
        *from += length;
        Some(events[*from - length..*from].to_vec())
    }) {
        fixture.write([Write::AppendEvents(group)]).await.unwrap();
    }
    assert_eq!(fixture.store().events.events_after(session_id(1), 0, 1_000).await.unwrap(), events);
}

#[tokio::test]
async fn a_read_ends_where_its_bytes_do_and_holds_at_least_one_event() {
    let fixture = Fixture::with_app().await;
    fixture.write(accept(1)).await.unwrap();
    let large = "x".repeat(1_000);
    fixture.write([Write::AppendEvents((1..=10).map(|seq| text(1, seq, &large)).collect())]).await.unwrap();
    let numbers = async |after, rows_max, bytes_max| {
        let bounds = EventBounds { rows_max, bytes_max };
        let events = fixture.store().events.events_within(session_id(1), after, bounds).await.unwrap();
        events.into_iter().map(|event| event.seq).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0, 100, 0).await, [1]);
    assert_eq!(numbers(0, 100, 1).await, [1]);
    assert_eq!(numbers(0, 100, 2_900).await, [1, 2, 3]);
    assert_eq!(numbers(7, 2, usize::MAX).await, [8, 9]);
    assert_eq!(numbers(9, 100, 1).await, [10]);
    assert_eq!(numbers(10, 100, 1).await, [0u64; 0]);
}
