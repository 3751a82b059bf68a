//! Sessions and turns: forward only, and what recovery and the sweep find.

use clawdforge_core::commit::{Expect, Write};
use clawdforge_core::id::AppId;
use clawdforge_core::idempotency::{Fingerprint, IdempotencyKey, KeptKey};
use clawdforge_core::session::Session;
use clawdforge_core::turn::{Turn, TurnRecord, TurnState};
use clawdforge_store::{EndedTurn, RunRecord, UnfinishedTurn};

use crate::support::{Fixture, accept, app, at, outcome, session, session_id, text, turn, turn_id, unexpected};

async fn unfinished(fixture: &Fixture) -> Vec<UnfinishedTurn> {
    fixture.store().sessions.unfinished_turns().await.unwrap()
}

#[tokio::test]
async fn recovery_finds_a_turn_with_its_session_and_process_until_it_ends() {
    let fixture = Fixture::with_app().await;
    fixture.write(accept(1)).await.unwrap();
    let mut expected = UnfinishedTurn { session: session(1), turn: turn(1), is_cancelled: false, process: None };
    assert_eq!(unfinished(&fixture).await, [expected.clone()]);

    fixture.write([Write::StartTurn(turn_id(1), at(6))]).await.unwrap();
    expected.turn.state = TurnState::Running;
    assert_eq!(unfinished(&fixture).await, [expected.clone()]);

    fixture.write([Write::NoteProcess(turn_id(1), "pid 7 start 9".to_owned())]).await.unwrap();
    expected.process = Some("pid 7 start 9".to_owned());
    assert_eq!(unfinished(&fixture).await, [expected]);

    fixture.write([Write::AskCancel(turn_id(1), at(8))]).await.unwrap();
    assert!(unfinished(&fixture).await[0].is_cancelled);

    fixture.write([Write::EndTurn(turn_id(1), at(7), outcome())]).await.unwrap();
    assert_eq!(unfinished(&fixture).await, []);
}

#[tokio::test]
async fn a_run_and_its_turn_are_found_with_what_became_of_them() {
    let fixture = Fixture::with_app().await;
    for number in 1..=3 {
        fixture.write(accept(number)).await.unwrap();
    }
    fixture.write([Write::StartTurn(turn_id(1), at(6)), Write::AskCancel(turn_id(1), at(7))]).await.unwrap();
    // The first time is what counts.
    fixture.write([Write::AskCancel(turn_id(1), at(9))]).await.unwrap();
    assert_eq!(fixture.expect(Expect::TurnUnfinished(turn_id(1))).await, Ok(()));
    fixture.write([Write::EndTurn(turn_id(1), at(8), outcome())]).await.unwrap();
    let sessions = &fixture.store().sessions;
    let expected = TurnRecord {
        turn: Turn { state: TurnState::Ended, ..turn(1) },
        started_at: Some(at(6)),
        ended_at: Some(at(8)),
        outcome: Some(outcome().code().to_owned()),
        cancel_asked_at: Some(at(7)),
    };
    assert_eq!(sessions.turn(turn_id(1)).await, Ok(Some(expected.clone())));
    assert_eq!(sessions.turns(session_id(1), 0, 9).await, Ok(vec![expected.clone()]));
    assert_eq!(sessions.turns(session_id(1), 1, 9).await, Ok(Vec::new()));
    assert_eq!(sessions.run(session_id(1).into()).await, Ok(Some(RunRecord { session: session(1), turn: expected })));
    assert_eq!(sessions.run(session_id(9).into()).await, Ok(None));
    let runs = async |before, limit| {
        let found = sessions.runs(app().id, before, limit).await.unwrap();
        found.into_iter().map(|run| run.session.id).collect::<Vec<_>>()
    };
    assert_eq!(runs(None, 2).await, [session_id(3), session_id(2)]);
    assert_eq!(runs(Some(session_id(2).into()), 9).await, [session_id(1)]);
    assert!(fixture.expect(Expect::TurnUnfinished(turn_id(1))).await.is_err());
    assert_eq!(fixture.write([Write::AskCancel(turn_id(9), at(9))]).await, Err(unexpected(0)), "no such turn");
}

