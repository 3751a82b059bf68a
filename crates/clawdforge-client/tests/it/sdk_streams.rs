//! Streams of events: over connections that do not last, each number once, and every way one ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::Response;
use clawdforge_client::{Client, ClientError, EventKind, EventSource, EventStream, RunRequest, limits};
use serde_json::json;

use crate::streams::{Then, ended, event, in_single_bytes, located, problem, refused, streaming, text};
use crate::stub::{APP_TOKEN, Asked, Stub, reply};

const RUN: &str = "/v1/runs/run_1";

/// A client that waits for nothing between its tries.
fn hasty(stub: &Stub) -> Client {
    Client::builder(&stub.url).token(APP_TOKEN).stream_pause(Duration::ZERO).build().unwrap()
}

/// A service whose answers come one after the other, the last one again and again.
async fn answers(answers: Vec<fn(&Asked) -> Response>) -> Stub {
    let count = AtomicUsize::new(0);
    Stub::with(move |asked| {
        let number = count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
        answers[number](asked)
    })
    .await
}

fn run() -> RunRequest {
    RunRequest { prompt: "hi".to_owned(), ..RunRequest::default() }
}

/// All numbers that come, and how it ends.
async fn rest(mut stream: EventStream) -> (Vec<u64>, Result<(), ClientError>) {
    let mut seen = Vec::new();
    loop {
        match stream.next().await {
            Ok(Some(event)) => seen.push(event.seq),
            Ok(None) => return (seen, Ok(())),
            Err(error) => return (seen, Err(error)),
        }
    }
}

