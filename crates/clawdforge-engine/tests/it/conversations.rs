//! Conversations: turns in order, warm and cold, closed, restarted.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use clawdforge_agent::{AgentLimits, OpenSpec};
use clawdforge_core::agent::FailureKind;
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::{ContextSource, EventBody};
use clawdforge_core::id::SessionId;
use clawdforge_core::limits::TURNS_QUEUED_PER_SESSION_MAX;
use clawdforge_core::run::Effort;
use clawdforge_core::session::{DriverName, OnContextLoss};
use clawdforge_engine::{EngineError, EngineOptions, SessionChange, SessionWish, TokenWish, TurnRequest, UploadWish};

use clawdforge_store::Store;

use crate::faults::Blind;
use crate::scene::{DEADLINE, Scene, ended, failure, soon, until};
use crate::stage::{engine_with, request};
use crate::talker::TalkerDriver;

#[tokio::test]
async fn turns_of_a_session_are_done_one_after_the_other_by_one_process() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    assert_eq!(scene.talker.opens(), 0, "nothing is started before the first turn");
    let first = scene.submit(session, "wait").await.unwrap();
    let second = scene.submit(session, "second").await.unwrap();
    let third = scene.submit(session, "third").await.unwrap();
    assert_eq!((first.index, second.index, third.index), (1, 2, 3));
    scene.asked(1).await;
    scene.talker.go.add_permits(1);
    let (first, second, third) = (ended(first).await, ended(second).await, ended(third).await);
    assert_eq!(scene.talker.asked(), ["wait", "second", "third"]);
    assert_eq!((scene.talker.opens(), scene.talker.alive()), (1, 1));
    assert_eq!(scene.context(session, &first).await, Some(ContextSource::New));
    assert_eq!(scene.context(session, &third).await, Some(ContextSource::Warm));
    assert_eq!((first.first, second.first, third.first), (1, first.last + 1, second.last + 1));
    assert_eq!(third.outcome.answer.as_deref(), Some("third"));
}

/// A scene whose store cannot be read the first so many times that a turn is about to begin.
async fn scene_with_a_blind_store(looks: usize) -> Scene {
    Scene::over(
        true,
        |_| {},
        |store| {
            let events = Blind { inner: Arc::clone(&store.events), looks: AtomicUsize::new(looks) };
            Store { events: Arc::new(events), ..store }
        },
    )
    .await
}

#[tokio::test]
async fn a_turn_that_cannot_be_read_for_long_is_not_overtaken_and_not_lost() {
    // Turns that overtook each other at every look would be in order again after some of these.
    for looks in [3, 4, 9] {
        let scene = scene_with_a_blind_store(looks).await;
        let session = scene.open().await;
        let first = scene.submit(session, "first").await.unwrap();
        let second = scene.submit(session, "second").await.unwrap();
        assert_eq!(ended(first).await.outcome.answer.as_deref(), Some("first"));
        assert_eq!(ended(second).await.outcome.answer.as_deref(), Some("second"));
        assert_eq!(scene.talker.asked(), ["first", "second"]);
    }
}

#[tokio::test]
async fn a_turn_that_cannot_be_read_is_ended_by_a_close_when_it_can_and_kept_by_a_stop() {
    let scene = scene_with_a_blind_store(5).await;
    let session = scene.open().await;
    let waiting = scene.submit(session, "first").await.unwrap();
    assert_eq!(scene.close(session).await, Ok(true));
    assert_eq!(failure(&ended(waiting).await), Some(FailureKind::SessionClosed));

    let scene = scene_with_a_blind_store(usize::MAX).await;
    let session = scene.open().await;
    let waiting = scene.submit(session, "first").await.unwrap();
    scene.engine.drain(DEADLINE).await;
    assert_eq!(soon(waiting.outcome()).await.err(), Some(EngineError::Deferred));
    assert_eq!(scene.opened.store.sessions.unfinished_turns().await.unwrap().len(), 1, "it is for the next start");
    assert_eq!(scene.talker.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn the_log_of_a_session_has_every_turn_whole_and_no_gap() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    for prompt in ["one", "exit", "two"] {
        scene.turn(session, prompt).await;
    }
    let events = scene.opened.store.events.events_after(session, 0, 1_000).await.unwrap();
    for (place, event) in events.iter().enumerate() {
        assert_eq!(event.seq, place as u64 + 1, "numbers have no gap");
    }
    let kind = |body: &EventBody| serde_json::to_value(body).unwrap()["type"].as_str().unwrap().to_owned();
    let kinds: Vec<String> = events.iter().map(|event| kind(&event.body)).collect();
    let answered = ["prompt", "started", "context", "text", "ended"];
    let crashed = ["prompt", "started", "context", "ended"];
    assert_eq!(kinds, [&answered[..], &crashed, &answered].concat());
    let expected = [
        "session_created",
        "turn_accepted",
        "turn_ended",
        "turn_accepted",
        "turn_ended",
        "turn_accepted",
        "turn_ended",
    ];
    let lines = scene.kinds().await;
    assert_eq!(lines[1..].iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), expected);
    assert_eq!(lines[5].1.as_deref(), Some("agent_crashed"));
}

