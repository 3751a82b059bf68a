//! Following: from anywhere, at any time, each number once and to the end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_core::agent::FailureKind;
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::{Event, EventBody, EventSeq};
use clawdforge_core::id::{SessionId, TurnId};
use clawdforge_core::secret::ExposeSecret as _;
use clawdforge_core::time::Timestamp;
use clawdforge_engine::{EngineError, EngineOptions, EventStream, Followed, TokenWish};
use clawdforge_store::{EventBounds, EventReads, ReadError, Store};
use proptest::prelude::*;

use crate::scene::{Scene, ended, soon};

/// Everything that comes to the end, or so many.
async fn numbers(stream: &mut EventStream, most: usize) -> Vec<EventSeq> {
    let mut seen = Vec::new();
    while seen.len() < most {
        match soon(stream.next()).await.unwrap() {
            Some(Followed::Event(event)) => seen.push(event.seq),
            Some(Followed::Gap(from, to)) => panic!("a gap from {from} to {to}"),
            None => break,
        }
    }
    seen
}

/// What somebody sees who hangs up after so many events each time, and comes back with the last number.
async fn seen_in_pieces(scene: &Scene, session: SessionId, pieces: &[usize]) -> Vec<EventSeq> {
    let mut seen: Vec<EventSeq> = Vec::new();
    let mut pieces = pieces.iter().copied().chain(std::iter::repeat(usize::MAX));
    loop {
        let after = seen.last().copied().unwrap_or(0);
        let mut stream = scene.engine.follow_session(&scene.by, session, after).await.unwrap();
        let most = pieces.next().unwrap_or(usize::MAX);
        let came = numbers(&mut stream, most).await;
        let is_over = came.len() < most;
        seen.extend(came);
        if is_over {
            return seen;
        }
    }
}

/// Bytes of a prompt, which stand in three events of its turn: few, as many as make a page of two events, and as many as make a
/// page of one and let the live tail hold four.
fn prompt_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(6), 1 => Just(40_000), 2 => Just(250_000)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn however_often_a_follower_comes_back_it_sees_each_number_once(
        pieces in prop::collection::vec(1_usize..9, 0..12),
        before in prop::collection::vec(prompt_bytes(), 0..3),
        meanwhile in prop::collection::vec(prompt_bytes(), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let scene = Scene::new(true).await;
            let session = scene.open().await;
            for bytes in before {
                scene.turn(session, &"b".repeat(bytes)).await;
            }
            let written = async {
                for bytes in meanwhile {
                    scene.turn(session, &"m".repeat(bytes)).await;
                }
                scene.close(session).await.unwrap();
            };
            let (seen, ()) = tokio::join!(seen_in_pieces(&scene, session, &pieces), written);
            let head = scene.opened.store.events.head(session).await.unwrap();
            assert_eq!(seen, (1..=head).collect::<Vec<_>>());
        });
    }
}

#[tokio::test]
async fn a_turn_is_followed_from_before_it_begins_to_its_end_and_no_further() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let first = scene.submit(session, "wait").await.unwrap();
    let second = scene.submit(session, "second").await.unwrap();
    let third = scene.submit(session, "third").await.unwrap();
    let mut stream = scene.engine.follow_turn(&scene.by, session, second.turn, 0).await.unwrap();
    scene.asked(1).await;
    scene.talker.go.add_permits(1);
    let (_, second, _) = (ended(first).await, ended(second).await, ended(third).await);
    assert_eq!(numbers(&mut stream, usize::MAX).await, (second.first..=second.last).collect::<Vec<_>>());
    assert!(matches!(soon(stream.next()).await, Ok(None)), "it stays over");
}

#[tokio::test]
async fn what_has_ended_is_replayed_from_any_number_and_nothing_is_waited_for() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let ticket = scene.submit(session, "first").await.unwrap();
    let turn = ticket.turn;
    let last = ended(ticket).await.last;
    for after in [0, 2, last, last + 7] {
        let mut stream = scene.engine.follow_turn(&scene.by, session, turn, after).await.unwrap();
        assert_eq!(numbers(&mut stream, usize::MAX).await, (after + 1..=last).collect::<Vec<_>>(), "after {after}");
    }
    scene.close(session).await.unwrap();
    for after in [0, last] {
        let mut stream = scene.engine.follow_session(&scene.by, session, after).await.unwrap();
        assert_eq!(numbers(&mut stream, usize::MAX).await, (after + 1..=last).collect::<Vec<_>>(), "after {after}");
    }
}

#[tokio::test]
async fn a_session_that_is_closed_during_a_turn_is_followed_to_the_end_of_the_turn() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let running = scene.submit(session, "hang").await.unwrap();
    scene.asked(1).await;
    let mut stream = scene.engine.follow_session(&scene.by, session, 0).await.unwrap();
    let (seen, closed) = tokio::join!(numbers(&mut stream, usize::MAX), scene.close(session));
    assert_eq!(closed, Ok(true));
    assert_eq!(seen.last().copied(), Some(ended(running).await.last));
}