/// What was seen last by whoever asked.
fn last_event_ids(stub: &Stub) -> Vec<Option<String>> {
    stub.asked().iter().map(|asked| asked.header("last-event-id").map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_run_is_told_as_it_goes_on_in_whatever_pieces_it_comes() {
    let stub = answers(vec![|_| {
        let told = [": heartbeat\n\n", &text(1, "é名"), "event: news\ndata: {}\n\n", &ended(2)].concat();
        located(in_single_bytes(&told), RUN)
    }])
    .await;
    let mut stream = hasty(&stub).stream_run(&run(), Some("key-1")).await.unwrap();
    assert_eq!(stream.source(), &EventSource::Run("run_1".to_owned()));
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!((first.seq, first.text()), (1, Some("é名")));
    assert!(first.json().starts_with(r#"{"seq":1,"#), "{first:?}");
    let end = stream.next().await.unwrap().unwrap();
    assert_eq!(end.outcome().and_then(|outcome| outcome.answer.as_deref()), Some("a"));
    assert_eq!((stream.next().await.unwrap(), stream.next().await.unwrap()), (None, None));
    let asked = stub.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/v1/runs"));
    assert_eq!(asked.json(), json!({ "prompt": "hi" }));
    let sent = ["accept", "idempotency-key", "authorization"].map(|name| asked.header(name));
    assert_eq!(sent, [Some("text/event-stream"), Some("key-1"), Some(format!("Bearer {APP_TOKEN}").as_str())]);
}

#[tokio::test]
async fn what_breaks_off_goes_on_behind_what_was_seen_and_no_number_comes_twice() {
    let stub = answers(vec![
        |_| {
            let cut_within_one = text(3, "c")[..20].to_owned();
            located(streaming([text(1, "a"), text(2, "b"), cut_within_one].concat(), Then::Breaks), RUN)
        },
        |_| reply(503, "the proxy finds nobody"),
        |_| streaming("", Then::Breaks),
        |_| streaming([text(2, "b"), text(3, "c")].concat(), Then::Ends),
        |_| streaming(ended(4), Then::Stays),
    ])
    .await;
    let stream = hasty(&stub).stream_run(&run(), None).await.unwrap();
    let (seen, end) = rest(stream).await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(seen, [1, 2, 3, 4]);
    let asked: Vec<_> = stub.asked().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect();
    assert_eq!(asked[0], "POST /v1/runs");
    assert!(asked[1..].iter().all(|line| line == "GET /v1/runs/run_1/events"), "{asked:?}");
    assert_eq!(
        last_event_ids(&stub),
        [None, Some("2"), Some("2"), Some("2"), Some("3")].map(|id| id.map(str::to_owned))
    );
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_left_and_heartbeats_are_something() {
    let stub = answers(vec![|_| streaming(text(1, "a"), Then::Stays), |_| {
        streaming([": heartbeat\n\n", &ended(2)].concat(), Then::Stays)
    }])
    .await;
    let client = Client::builder(&stub.url).token(APP_TOKEN).stream_silence(Duration::from_millis(50)).build().unwrap();
    let (seen, end) = rest(client.follow_run("run_1", 0).await.unwrap()).await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!((seen, stub.asked().len()), (vec![1, 2], 2));
}

#[tokio::test]
async fn tries_without_progress_are_bounded_and_comments_alone_are_none() {
    for told in ["", ": heartbeat\n\n", &text(7, "seen")] {
        let told = told.to_owned();
        let stub = Stub::with(move |_| streaming(told.clone(), Then::Breaks)).await;
        let (seen, end) = rest(hasty(&stub).follow_run("run_1", 7).await.unwrap()).await;
        let Err(ClientError::StreamLost { seen: 7, tries, source }) = end else { panic!("{end:?}") };
        assert_eq!((tries, seen), (limits::EVENT_TRIES_MAX, vec![]));
        assert!(matches!(*source, ClientError::Transport { .. }), "{source:?}");
        assert_eq!(stub.asked().len(), tries as usize + 1);
    }
}

#[tokio::test]
async fn whoever_makes_progress_may_be_cut_off_for_ever() {
    let count = limits::EVENT_TRIES_MAX as u64 * 3;
    let stub = Stub::with(move |asked| {
        let next = asked.header("last-event-id").unwrap().parse::<u64>().unwrap() + 1;
        if next > count { streaming(ended(next), Then::Breaks) } else { streaming(text(next, "a"), Then::Breaks) }
    })
    .await;
    let (seen, end) = rest(hasty(&stub).follow_run("run_1", 0).await.unwrap()).await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(seen, (1..=count + 1).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_no_new_connection_mends_is_told_at_once_and_what_passes_is_waited_for() {
    let gone: fn(&Asked) -> Response = |_| refused("not_found", 404, None);
    let broken_off = |code, status| format!("event: error\ndata: {}\n\n", problem(code, status, Some(1)));
    let stub = answers(vec![|_| streaming(text(1, "a"), Then::Breaks), gone]).await;
    let (seen, end) = rest(hasty(&stub).follow_run("run_1", 0).await.unwrap()).await;
    assert_eq!((seen, end.unwrap_err().code(), stub.asked().len()), (vec![1], Some("not_found"), 2));

    let first = hasty(&answers(vec![gone]).await).follow_run("run_1", 0).await.unwrap_err();
    assert!(matches!(&first, ClientError::Api { status: 404, message, .. } if message == "because"), "{first:?}");

    let told = broken_off("not_found", 404);
    let stub = Stub::with(move |_| streaming(told.clone(), Then::Ends)).await;
    let (_, end) = rest(hasty(&stub).follow_run("run_1", 0).await.unwrap()).await;
    assert_eq!((end.unwrap_err().code(), stub.asked().len()), (Some("not_found"), 1));

    let deferred = broken_off("deferred", 503);
    let stub = Stub::with(move |asked| match asked.header("last-event-id") {
        Some("0") => streaming([&text(1, "a"), deferred.as_str()].concat(), Then::Ends),
        _ => streaming(ended(2), Then::Ends),
    })
    .await;
    let (seen, end) = rest(hasty(&stub).follow_run("run_1", 0).await.unwrap()).await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(seen, [1, 2]);
}

#[tokio::test]
async fn a_session_is_told_over_its_turns_with_its_gaps_until_it_is_closed() {
    let stub = answers(vec![|_| {
        let gap = "id: 4\nevent: gap\ndata: {\"from\":1,\"to\":4}\n\n";
        let dream = event(6, "dream", &json!({ "of": 1 }));
        streaming([gap, &ended(5), &dream, "event: closed\ndata: {}\n\n", &text(9, "never")].concat(), Then::Stays)
    }])
    .await;
    let uuid = "0190f0a4-7c1e-7000-8000-000000000000";
    let mut stream = hasty(&stub).follow_session(uuid, 0).await.unwrap();
    let gap = stream.next().await.unwrap().unwrap();
    assert!(matches!(&gap.kind, EventKind::Gap(gap) if (gap.from, gap.to) == (1, 4)), "{gap:?}");
    assert_eq!(gap.json(), r#"{"type":"gap","from":1,"to":4}"#);
    assert_eq!(stream.next().await.unwrap().unwrap().seq, 5);
    let dream = stream.next().await.unwrap().unwrap();
    assert_eq!((dream.seq, dream.kind.clone()), (6, EventKind::Unknown));
    assert_eq!(stream.next().await.unwrap(), None);
    let path = stub.only().path;
    assert!(path.starts_with("/v1/sessions/ses_0") && path.ends_with("/events"), "{path}");
}

#[tokio::test]
async fn following_from_behind_the_end_is_over_by_the_words_of_the_turn() {
    let progress = r#"{"id":"trn_1","session_id":"ses_1","index":1,"state":"ended","outcome":"completed",
        "queued_at":"2026-11-29T00:01:10.667Z"}"#;
    let stub =
        Stub::with(
            move |asked| {
                if asked.path.ends_with("/events") { streaming("", Then::Ends) } else { reply(200, progress) }
            },
        )
        .await;
    let (seen, end) = rest(hasty(&stub).follow_turn("ses_1", "trn_1", 9).await.unwrap()).await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(seen, Vec::<u64>::new());
    let turn = "/v1/sessions/ses_1/turns/trn_1";
    let paths: Vec<_> = stub.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, [format!("{turn}/events"), turn.to_owned(), format!("{turn}/events")]);
}

#[tokio::test]
async fn what_is_too_large_or_no_stream_is_not_tried_again() {
    let stub = answers(vec![|_| streaming(text(1, &"x".repeat(5_000)), Then::Stays)]).await;
    let small = Client::builder(&stub.url).token(APP_TOKEN).reply_bytes_max(1_000).build().unwrap();
    let (_, end) = rest(small.follow_run("run_1", 0).await.unwrap()).await;
    assert!(matches!(end, Err(ClientError::TooLarge { limit: 1_000 })), "{end:?}");
    assert_eq!(stub.asked().len(), 1);

    let page = Stub::answering(200, "{}").await;
    let error = hasty(&page).follow_run("run_1", 0).await.unwrap_err();
    assert!(matches!(error, ClientError::BadReply(_)), "{error:?}");
    let nowhere = answers(vec![|_| located(streaming(text(1, "a"), Then::Stays), "/v1/tokens/x")]).await;
    let error = hasty(&nowhere).stream_run(&run(), None).await.unwrap_err();
    assert!(matches!(error, ClientError::BadReply(_)), "{error:?}");
}

#[tokio::test]
async fn giving_up_the_wait_for_an_event_loses_none() {
    let stub = answers(vec![|_| in_single_bytes(&[text(1, "a"), text(2, "b"), ended(3)].concat())]).await;
    let mut stream = hasty(&stub).follow_run("run_1", 0).await.unwrap();
    let (mut seen, mut given_up) = (Vec::new(), 0);
    loop {
        let next = tokio::select! {
            biased;
            next = stream.next() => next.unwrap(),
            () = tokio::task::yield_now() => {
                given_up += 1;
                continue;
            }
        };
        let Some(event) = next else { break };
        seen.push(event.seq);
    }
    assert_eq!(seen, [1, 2, 3]);
    assert!(given_up > 10, "the wait was given up only {given_up} times");
}