#[tokio::test]
async fn an_agent_that_crashed_is_resumed_by_its_key_in_the_same_workspace() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    assert_eq!(scene.answered(session, "one").await, ContextSource::New);
    assert_eq!(failure(&scene.turn(session, "exit").await), Some(FailureKind::Crashed));
    assert_eq!(scene.answered(session, "two").await, ContextSource::Resumed);
    let opened: Vec<OpenSpec> = scene.talker.opened.lock().unwrap().clone();
    assert_eq!((opened[0].resume.as_deref(), opened[1].resume.as_deref()), (None, Some("key-1")));
    assert_eq!(opened[0].workspace, opened[1].workspace);
    assert!(opened[0].workspace.ends_with(format!("sessions/{session}/work")), "{:?}", opened[0].workspace);
    assert_eq!(opened[0].mark.to_string(), session.to_string());
}

/// By which keys its agents were to take the conversation up.
fn resumed_by(scene: &Scene) -> Vec<Option<String>> {
    scene.talker.opened.lock().unwrap().iter().map(|spec| spec.resume.clone()).collect()
}

#[tokio::test]
async fn an_agent_that_died_before_a_sign_of_its_first_prompt_is_not_resumed_as_if_it_knew_it() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    assert_eq!(failure(&scene.turn(session, "exit").await), Some(FailureKind::Crashed));
    assert_eq!(scene.answered(session, "two").await, ContextSource::Rebuilt);
    assert_eq!(resumed_by(&scene), [None, None]);
    assert!(scene.talker.asked.lock().unwrap()[1].before.as_deref().is_some_and(|before| before.contains("exit")));
}

#[tokio::test]
async fn an_agent_that_died_before_a_sign_of_what_it_was_told_anew_is_told_once_more() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    scene.answered(session, "the word is plum").await;
    scene.answered(session, "lose").await;
    assert_eq!(failure(&scene.turn(session, "exit").await), Some(FailureKind::Crashed));
    assert_eq!(scene.answered(session, "go on").await, ContextSource::Rebuilt);
    assert_eq!(resumed_by(&scene), [None, None, None]);
    let before = scene.talker.asked.lock().unwrap()[3].before.clone().unwrap_or_default();
    assert!(before.contains("the word is plum"), "{before}");
}

#[tokio::test]
async fn an_agent_that_died_a_moment_ago_does_not_take_the_next_turn_with_it() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    scene.answered(session, "one").await;
    scene.talker.dead_to.store(1, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(scene.answered(session, "two").await, ContextSource::Resumed);
    assert_eq!((scene.talker.opens(), scene.talker.alive()), (2, 1));
}

#[tokio::test]
async fn an_agent_that_has_forgotten_is_given_the_transcript() {
    let scene = Scene::new(false).await;
    let session = scene.open().await;
    scene.answered(session, "my name is Ada").await;
    scene.turn(session, "exit").await;
    assert_eq!(scene.answered(session, "what is it?").await, ContextSource::Rebuilt);
    let asked = scene.talker.asked.lock().unwrap().clone();
    assert_eq!((asked[0].before.as_ref(), asked[1].before.as_ref()), (None, None));
    let before = asked[2].before.as_deref().unwrap();
    let expected =
        "\nUser:\nmy name is Ada\n\nYou:\nmy name is Ada\n\nUser:\nexit\n\nYou:\n[no answer: agent_crashed]\n";
    assert!(before.ends_with(expected), "{before}");
    assert_eq!(scene.answered(session, "again").await, ContextSource::Warm);
}