#[tokio::test]
async fn nobody_follows_what_is_another_apps() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let turn = scene.submit(session, "first").await.unwrap().turn;
    let wish = TokenWish::of("other".parse().unwrap());
    let minted = scene.engine.mint_token(wish, scene.engine.request_id()).await.unwrap();
    let other = scene.engine.app(minted.secret.expose_secret()).unwrap();
    let not_found = |what| Some(EngineError::NotFound(what));
    assert_eq!(scene.engine.follow_session(&other, session, 0).await.err(), not_found("session"));
    assert_eq!(scene.engine.follow_turn(&other, session, turn, 0).await.err(), not_found("session"));
    let another = scene.open().await;
    assert_eq!(scene.engine.follow_turn(&scene.by, another, turn, 0).await.err(), not_found("turn"));
}

/// A log whose first events are gone.
struct Pruned {
    inner: Arc<dyn EventReads>,
    first: EventSeq,
}

#[async_trait]
impl EventReads for Pruned {
    async fn events_within(
        &self,
        session: SessionId,
        after: EventSeq,
        bounds: EventBounds,
    ) -> Result<Vec<Event>, ReadError> {
        // One event may have megabytes, and each follower holds what it reads.
        assert!(bounds.bytes_max < usize::MAX, "what a follower reads at once has no bound");
        self.inner.events_within(session, after.max(self.first - 1), bounds).await
    }

    async fn first_of_turn(&self, session: SessionId, turn: TurnId) -> Result<Option<EventSeq>, ReadError> {
        self.inner.first_of_turn(session, turn).await
    }

    async fn last_of_turn(&self, session: SessionId, turn: TurnId) -> Result<Option<Event>, ReadError> {
        self.inner.last_of_turn(session, turn).await
    }