#[tokio::test]
async fn unfinished_turns_come_oldest_first() {
    let fixture = Fixture::with_app().await;
    for (number, queued) in [(1, 30), (2, 10), (3, 20)] {
        let queued = Turn { queued_at: at(queued), ..turn(number) };
        fixture.write([Write::OpenSession(session(number)), Write::QueueTurn(queued, None)]).await.unwrap();
    }
    let order: Vec<_> = unfinished(&fixture).await.into_iter().map(|found| found.turn.id).collect();
    assert_eq!(order, [turn_id(2), turn_id(3), turn_id(1)]);
}

#[tokio::test]
async fn a_turn_only_moves_forward() {
    let fixture = Fixture::with_app().await;
    let start = || [Write::StartTurn(turn_id(1), at(6))];
    let note = || [Write::NoteProcess(turn_id(1), "p".to_owned())];
    let end = || [Write::EndTurn(turn_id(1), at(7), outcome())];
    for nowhere in [start(), note(), end()] {
        assert_eq!(fixture.write(nowhere).await, Err(unexpected(0)), "no such turn");
    }

    fixture.write(accept(1)).await.unwrap();
    assert_eq!(fixture.write(note()).await, Err(unexpected(0)), "no process before the start");
    fixture.write(start()).await.unwrap();
    assert_eq!(fixture.write(start()).await, Err(unexpected(0)), "started already");
    fixture.write(end()).await.unwrap();
    for late in [start(), note(), end()] {
        assert_eq!(fixture.write(late).await, Err(unexpected(0)), "ended already");
    }
}

#[tokio::test]
async fn a_queued_turn_can_end_without_having_started() {
    let fixture = Fixture::with_app().await;
    fixture.write(accept(1)).await.unwrap();
    fixture.write([Write::EndTurn(turn_id(1), at(7), outcome())]).await.unwrap();
    assert_eq!(fixture.expect(Expect::TurnIs(turn_id(1), TurnState::Ended)).await, Ok(()));
}

#[tokio::test]
async fn the_state_of_a_turn_can_be_expected() {
    let fixture = Fixture::with_app().await;
    let holds = async |state| fixture.expect(Expect::TurnIs(turn_id(1), state)).await.is_ok();
    let all = async || [holds(TurnState::Queued).await, holds(TurnState::Running).await, holds(TurnState::Ended).await];
    assert_eq!(all().await, [false, false, false]);
    fixture.write(accept(1)).await.unwrap();
    assert_eq!(all().await, [true, false, false]);
    fixture.write([Write::StartTurn(turn_id(1), at(6))]).await.unwrap();
    assert_eq!(all().await, [false, true, false]);
    fixture.write([Write::EndTurn(turn_id(1), at(7), outcome())]).await.unwrap();
    assert_eq!(all().await, [false, false, true]);
}

#[tokio::test]
async fn a_session_has_one_turn_in_each_place_and_one_at_work() {
    let fixture = Fixture::with_app().await;
    fixture.write(accept(1)).await.unwrap();
    let second = |place| Turn { id: turn_id(2), index: place, ..turn(1) };
    assert_eq!(fixture.write([Write::QueueTurn(second(1), None)]).await, Err(unexpected(0)));

    fixture.write([Write::QueueTurn(second(2), None), Write::StartTurn(turn_id(1), at(6))]).await.unwrap();
    assert_eq!(fixture.write([Write::StartTurn(turn_id(2), at(6))]).await, Err(unexpected(0)));
}

#[tokio::test]
async fn a_turn_of_an_unknown_session_and_a_session_of_an_unknown_app_are_refused() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.write([Write::QueueTurn(turn(1), None)]).await, Err(unexpected(0)));
    assert_eq!(fixture.write([Write::OpenSession(session(1))]).await, Err(unexpected(0)));
}