#[tokio::test]
async fn a_session_that_is_not_to_go_on_without_its_context_fails_the_turn_and_stays_open() {
    let scene = Scene::new(false).await;
    let wish = SessionWish { on_context_loss: OnContextLoss::Fail, ..SessionWish::default() };
    let session = scene.open_wishing(wish).await;
    scene.answered(session, "one").await;
    scene.turn(session, "exit").await;
    let lost = scene.turn(session, "two").await;
    assert_eq!(failure(&lost), Some(FailureKind::ContextLost));
    assert_eq!(scene.talker.asked(), ["one", "exit"], "a fresh agent never saw the prompt");
    assert_eq!(scene.talker.alive(), 0);
    let view = scene.engine.session(&scene.by, session).await.unwrap();
    assert_eq!((view.record.closed_at, view.record.resume_key.as_deref()), (None, Some("key-1")));
}

#[tokio::test]
async fn a_context_that_turns_out_lost_is_told_and_made_good_with_the_next_turn() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    scene.answered(session, "the word is plum").await;
    assert_eq!(scene.answered(session, "lose").await, ContextSource::Reset);
    // The key stood for what is lost: the next agent is not asked for it, and gets the transcript.
    assert_eq!(scene.answered(session, "go on").await, ContextSource::Rebuilt);
    let opened = scene.talker.opened.lock().unwrap().iter().map(|spec| spec.resume.clone()).collect::<Vec<_>>();
    assert_eq!(opened, [None, None]);
}

#[tokio::test]
async fn a_context_that_turns_out_lost_ends_the_turn_of_a_session_that_is_not_to_go_on_without() {
    let scene = Scene::new(true).await;
    let wish = SessionWish { on_context_loss: OnContextLoss::Fail, ..SessionWish::default() };
    let session = scene.open_wishing(wish).await;
    scene.answered(session, "the word is plum").await;
    for prompt in ["lose", "go on"] {
        assert_eq!(failure(&scene.turn(session, prompt).await), Some(FailureKind::ContextLost), "{prompt}");
    }
    assert_eq!(scene.talker.asked(), ["the word is plum", "lose"], "nothing is asked of an agent that knows nothing");
}

#[tokio::test]
async fn a_key_that_changes_during_a_turn_is_the_one_that_is_gone_on_with() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    scene.answered(session, "rename").await;
    scene.turn(session, "exit").await;
    assert_eq!(scene.answered(session, "hello").await, ContextSource::Resumed);
    let resumed_by = scene.talker.opened.lock().unwrap()[1].resume.clone();
    assert_eq!(resumed_by.as_deref(), Some("renamed-1"));
}

#[tokio::test]
async fn a_session_keeps_to_its_driver_and_one_that_is_not_there_is_refused() {
    let scene = Scene::new(true).await;
    let wish = SessionWish { driver: Some(DriverName::Acpx), ..SessionWish::default() };
    let refused = scene.engine.open_session(&scene.by, wish, scene.engine.request_id(), None).await.err().unwrap();
    assert!(refused.to_string().contains("through acpx"), "{refused}");
    let wish = SessionWish { driver: Some(DriverName::Acp), ..SessionWish::default() };
    let session =
        scene.engine.open_session(&scene.by, wish, scene.engine.request_id(), None).await.unwrap().fresh().unwrap();
    assert_eq!(session.conversation.unwrap().driver, DriverName::Acp);
}

#[tokio::test]
async fn an_idle_agent_is_let_go_of_and_its_session_taken_up_again() {
    let scene = Scene::with(true, |options| options.session_warm_max = Duration::ZERO).await;
    let session = scene.open().await;
    scene.answered(session, "one").await;
    scene.until_cold().await;
    assert_eq!(scene.talker.alive(), 0);
    assert!(!scene.engine.session(&scene.by, session).await.unwrap().is_warm);
    assert_eq!(scene.answered(session, "two").await, ContextSource::Resumed);
}