    async fn head(&self, session: SessionId) -> Result<EventSeq, ReadError> {
        self.inner.head(session).await
    }
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_told_as_a_gap_and_the_rest_follows() {
    let prune =
        |store: Store| Store { events: Arc::new(Pruned { inner: Arc::clone(&store.events), first: 3 }), ..store };
    let scene = Scene::over(true, |_| {}, prune).await;
    let session = scene.open().await;
    let ticket = scene.submit(session, "first").await.unwrap();
    let turn = ticket.turn;
    let last = ended(ticket).await.last;
    let mut stream = scene.engine.follow_turn(&scene.by, session, turn, 0).await.unwrap();
    assert!(matches!(soon(stream.next()).await, Ok(Some(Followed::Gap(1, 2)))));
    assert_eq!(numbers(&mut stream, usize::MAX).await, (3..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_run_is_followed_as_a_turn_is() {
    let scene = Scene::new(true).await;
    let request = crate::stage::request(std::time::Duration::from_secs(60));
    let ticket =
        scene.engine.submit_run(&scene.by, request, scene.engine.request_id(), None).await.unwrap().fresh().unwrap();
    let run = ticket.run;
    let mut stream = scene.engine.follow_run(&scene.by, run, 0).await.unwrap();
    let mut bodies = Vec::new();
    while let Some(Followed::Event(event)) = soon(stream.next()).await.unwrap() {
        bodies.push(event.body.clone());
    }
    let outcome = soon(ticket.outcome()).await.unwrap();
    assert!(matches!(bodies.first(), Some(EventBody::Prompt { .. })), "{bodies:?}");
    assert_eq!(bodies.last(), Some(&EventBody::Ended((*outcome).clone())));
    let view = scene.engine.run(&scene.by, run).await.unwrap();
    assert_eq!(view.turn.outcome, Some((*outcome).clone()));
}

#[tokio::test]
async fn the_first_word_is_seen_when_it_is_said_and_not_when_enough_is_gathered() {
    let gather = |options: &mut EngineOptions| options.event_gather = Duration::from_secs(3_600);
    let scene = Scene::with(true, gather).await;
    let session = scene.open().await;
    let mut stream = scene.engine.follow_session(&scene.by, session, 0).await.unwrap();
    // It says so much and goes on waiting.
    let running = scene.submit(session, "mutter").await.unwrap();
    loop {
        match soon(stream.next()).await.unwrap() {
            Some(Followed::Event(event)) if matches!(event.body, EventBody::Text { .. }) => break,
            Some(Followed::Event(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    scene.talker.go.add_permits(1);
    assert_eq!(ended(running).await.outcome.failure, None);
}

#[tokio::test]
async fn an_agent_that_answers_before_its_follower_is_there_is_not_held_back_either() {
    let gather = |options: &mut EngineOptions| options.event_gather = Duration::from_secs(3_600);
    let scene = Scene::with(true, gather).await;
    let session = scene.open().await;
    scene.answered(session, "first").await;
    let running = scene.submit_watched(session, "mutter").await.unwrap();
    let has_spoken = async || {
        let page = scene.engine.events(&scene.by, session, 0, 100).await.unwrap();
        page.events.iter().any(|event| matches!(&event.body, EventBody::Text { content } if content == "mutter"))
    };
    soon(async {
        while !has_spoken().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    scene.talker.go.add_permits(1);
    assert_eq!(ended(running).await.outcome.failure, None);
}

#[tokio::test]
async fn a_watched_turn_that_finds_its_agent_at_rest_is_followed_from_its_first_event() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let cold = scene.submit_watched(session, "first").await.unwrap();
    assert!(cold.follow().is_none(), "where it begins is not known yet");
    let before = ended(cold).await.last;
    // It rests a moment after it was told that the turn is over.
    let (ticket, mut stream) = loop {
        let ticket = scene.submit_watched(session, "again").await.unwrap();
        match ticket.follow() {
            Some(stream) => break (ticket, stream),
            None => drop(ended(ticket).await),
        }
    };
    let ended = ended(ticket).await;
    assert!(ended.first > before);
    assert_eq!(numbers(&mut stream, usize::MAX).await, (ended.first..=ended.last).collect::<Vec<_>>());
    let unwatched = scene.submit(session, "not watched").await.unwrap();
    assert!(unwatched.follow().is_none());
    assert_eq!(crate::scene::ended(unwatched).await.outcome.failure, None);
}

#[tokio::test]
async fn a_run_that_waits_when_the_service_stops_is_followed_to_its_real_end() {
    let scene = Scene::with(true, |options| options.slots = 1).await;
    let session = scene.open().await;
    let _busy = scene.submit(session, "hang").await.unwrap();
    scene.asked(1).await;
    let request = crate::stage::request(Duration::from_secs(60));
    let ticket =
        scene.engine.submit_run(&scene.by, request, scene.engine.request_id(), None).await.unwrap().fresh().unwrap();
    let mut stream = scene.engine.follow_run(&scene.by, ticket.run, 0).await.unwrap();
    assert!(matches!(soon(stream.next()).await, Ok(Some(Followed::Event(_)))), "its prompt");
    let followed = async {
        let mut kinds = Vec::new();
        while let Some(Followed::Event(event)) = soon(stream.next()).await.unwrap() {
            if let EventBody::Ended(outcome) = &event.body {
                kinds.push(outcome.failure.as_ref().map(|failure| failure.kind));
            }
        }
        kinds
    };
    let (_, kinds) = tokio::join!(scene.engine.drain(Duration::from_millis(1)), followed);
    assert_eq!(kinds, [Some(FailureKind::Interrupted)]);
}

#[tokio::test]
async fn a_page_of_large_events_is_cut_by_their_bytes_and_says_that_there_is_more() {
    const LARGE: usize = 3 * 1024 * 1024;
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let ticket = scene.submit(session, "first").await.unwrap();
    let turn = ticket.turn;
    let last = ended(ticket).await.last;
    let body = EventBody::Text { content: "x".repeat(LARGE) };
    let large = (1..=4).map(|more| {
        let at = Timestamp::from_micros(0);
        Event { session, seq: last + more, turn, at, body: body.clone() }
    });
    let commit = Commit { writes: vec![Write::AppendEvents(large.collect())], ..Commit::default() };
    scene.opened.store.door.commit(commit).await.unwrap();
    let page = async |after, limit| {
        let page = scene.engine.events(&scene.by, session, after, limit).await.unwrap();
        (page.events.iter().map(|event| event.seq - last).collect::<Vec<_>>(), page.has_more)
    };
    assert_eq!(page(last, 1_000).await, (vec![1, 2, 3], true));
    assert_eq!(page(last + 3, 1_000).await, (vec![4], false));
    assert_eq!(page(last + 2, 2).await, (vec![3, 4], false), "full, and the last one");
    assert_eq!(page(last, 1).await, (vec![1], true));
    assert_eq!(page(last + 4, 1).await, (Vec::new(), false));
    assert_eq!(page(u64::MAX, 1).await, (Vec::new(), false));
}

#[tokio::test]
async fn a_stream_of_a_session_that_goes_on_elsewhere_gives_all_events_and_says_that_the_service_stops() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let running = scene.submit(session, "hang").await.unwrap();
    scene.asked(1).await;
    let mut stream = scene.engine.follow_session(&scene.by, session, 0).await.unwrap();
    let follow = async {
        let mut seen = 0;
        loop {
            match soon(stream.next()).await {
                Ok(Some(Followed::Event(event))) => seen = event.seq,
                Err(error) => return (seen, error),
                other => panic!("{other:?}"),
            }
        }
    };
    let (drained, (seen, told)) = tokio::join!(scene.engine.drain(Duration::ZERO), follow);
    assert_eq!(drained.interrupted, 1);
    assert_eq!(told, EngineError::Stopping);
    assert_eq!(seen, ended(running).await.last, "the end that the stop made is among them");
}
