//! Many callers at once share transactions without noticing each other.

use std::future::Future;
use std::sync::Arc;

use clawdforge_core::commit::{Commit, Write};
use clawdforge_store::CommitError;

use crate::support::{Fixture, accept, at, erased, file, line, session_id, text, turn_id, unexpected};

/// Runs futures as tasks of their own, on several threads where the test has them.
pub async fn all_at_once<T: Send + 'static>(
    futures: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut tasks = tokio::task::JoinSet::new();
    for future in futures {
        tasks.spawn(future);
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_sessions_append_at_once_and_every_log_is_whole_after_a_restart() {
    const SESSIONS: u128 = 64;
    const EVENTS: u64 = 20;
    let fixture = Arc::new(Fixture::with_app().await);
    let callers = (1..=SESSIONS).map(|number| {
        let fixture = Arc::clone(&fixture);
        async move {
            fixture.write(accept(number)).await.unwrap();
            for seq in 1..=EVENTS {
                fixture.write([Write::AppendEvents(vec![text(number, seq, &seq.to_string())])]).await.unwrap();
            }
        }
    });
    all_at_once(callers).await;

    let fixture = Arc::into_inner(fixture).unwrap().reopen().await;
    for number in 1..=SESSIONS {
        let events = fixture.store().events.events_after(session_id(number), 0, 1_000).await.unwrap();
        let expected: Vec<_> = (1..=EVENTS).map(|seq| text(number, seq, &seq.to_string())).collect();
        assert_eq!(events, expected, "session {number}");
    }
}

#[tokio::test]
async fn commits_happen_in_the_order_they_came_in() {
    let fixture = Fixture::with_app().await;
    let mut waiting = Vec::new();
    for number in 1..=200u128 {
        let ledger = vec![line(i64::try_from(number).unwrap(), "cauldron", erased(number))];
        let mut commit = fixture.store().door.commit(Commit { ledger, ..Commit::default() });
        // The first poll puts it into the queue; the others gather while the first is written.
        std::future::poll_fn(|context| {
            assert!(commit.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        waiting.push(commit);
    }
    for commit in waiting {
        commit.await.unwrap();
    }
    let lines = fixture.store().ledger.ledger(crate::support::all_lines()).await.unwrap();
    assert!(lines.iter().map(|line| line.at).is_sorted());
    assert_eq!(lines.len(), 200);
}

#[tokio::test]
async fn a_refused_commit_leaves_its_neighbours_in_the_same_transaction_alone() {
    let fixture = Arc::new(Fixture::with_app().await);
    let commits = (1..=100u128).map(|number| {
        let fixture = Arc::clone(&fixture);
        async move {
            let mut writes = vec![Write::AddFile(file(number, 100))];
            if number % 2 == 0 {
                writes.push(Write::StartTurn(turn_id(number), at(6)));
            }
            (number, fixture.write(writes).await)
        }
    });
    for (number, outcome) in all_at_once(commits).await {
        assert_eq!(outcome, if number % 2 == 0 { Err(unexpected(0)) } else { Ok(()) }, "commit {number}");
    }
    assert_eq!(fixture.store().files.files_after(None, 1_000).await.unwrap().len(), 50);
}

#[tokio::test]
async fn a_full_queue_refuses_further_commits_at_once() {
    let fixture = Fixture::with_app().await;
    let mut waiting = Vec::new();
    // One thread, and no await that yields: the writer takes nothing meanwhile.
    let refused = loop {
        let mut commit = fixture.store().door.commit(Commit::default());
        let state = std::future::poll_fn(|context| std::task::Poll::Ready(commit.as_mut().poll(context))).await;
        match state {
            std::task::Poll::Pending => waiting.push(commit),
            std::task::Poll::Ready(outcome) => break outcome,
        }
    };
    assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    assert_eq!(waiting.len(), clawdforge_core::limits::COMMIT_QUEUE_MAX);
    for commit in waiting {
        commit.await.unwrap();
    }
    assert_eq!(fixture.commit(Commit::default()).await, Ok(()), "there is room again");
}
