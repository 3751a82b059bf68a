//! Conversations: opened, warm and cold, closed, and what recovery and the sweep find of them.

use clawdforge_core::commit::{Expect, Write};
use clawdforge_core::event::EventBody;
use clawdforge_core::id::AppId;
use clawdforge_core::run::SystemMode;
use clawdforge_core::session::{Conversation, DriverName, Equipment, ForkPoint, OnContextLoss, Session, SessionRecord};
use clawdforge_core::tools::{NamedSecret, Remote, ToolServer, Transport};
use clawdforge_core::turn::Turn;

use crate::support::{Fixture, app, at, outcome, session, session_id, turn, turn_id, unexpected};

/// A conversation that was opened at this second.
fn conversation(number: u128, opened: i64) -> Session {
    let chosen = Conversation {
        effort: Some(clawdforge_core::run::Effort::High),
        model: Some("opus".to_owned()),
        mode: Some("plan".to_owned()),
        system_mode: Some(SystemMode::Replace),
        tool_servers: vec!["sum".to_owned()],
        meta: Some(r#"{"purpose":"test"}"#.to_owned()),
        driver: DriverName::Acp,
        on_context_loss: OnContextLoss::Fail,
        isolation_min: Some(clawdforge_core::isolation::Isolation::Uid),
    };
    Session { created_at: at(opened), conversation: Some(chosen), ..session(number) }
}

fn prompt() -> EventBody {
    EventBody::Prompt {
        text: "hello".to_owned(),
        model: "opus".to_owned(),
        system: None,
        system_mode: SystemMode::Append,
        effort: None,
        files: Vec::new(),
        output_schema: Some(serde_json::json!({"type": "object"})),
        instruction: Some("as JSON".into()),
    }
}

async fn open(fixture: &Fixture, number: u128, opened: i64) {
    fixture.write([Write::OpenSession(conversation(number, opened))]).await.unwrap();
}

async fn record(fixture: &Fixture, number: u128) -> Option<SessionRecord> {
    fixture.store().sessions.conversation(session_id(number)).await.unwrap()
}

#[tokio::test]
async fn a_conversation_is_read_as_it_was_opened_and_a_run_is_none() {
    let fixture = Fixture::with_app().await;
    open(&fixture, 1, 5).await;
    fixture.write([Write::OpenSession(session(2))]).await.unwrap();
    let fixture = fixture.reopen().await;
    let session = conversation(1, 5);
    let expected =
        SessionRecord { session, closed_at: None, resume_key: None, turns: 0, last_turn_at: None, forked_from: None };
    assert_eq!(record(&fixture, 1).await, Some(expected));
    assert_eq!(record(&fixture, 2).await, None, "a run");
    assert_eq!(record(&fixture, 3).await, None, "nothing");
}

#[tokio::test]
async fn what_an_agent_is_given_is_kept_apart_and_erased_with_its_conversation() {
    let fixture = Fixture::with_app().await;
    open(&fixture, 1, 5).await;
    open(&fixture, 2, 5).await;
    let named = |name: &str| vec![NamedSecret { name: name.to_owned(), value: "v".to_owned().into() }];
    let remote = |kind| Transport::Remote { kind, url: "https://example.org".to_owned(), headers: named("A") };
    let stdio = Transport::Stdio { command: "c".to_owned(), args: vec!["-x".to_owned()], env: named("B") };
    let servers = [("one", stdio), ("two", remote(Remote::Http)), ("three", remote(Remote::Sse))];
    let servers = servers.map(|(name, transport)| ToolServer { name: name.to_owned(), transport });
    let given = Equipment { system: Some("be brief".to_owned()), tool_servers: servers.into() };
    fixture.write([Write::EquipSession(session_id(1), given.clone())]).await.unwrap();
    let fixture = fixture.reopen().await;
    let sessions = &fixture.store().sessions;
    assert_eq!(sessions.equipment(session_id(1)).await, Ok(given.clone()));
    for without in [2, 3] {
        assert_eq!(sessions.equipment(session_id(without)).await, Ok(Equipment::default()));
    }
    fixture.write([Write::EraseSession(session_id(1))]).await.unwrap();
    assert_eq!(sessions.equipment(session_id(1)).await, Ok(Equipment::default()));
    assert!(fixture.write([Write::EquipSession(session_id(1), given)]).await.is_err(), "there is no such session");
}

#[tokio::test]
async fn a_fork_names_what_it_came_from_once_and_outlives_it() {
    let fixture = Fixture::with_app().await;
    open(&fixture, 1, 5).await;
    open(&fixture, 2, 6).await;
    let from = ForkPoint { session: session_id(1), turn_index: 3 };
    fixture.write([Write::NoteFork(session_id(2), from)]).await.unwrap();
    assert_eq!(record(&fixture, 2).await.unwrap().forked_from, Some(from));
    let again = fixture.write([Write::NoteFork(session_id(2), from)]).await;
    assert_eq!(again, Err(unexpected(0)), "it came from somewhere already");
    fixture.write([Write::EraseSession(session_id(1))]).await.unwrap();
    assert_eq!(record(&fixture, 2).await.unwrap().forked_from, Some(from));
}

#[tokio::test]
async fn turns_are_counted_and_the_agents_own_id_is_kept() {
    let fixture = Fixture::with_app().await;
    open(&fixture, 1, 5).await;
    fixture.write([Write::QueueTurn(turn(1), Some(prompt()))]).await.unwrap();
    fixture.write([Write::NoteResume(session_id(1), Some("their-id".to_owned()))]).await.unwrap();
    let found = record(&fixture, 1).await.unwrap();
    assert_eq!((found.turns, found.last_turn_at), (1, Some(turn(1).queued_at)));
    assert_eq!(found.resume_key.as_deref(), Some("their-id"));
    fixture.write([Write::NoteResume(session_id(1), None)]).await.unwrap();
    assert_eq!(record(&fixture, 1).await.unwrap().resume_key, None);
    let nobody = Write::NoteResume(session_id(9), Some("x".to_owned()));
    assert_eq!(fixture.write([nobody]).await, Err(unexpected(0)));
}

#[tokio::test]
async fn a_prompt_is_kept_with_its_turn_until_the_turn_starts() {
    let fixture = Fixture::with_app().await;
    open(&fixture, 1, 5).await;
    fixture.write([Write::QueueTurn(turn(1), Some(prompt()))]).await.unwrap();
    let kept = async || fixture.store().sessions.queued_prompt(turn_id(1)).await.unwrap();
    assert_eq!(kept().await, Some(prompt()));
    fixture.write([Write::StartTurn(turn_id(1), at(9))]).await.unwrap();
    assert_eq!(kept().await, None, "the log has it");
}

#[tokio::test]
async fn a_closed_conversation_takes_no_turn_and_is_closed_once() {
    let fixture = Fixture::with_app().await;
    open(&fixture, 1, 5).await;
    assert_eq!(fixture.expect(Expect::SessionOpen(session_id(1))).await, Ok(()));
    fixture.write([Write::CloseSession(session_id(1), at(7))]).await.unwrap();
    assert_eq!(fixture.expect(Expect::SessionOpen(session_id(1))).await, Err(unexpected(0)));
    assert_eq!(fixture.expect(Expect::SessionOpen(session_id(9))).await, Err(unexpected(0)), "nothing");
    assert_eq!(fixture.write([Write::CloseSession(session_id(1), at(8))]).await, Err(unexpected(0)));
    assert_eq!(record(&fixture, 1).await.unwrap().closed_at, Some(at(7)));
}

#[tokio::test]
async fn an_app_sees_its_own_conversations_newest_first_and_the_open_ones_are_counted() {
    let fixture = Fixture::with_app().await;
    for number in 1..=3 {
        open(&fixture, number, 5).await;
    }
    fixture.write([Write::OpenSession(session(4)), Write::CloseSession(session_id(2), at(7))]).await.unwrap();
    let list = async |app, closed, before, limit| {
        let found = fixture.store().sessions.conversations(app, closed, before, limit).await.unwrap();
        found.into_iter().map(|record| record.session.id).collect::<Vec<_>>()
    };
    assert_eq!(list(app().id, true, None, 10).await, [session_id(3), session_id(2), session_id(1)]);
    assert_eq!(list(app().id, false, None, 10).await, [session_id(3), session_id(1)]);
    assert_eq!(list(app().id, true, None, 1).await, [session_id(3)]);
    assert_eq!(list(app().id, true, Some(session_id(3)), 1).await, [session_id(2)]);
    assert_eq!(list(app().id, true, Some(session_id(1)), 9).await, []);
    assert_eq!(list(AppId::from_u128(77), true, None, 10).await, []);
    assert_eq!(fixture.store().sessions.open_conversations().await, Ok(2));
}

#[tokio::test]
async fn recovery_finds_the_process_of_a_warm_conversation() {
    let fixture = Fixture::with_app().await;
    open(&fixture, 1, 5).await;
    let linked = async || fixture.store().sessions.linked_conversations().await.unwrap();
    assert_eq!(linked().await, []);
    fixture.write([Write::NoteLink(session_id(1), Some("pid 7".to_owned()))]).await.unwrap();
    assert_eq!(linked().await, [(session_id(1), "pid 7".to_owned())]);
    fixture.write([Write::NoteLink(session_id(1), None)]).await.unwrap();
    assert_eq!(linked().await, []);
}

#[tokio::test]
async fn the_sweep_finds_what_nobody_uses_and_what_was_closed_long_ago() {
    let fixture = Fixture::with_app().await;
    for (number, opened) in [(1, 10), (2, 20), (3, 30), (4, 5)] {
        open(&fixture, number, opened).await;
    }
    // The first is used later, the fourth is at work.
    let used = Turn { queued_at: at(50), ..turn(1) };
    fixture
        .write([Write::QueueTurn(used, Some(prompt())), Write::EndTurn(turn_id(1), at(60), outcome())])
        .await
        .unwrap();
    fixture.write([Write::QueueTurn(Turn { queued_at: at(6), ..turn(4) }, Some(prompt()))]).await.unwrap();
    let idle = async |before, limit| {
        let found = fixture.store().sessions.conversations_idle_since(at(before), limit).await.unwrap();
        found.into_iter().map(|session| session.id).collect::<Vec<_>>()
    };
    assert_eq!(idle(20, 9).await, []);
    assert_eq!(idle(60, 9).await, [session_id(2), session_id(3)]);
    assert_eq!(idle(60, 1).await, [session_id(2)]);
    assert_eq!(idle(61, 9).await, [session_id(2), session_id(3), session_id(1)], "the end of a turn is use as well");
    let still = async |number, before| fixture.expect(Expect::SessionIdle(session_id(number), at(before))).await;
    assert_eq!(still(2, 60).await, Ok(()));
    assert_eq!(still(1, 60).await, Err(unexpected(0)), "it was used since");
    assert_eq!(still(4, 60).await, Err(unexpected(0)), "a turn of it is under way");
    assert_eq!(still(9, 60).await, Err(unexpected(0)), "nothing");
    for (number, closed) in [(1, 100), (2, 90), (4, 80)] {
        fixture.write([Write::CloseSession(session_id(number), at(closed))]).await.unwrap();
    }
    assert_eq!(idle(1_000, 9).await, [session_id(3)], "what is closed is not idle");
    assert_eq!(still(2, 60).await, Err(unexpected(0)), "nor closed once more");
    let closed = fixture.store().sessions.conversations_closed_before(at(100), 9).await.unwrap();
    assert_eq!(closed, [conversation(2, 20)], "the end itself is not before, and work under way keeps the fourth");
}