#[tokio::test]
async fn idle_sessions_make_room_for_work_that_waits() {
    let scene = Scene::new(true).await;
    let first = scene.open().await;
    scene.answered(first, "one").await;
    // Conversations of one app leave the last slot to others, so its own idle one makes room for the next.
    let second = scene.open().await;
    assert_eq!(scene.answered(second, "one").await, ContextSource::New);
    assert_eq!(scene.talker.alive(), 1);
    assert_eq!(scene.answered(first, "two").await, ContextSource::Resumed);
    for _ in 0..2 {
        let ticket = scene
            .engine
            .submit_run(&scene.by, request(DEADLINE), scene.engine.request_id(), None)
            .await
            .unwrap()
            .fresh()
            .unwrap();
        assert_eq!(soon(ticket.outcome()).await.unwrap().failure, None);
    }
}

#[tokio::test]
async fn an_agent_is_started_with_its_session_and_makes_room_for_work_that_waits() {
    let scene = Scene::with(true, |options| options.session_warm_up = true).await;
    let first = scene.open().await;
    until(|| scene.talker.alive() == 1).await;
    assert_eq!(scene.answered(first, "one").await, ContextSource::New);
    assert_eq!((scene.talker.opens(), scene.talker.opened.lock().unwrap()[0].resume.clone()), (1, None));
    // One app has one of the two slots for conversations, and it is taken: nothing is started ahead.
    let second = scene.open().await;
    assert!(!scene.engine.session(&scene.by, second).await.unwrap().is_warm);
    scene.close(first).await.unwrap();
    let third = scene.open().await;
    until(|| scene.talker.alive() == 1).await;
    assert_eq!(scene.answered(second, "two").await, ContextSource::New);
    assert!(!scene.engine.session(&scene.by, third).await.unwrap().is_warm, "it made room");
    assert_eq!(scene.answered(third, "three").await, ContextSource::New);
    assert_eq!(scene.close(second).await, Ok(true));
    assert_eq!(scene.close(third).await, Ok(true));
    assert_eq!(scene.talker.alive(), 0);
}

#[tokio::test]
async fn a_turn_that_takes_too_long_is_cancelled_and_its_agent_kept() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let ticket = scene.submit_within(session, "hang", Duration::from_millis(50)).await.unwrap();
    let ended = ended(ticket).await;
    assert_eq!(failure(&ended), Some(FailureKind::TimedOut));
    assert_eq!(ended.outcome.stop_reason.as_deref(), Some("cancelled"));
    assert_eq!(scene.answered(session, "next").await, ContextSource::Warm);
    assert_eq!(scene.talker.opens(), 1);
}

#[tokio::test]
async fn what_an_agent_is_allowed_counts_where_it_is_less_than_the_caller_allows() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    for limits in [
        AgentLimits { turn_max: Some(Duration::from_millis(50)), ..AgentLimits::default() },
        AgentLimits { silence_max: Some(Duration::from_millis(50)), ..AgentLimits::default() },
    ] {
        *scene.talker.limits.lock().unwrap() = limits;
        let ended = scene.turn(session, "hang").await;
        let expected = if limits.turn_max.is_some() { FailureKind::TimedOut } else { FailureKind::Silent };
        assert_eq!(failure(&ended), Some(expected));
    }
    *scene.talker.limits.lock().unwrap() = AgentLimits { turn_max: Some(DEADLINE), ..AgentLimits::default() };
    let ticket = scene.submit_within(session, "hang", Duration::from_millis(50)).await.unwrap();
    assert_eq!(failure(&ended(ticket).await), Some(FailureKind::TimedOut), "the caller may allow less");
}