#[tokio::test]
async fn the_sweep_finds_runs_by_when_they_ended() {
    let fixture = Fixture::with_app().await;
    for (number, ended) in [(1, 300), (2, 100), (3, 200)] {
        let [open, queue] = accept(number);
        fixture.write([open, queue, Write::EndTurn(turn_id(number), at(ended), outcome())]).await.unwrap();
    }
    fixture.write(accept(4)).await.unwrap();
    let ended = async |before, limit| fixture.store().sessions.runs_ended_before(at(before), limit).await.unwrap();
    assert_eq!(ended(100, 10).await, [], "the end itself is not before");
    assert_eq!(ended(1_000, 10).await, [session(2), session(3), session(1)]);
    assert_eq!(ended(1_000, 2).await, [session(2), session(3)]);
}

#[tokio::test]
async fn recovery_finds_what_had_just_ended_by_the_newest_end() {
    let fixture = Fixture::with_app().await;
    let just_ended = async || fixture.store().sessions.turns_just_ended(at(300).since(at(200))).await.unwrap();
    assert_eq!(just_ended().await, [], "no turn has ended");
    fixture.write(accept(4)).await.unwrap();
    for (number, ended) in [(1, 300), (2, 199), (3, 200)] {
        let [open, queue] = accept(number);
        let process = Write::NoteProcess(turn_id(number), format!("process {number}"));
        let start = Write::StartTurn(turn_id(number), at(50));
        let end = Write::EndTurn(turn_id(number), at(ended), outcome());
        fixture.write([open, queue, start, process, end]).await.unwrap();
    }
    let ended = |number| EndedTurn { turn: turn_id(number), process: Some(format!("process {number}")) };
    assert_eq!(just_ended().await, [ended(3), ended(1)]);
}

#[tokio::test]
async fn an_erased_session_leaves_nothing_and_takes_no_other_along() {
    let fixture = Fixture::with_app().await;
    for number in [1, 2] {
        let [open, queue] = accept(number);
        let events = Write::AppendEvents(vec![text(number, 1, "kept"), text(number, 2, "or not")]);
        fixture.write([open, queue, events, Write::EndTurn(turn_id(number), at(7), outcome())]).await.unwrap();
    }
    fixture.write([Write::EraseSession(session_id(1))]).await.unwrap();

    let left: Vec<Session> = fixture.store().sessions.runs_ended_before(at(1_000), 10).await.unwrap();
    assert_eq!(left, [session(2)]);
    assert_eq!(fixture.store().events.head(session_id(1)).await.unwrap(), 0);
    assert_eq!(fixture.store().events.head(session_id(2)).await.unwrap(), 2);
    assert_eq!(fixture.write([Write::EraseSession(session_id(1))]).await, Ok(()), "it is gone, as wished");
}

#[tokio::test]
async fn a_key_is_kept_for_its_app_once_and_forgotten_when_it_is_old() {
    let fixture = Fixture::with_app().await;
    let kept = |word: &str, seconds| KeptKey {
        app: app().id,
        key: IdempotencyKey { key: word.to_owned(), fingerprint: Fingerprint::of(&[word.as_bytes()]) },
        subject: session_id(1).to_string(),
        at: at(seconds),
    };
    fixture.write([Write::KeepKey(kept("old", 5)), Write::KeepKey(kept("new", 7))]).await.unwrap();
    let keys = &fixture.store().keys;
    assert_eq!(keys.kept(app().id, "old").await, Ok(Some(kept("old", 5))));
    assert_eq!(keys.kept(AppId::from_u128(77), "old").await, Ok(None), "another app's word");
    assert!(fixture.expect(Expect::KeyUnused(app().id, "old".to_owned())).await.is_err());
    assert_eq!(fixture.write([Write::KeepKey(kept("old", 9))]).await, Err(unexpected(0)), "used already");
    fixture.write([Write::TrimKeys(at(7))]).await.unwrap();
    assert_eq!(keys.kept(app().id, "old").await, Ok(None));
    assert_eq!(keys.kept(app().id, "new").await, Ok(Some(kept("new", 7))));
    assert_eq!(fixture.expect(Expect::KeyUnused(app().id, "old".to_owned())).await, Ok(()));
}
