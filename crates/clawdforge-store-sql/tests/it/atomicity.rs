//! A commit happens whole or not at all, and what was acknowledged stays.

use std::sync::Arc;

use clawdforge_core::commit::{Commit, Expect, Write};
use clawdforge_core::turn::TurnState;
use clawdforge_store::faults::{Fault, FaultyDoor};
use clawdforge_store::{CommitDoor, CommitError};

use crate::support::{
    Fixture, accept, app, at, erased, file, file_id, line, outcome, session_id, text, token, turn_id, unexpected,
    writing,
};

#[tokio::test]
async fn a_commit_whose_second_write_is_refused_leaves_nothing() {
    let fixture = Fixture::with_app().await;
    let commit = Commit {
        expects: vec![Expect::NoLiveToken(app().name)],
        writes: vec![Write::AddFile(file(1, 100)), Write::StartTurn(turn_id(1), at(6))],
        ledger: vec![line(10, "cauldron", erased(1))],
    };
    assert_eq!(fixture.commit(commit).await, Err(unexpected(1)), "the number of expectations stands for the writes");
    assert_eq!(fixture.store().files.file(file_id(1)).await.unwrap(), None);
    assert_eq!(fixture.ledger_kinds().await, [""; 0]);
}

#[tokio::test]
async fn a_commit_whose_rows_do_not_fit_leaves_nothing() {
    let fixture = Fixture::with_app().await;
    fixture.write(accept(1)).await.unwrap();
    let gap = vec![text(1, 1, "a"), text(1, 3, "b")];
    let writes = [Write::AddFile(file(1, 100)), Write::AppendEvents(gap)];
    assert_eq!(fixture.write(writes).await, Err(unexpected(0)));
    let twice = [Write::AddFile(file(1, 100)), Write::AddFile(file(1, 100))];
    assert_eq!(fixture.write(twice).await, Err(unexpected(0)));
    assert_eq!(fixture.store().files.file(file_id(1)).await.unwrap(), None);
    assert_eq!(fixture.store().events.head(session_id(1)).await.unwrap(), 0);
}

#[tokio::test]
async fn the_first_failed_expectation_is_named_and_nothing_happens() {
    let fixture = Fixture::with_app().await;
    let commit = Commit {
        expects: vec![
            Expect::NoLiveToken(app().name),
            Expect::FileExists(file_id(1)),
            Expect::TurnIs(turn_id(1), TurnState::Queued),
        ],
        writes: vec![Write::AddToken(token(1, app()))],
        ledger: Vec::new(),
    };
    assert_eq!(fixture.commit(commit).await, Err(unexpected(1)));
    assert_eq!(fixture.store().tokens.live_tokens().await.unwrap(), []);
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_restart() {
    let fixture = Fixture::with_app().await;
    let [open, queue] = accept(1);
    let commit = Commit {
        expects: Vec::new(),
        writes: vec![
            Write::AddToken(token(1, app())),
            Write::AddFile(file(1, 100)),
            open,
            queue,
            Write::StartTurn(turn_id(1), at(6)),
            Write::NoteProcess(turn_id(1), "p".to_owned()),
            Write::AppendEvents(vec![text(1, 1, "a")]),
        ],
        ledger: vec![line(10, "cauldron", erased(1))],
    };
    fixture.commit(commit).await.unwrap();
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.store().tokens.live_tokens().await.unwrap(), [token(1, app())]);
    assert_eq!(fixture.store().files.file(file_id(1)).await.unwrap(), Some(file(1, 100)));
    assert_eq!(fixture.store().sessions.unfinished_turns().await.unwrap()[0].process.as_deref(), Some("p"));
    assert_eq!(fixture.store().events.events_after(session_id(1), 0, 10).await.unwrap(), [text(1, 1, "a")]);
    assert_eq!(fixture.ledger_kinds().await, ["run_erased"]);
}

#[tokio::test]
async fn a_change_whose_caller_went_away_happens_all_the_same_and_harms_nobody() {
    let fixture = Fixture::with_app().await;
    {
        let mut left = fixture.store().door.commit(writing([Write::AddFile(file(1, 100))]));
        let polled_once = std::future::poll_fn(|context| std::task::Poll::Ready(left.as_mut().poll(context))).await;
        assert!(polled_once.is_pending(), "it has only been put into the queue");
    }
    // Commits happen in order, so when the next is there, the first one was.
    fixture.write([Write::AddFile(file(2, 100))]).await.unwrap();
    assert_eq!(fixture.store().files.files_after(None, 10).await.unwrap(), [file_id(1), file_id(2)]);
}

/// Tries a run's whole story through a door that fails at one commit, and then again.
#[tokio::test]
async fn a_story_whose_nth_commit_fails_can_be_told_to_its_end() {
    for fault in [Fault::Refuse, Fault::LoseAnswer] {
        for nth in 1..=4 {
            let fixture = Fixture::with_app().await;
            let door = FaultyDoor::new(Arc::clone(&fixture.store().door), fault, nth, 1);
            let mut seq = 0;
            for writes in story() {
                let appends = writes.iter().any(|write| matches!(write, Write::AppendEvents(_)));
                match door.commit(writing(writes.clone())).await {
                    Ok(()) => {}
                    Err(CommitError::Unavailable(_)) => {
                        let head = fixture.store().events.head(session_id(1)).await.unwrap();
                        assert_eq!(head, seq, "a refused commit left something");
                        door.commit(writing(writes)).await.unwrap();
                    }
                    Err(CommitError::Unknown(_)) => {
                        assert_eq!(door.commit(writing(writes)).await, Err(unexpected(0)), "it had happened");
                    }
                    Err(error @ CommitError::Unexpected { .. }) => panic!("commit {nth} under {fault:?}: {error}"),
                }
                seq += u64::from(appends);
            }
            assert_eq!(fixture.store().events.head(session_id(1)).await.unwrap(), 2);
            assert_eq!(fixture.store().sessions.unfinished_turns().await.unwrap(), []);
        }
    }
}

fn story() -> Vec<Vec<Write>> {
    vec![
        accept(1).to_vec(),
        vec![Write::StartTurn(turn_id(1), at(6))],
        vec![Write::AppendEvents(vec![text(1, 1, "a")])],
        vec![Write::AppendEvents(vec![text(1, 2, "b")]), Write::EndTurn(turn_id(1), at(7), outcome())],
    ]
}