#[tokio::test]
async fn a_close_ends_what_is_under_way_and_what_waits_and_the_agent() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let running = scene.submit(session, "hang").await.unwrap();
    let waiting = scene.submit(session, "never").await.unwrap();
    scene.asked(1).await;
    assert_eq!(scene.engine.health().open_sessions, 1);
    assert_eq!(scene.close(session).await, Ok(true));
    assert_eq!(scene.talker.alive(), 0, "it is gone when the close is answered");
    assert_eq!(scene.engine.health().open_sessions, 0);
    assert_eq!(failure(&ended(running).await), Some(FailureKind::SessionClosed));
    assert_eq!(failure(&ended(waiting).await), Some(FailureKind::SessionClosed));
    assert_eq!(scene.talker.asked(), ["hang"]);
    assert_eq!(scene.close(session).await, Ok(false));
    assert_eq!(scene.submit(session, "late").await.err(), Some(EngineError::SessionClosed));
    assert_eq!(scene.opened.store.sessions.unfinished_turns().await.unwrap(), []);
    assert_eq!(scene.kinds().await.last().unwrap().0, "turn_ended");
}

#[tokio::test]
async fn a_session_of_another_app_is_not_found_and_neither_is_an_unknown_one() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let minted = scene.engine.mint_token(TokenWish::of("other".parse().unwrap()), scene.engine.request_id()).await;
    let other = minted.unwrap().token;
    let unknown = SessionId::from_u128(7);
    let not_found = Some(EngineError::NotFound("session"));
    for (by, session) in [(&other, session), (&scene.by, unknown)] {
        assert_eq!(scene.engine.session(by, session).await.err(), not_found);
        let request = TurnRequest {
            prompt: "hi".into(),
            files: Vec::new(),
            timeout: DEADLINE,
            output_schema: None,
            will_be_followed: false,
        };
        let id = scene.engine.request_id();
        assert_eq!(scene.engine.submit_turn(by, session, request, id, None).await.err(), not_found);
        assert_eq!(scene.engine.close_session(by, session, id).await.err(), not_found);
    }
    assert_eq!(scene.engine.sessions(&other, true).await.unwrap(), []);
    assert_eq!(scene.engine.sessions(&scene.by, true).await.unwrap().len(), 1);
}

#[tokio::test]
async fn as_many_turns_wait_as_may_and_one_more_is_refused() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let mut tickets = vec![scene.submit(session, "wait").await.unwrap()];
    for _ in 0..TURNS_QUEUED_PER_SESSION_MAX {
        tickets.push(scene.submit(session, "next").await.unwrap());
    }
    assert!(matches!(scene.submit(session, "too many").await.err(), Some(EngineError::Busy { .. })));
    scene.talker.go.add_permits(1);
    for ticket in tickets {
        assert_eq!(ended(ticket).await.outcome.failure, None);
    }
    assert_eq!(scene.turn(session, "more").await.outcome.failure, None);
}

#[tokio::test]
async fn a_bug_in_a_driver_ends_the_turn_and_the_session_goes_on() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    assert_eq!(failure(&scene.turn(session, "panic").await), Some(FailureKind::Internal));
    assert_eq!(scene.talker.alive(), 0);
    assert_eq!(scene.answered(session, "next").await, ContextSource::Rebuilt);
}

#[tokio::test]
async fn turns_that_had_not_begun_when_the_service_stopped_are_done_by_the_next() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let running = scene.submit(session, "mutter").await.unwrap();
    let waiting = scene.submit(session, "promised").await.unwrap();
    // The agent has shown that it has the prompt.
    soon(async {
        while scene.opened.store.sessions.conversation(session).await.unwrap().unwrap().resume_key.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    scene.engine.drain(Duration::from_millis(1)).await;
    assert_eq!(failure(&ended(running).await), Some(FailureKind::Interrupted));
    assert_eq!(soon(waiting.outcome()).await.err(), Some(EngineError::Deferred));
    assert_eq!(scene.talker.alive(), 0);

    let driver = Arc::new(TalkerDriver(Arc::clone(&scene.talker)));
    let store = scene.opened.store.clone();
    let (engine, report) = engine_with(scene.dir.path(), &scene.spawner, store, driver, |_| {}).await.unwrap();
    assert_eq!(report.interrupted, 0);
    scene.asked(2).await;
    soon(async {
        while !scene.opened.store.sessions.unfinished_turns().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(scene.talker.asked(), ["mutter", "promised"]);
    assert_eq!(scene.talker.opened.lock().unwrap()[1].resume.as_deref(), Some("key-1"));
    engine.drain(DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn turns_promised_to_many_sessions_are_all_done() {
    const SESSIONS: usize = 200;
    let scene = Scene::with(true, |options| {
        (options.slots, options.queue_max, options.queue_per_app_max) = (1, SESSIONS, SESSIONS);
    })
    .await;
    let first = scene.open().await;
    let running = scene.submit(first, "hang").await.unwrap();
    scene.asked(1).await;
    for _ in 0..SESSIONS {
        let session = scene.open().await;
        scene.submit(session, "promised").await.unwrap();
    }
    scene.engine.drain(Duration::from_millis(1)).await;
    assert_eq!(failure(&ended(running).await), Some(FailureKind::Interrupted));

    // Each order reaches an owner that has just begun, while it looks whether it may leave again.
    let driver = Arc::new(TalkerDriver(Arc::clone(&scene.talker)));
    let store = scene.opened.store.clone();
    let change = |options: &mut EngineOptions| options.slots = SESSIONS + 1;
    let (engine, _) = engine_with(scene.dir.path(), &scene.spawner, store, driver, change).await.unwrap();
    soon(async {
        while !scene.opened.store.sessions.unfinished_turns().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(scene.talker.asked().len(), 1 + SESSIONS);
    engine.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_turn_that_was_under_way_when_the_service_died_is_interrupted_and_not_sent_again() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    scene.answered(session, "one").await;
    let record = scene.engine.session(&scene.by, session).await.unwrap().record;
    scene.engine.drain(DEADLINE).await;
    // As the service leaves it when it dies during a turn.
    let events = scene.opened.store.events.events_after(session, 0, 100).await.unwrap();
    let turn = clawdforge_core::turn::Turn {
        id: clawdforge_core::id::TurnId::from_u128(9),
        session,
        index: record.turns + 1,
        state: clawdforge_core::turn::TurnState::Queued,
        request: clawdforge_core::id::RequestId::from_u128(9),
        queued_at: record.last_turn_at.unwrap(),
        timeout: DEADLINE,
    };
    let event = |seq, body| clawdforge_core::event::Event { session, seq, turn: turn.id, at: turn.queued_at, body };
    let (head, prompt) = (events.len() as u64, events[0].body.clone());
    let writes = vec![
        Write::QueueTurn(turn.clone(), Some(prompt.clone())),
        Write::StartTurn(turn.id, turn.queued_at),
        Write::AppendEvents(vec![event(head + 1, prompt), event(head + 2, EventBody::Started)]),
        Write::NoteLink(session, Some("1:1:not-a-boot".to_owned())),
    ];
    scene.opened.store.door.commit(Commit { writes, ..Commit::default() }).await.unwrap();

    let driver = Arc::new(TalkerDriver(Arc::clone(&scene.talker)));
    let store = scene.opened.store.clone();
    let (engine, report) = engine_with(scene.dir.path(), &scene.spawner, store, driver, |_| {}).await.unwrap();
    assert_eq!(report.interrupted, 1);
    let last = scene.opened.store.events.events_after(session, head + 2, 10).await.unwrap();
    let [end] = last.as_slice() else { panic!("{last:?}") };
    let EventBody::Ended(outcome) = &end.body else { panic!("{end:?}") };
    assert_eq!(outcome.code(), "interrupted");
    assert_eq!(scene.opened.store.sessions.linked_conversations().await.unwrap(), []);
    assert_eq!(scene.talker.asked(), ["one"]);
    assert_eq!(engine.session(&scene.by, session).await.unwrap().record.turns, 2);
    assert_eq!(engine.health().open_sessions, 1);
}

#[tokio::test]
async fn attachments_lie_in_the_workspace_of_the_session_turn_by_turn() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let mut upload = scene.engine.begin_upload(None).await.unwrap();
    upload.write(b"plum").await.unwrap();
    let id = scene.engine.request_id();
    let wish = UploadWish { name: "a.txt".into(), ..UploadWish::default() };
    let (file, _) = scene.engine.finish_upload(upload, &scene.by, wish, id).await.unwrap().fresh().unwrap();
    for index in 1..=2 {
        let request = TurnRequest {
            prompt: "look".into(),
            files: vec![file.id],
            timeout: DEADLINE,
            output_schema: None,
            will_be_followed: false,
        };
        let ticket = scene.engine.submit_turn(&scene.by, session, request, id, None).await.unwrap().fresh().unwrap();
        assert_eq!(ended(ticket).await.outcome.failure, None);
        let attached = scene.talker.asked.lock().unwrap().last().unwrap().attachments.clone();
        assert!(attached[0].ends_with(format!("work/attachments/turn-{index}/attachment-1.txt")), "{attached:?}");
        assert_eq!(std::fs::read_to_string(&attached[0]).unwrap(), "plum");
    }
    let unknown = TurnRequest {
        prompt: "look".into(),
        files: vec![clawdforge_core::id::FileId::from_u128(1)],
        timeout: DEADLINE,
        output_schema: None,
        will_be_followed: false,
    };
    let refused = scene.engine.submit_turn(&scene.by, session, unknown, id, None).await.err();
    assert_eq!(refused, Some(EngineError::NotFound("file")));
}

#[tokio::test]
async fn a_thousand_open_sessions_have_no_task_and_no_process() {
    let scene = Scene::new(true).await;
    for _ in 0..1_000 {
        scene.open().await;
    }
    assert_eq!(scene.engine.health().open_sessions, 1_000);
    assert_eq!((scene.talker.opens(), scene.talker.alive()), (0, 0));
    assert_eq!(scene.engine.sessions(&scene.by, false).await.unwrap().len(), 1_000);
}

#[tokio::test]
async fn an_agent_nobody_configured_is_refused_by_name() {
    let scene = Scene::new(true).await;
    let wish = SessionWish { agent: Some("nobody".parse().unwrap()), ..SessionWish::default() };
    let refused = scene.engine.open_session(&scene.by, wish, scene.engine.request_id(), None).await.err().unwrap();
    assert_eq!(refused.to_string(), "there is no agent `nobody`; there are: talker");
}

#[tokio::test]
async fn another_model_counts_from_the_next_turn_on_and_the_conversation_goes_on() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    scene.answered(session, "first").await;
    let running = scene.submit(session, "wait").await.unwrap();
    scene.asked(2).await;
    let change = |change| scene.engine.change_session(&scene.by, session, change, scene.engine.request_id());
    let large = || SessionChange { model: Some(Some("large".to_owned())), ..SessionChange::default() };
    let view = change(large()).await.unwrap();
    assert_eq!(view.record.session.conversation.unwrap().model.as_deref(), Some("large"));
    scene.talker.go.add_permits(1);
    assert_eq!(failure(&ended(running).await), None, "the one under way goes on");
    assert_eq!(scene.answered(session, "second").await, ContextSource::Resumed);
    let models: Vec<_> = scene.talker.opened.lock().unwrap().iter().map(|spec| spec.model.clone()).collect();
    assert_eq!(models, [None, Some("large".to_owned())]);
    // Notes are nothing to the agent, and what is the same already is nothing to anybody.
    let notes = SessionChange { meta: Some(Some("{}".to_owned())), ..SessionChange::default() };
    for same in [notes, large()] {
        change(same).await.unwrap();
        assert_eq!(scene.answered(session, "third").await, ContextSource::Warm);
    }
    let kinds = scene.kinds().await;
    assert_eq!(kinds.iter().filter(|(kind, _)| kind == "session_changed").count(), 2, "{kinds:?}");
}

#[tokio::test]
async fn the_prompt_of_a_turn_that_waited_names_the_model_it_goes_by() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    let running = scene.submit(session, "wait").await.unwrap();
    let waiting = scene.submit(session, "second").await.unwrap();
    scene.asked(1).await;
    let change = SessionChange {
        model: Some(Some("large".to_owned())),
        effort: Some(Some(Effort::High)),
        ..SessionChange::default()
    };
    scene.engine.change_session(&scene.by, session, change, scene.engine.request_id()).await.unwrap();
    scene.talker.go.add_permits(1);
    let (_, second) = (ended(running).await, ended(waiting).await);
    let events = scene.engine.turn_events(session, &second, 0, 1).await.unwrap();
    let Some(EventBody::Prompt { model, effort, .. }) = events.first().map(|event| &event.body) else {
        panic!("it begins with its prompt: {events:?}")
    };
    assert_eq!((model.as_str(), *effort), ("large", Some(Effort::High)));
}
