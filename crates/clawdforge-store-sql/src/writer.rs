//! The way in: one task that owns the only writing connection.
//!
//! Callers put commits into a bounded queue and wait for their answer. The task takes all that
//! wait, up to a limit, and writes them in one transaction, so that one flush of the disk serves
//! many callers; while it flushes, the next ones gather.
//!
//! - A commit that is refused leaves its neighbours alone: the transaction is made again, with a
//!   savepoint for each. Refusals are rare, and without them savepoints would double the cost.
//! - A commit that had to wait for too long is not written any more, and its caller is told so. Nobody
//!   else may decide that: a caller that stopped waiting would not know whether it happens later.
//! - Answers are given after `COMMIT`. A caller that no longer waits changes nothing.
//! - When storage itself fails, the whole transaction is lost and the connection is thrown away
//!   before anybody is answered; the next transaction opens a new one. So there is no half-open
//!   transaction to reason about, and service resumes by itself when the disk does.

use std::time::Instant;

use async_trait::async_trait;
use clawdforge_core::commit::Commit;
use clawdforge_core::limits::{COMMIT_QUEUE_MAX, COMMIT_WAIT_MAX, COMMITS_PER_TRANSACTION_MAX};
use clawdforge_store::{CommitDoor, CommitError};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{Connection, SqliteConnection};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::batch::{Batch, Stop, execute};
use crate::connect;
use crate::private::Lock;

type Outcome = Result<(), CommitError>;

/// What can be put into the writer's queue.
enum Message {
    /// A change, whom to answer, and when it is too late to begin it.
    Commit(Commit, oneshot::Sender<Outcome>, Instant),
    /// Nothing that comes later is accepted.
    Close,
}

/// The handle callers have of the writer.
pub(crate) struct Door {
    queue: mpsc::Sender<Message>,
}

impl Door {
    /// Resolves when the writer has ended or was asked to.
    pub(crate) async fn closed(&self) {
        self.queue.closed().await;
    }

    /// Asks the writer to finish what is queued and end.
    pub(crate) async fn close(&self) {
        // It fails when the writer ended already, which is what was asked for.
        let _ = self.queue.send(Message::Close).await;
    }
}

#[async_trait]
impl CommitDoor for Door {
    async fn commit(&self, commit: Commit) -> Outcome {
        let (answer, waiting) = oneshot::channel();
        self.queue.try_send(Message::Commit(commit, answer, Instant::now() + COMMIT_WAIT_MAX)).map_err(|error| {
            CommitError::Unavailable(match error {
                TrySendError::Full(_) => format!("{COMMIT_QUEUE_MAX} changes are waiting to be written"),
                TrySendError::Closed(_) => "it is closed".to_owned(),
            })
        })?;
        match waiting.await {
            Ok(outcome) => outcome,
            Err(_) => Err(CommitError::Unknown("the writer ended without an answer".to_owned())),
        }
    }
}

/// The task's state.
pub(crate) struct Writer {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    queue: mpsc::Receiver<Message>,
    /// Those who read, and whether they are to end first: the log is removed by the last connection, which must be one that
    /// may write.
    readers: SqlitePool,
    is_closing: bool,
    /// Held to the very end: whoever may write has the right to.
    _lock: Lock,
}

impl Writer {
    /// Starts the task; it ends after [`Door::close`] or when the last door is dropped.
    pub(crate) fn start(
        options: SqliteConnectOptions,
        connection: SqliteConnection,
        readers: SqlitePool,
        lock: Lock,
    ) -> (Door, JoinHandle<Result<(), sqlx::Error>>) {
        let (sender, queue) = mpsc::channel(COMMIT_QUEUE_MAX);
        let connection = Some(connection);
        let writer = Self { options, connection, queue, readers, is_closing: false, _lock: lock };
        #[expect(
            clippy::disallowed_methods,
            reason = "the store lies below the engine and its Tasks; `close` cancels this task and its handle reports failure"
        )]
        let task = tokio::spawn(writer.run());
        (Door { queue: sender }, task)
    }

    async fn run(mut self) -> Result<(), sqlx::Error> {
        let mut messages = Vec::new();
        while self.queue.recv_many(&mut messages, COMMITS_PER_TRANSACTION_MAX).await > 0 {
            let (mut commits, mut answers) = (Vec::with_capacity(messages.len()), Vec::with_capacity(messages.len()));
            for message in messages.drain(..) {
                match message {
                    Message::Commit(_, answer, latest) if latest <= Instant::now() => {
                        let waited = format!("it waited for more than {} s to be written", COMMIT_WAIT_MAX.as_secs());
                        // A caller that went away needs no answer; nothing happened.
                        let _ = answer.send(Err(CommitError::Unavailable(waited)));
                    }
                    Message::Commit(commit, answer, _) => {
                        commits.push(commit);
                        answers.push(answer);
                    }
                    Message::Close => {
                        self.is_closing = true;
                        self.queue.close();
                    }
                }
            }
            let outcomes = self.write(&commits).await;
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // A caller that went away needs no answer; the change stands.
                let _ = answer.send(outcome);
            }
        }
        self.finish().await
    }

    /// Writes commits in one transaction; the outcomes are in their order.
    async fn write(&mut self, commits: &[Commit]) -> Vec<Outcome> {
        if commits.is_empty() {
            return Vec::new();
        }
        let failure = match self.transaction(commits).await {
            Ok(outcomes) => return outcomes,
            Err(failure) => failure,
        };
        tracing::error!(commits = commits.len(), error = %failure, "a transaction of the store failed");
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the failed connection did not close; its thread is gone");
        }
        vec![Err(failure); commits.len()]
    }

    async fn transaction(&mut self, commits: &[Commit]) -> Result<Vec<Outcome>, CommitError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect::writing(&self.options).await.map_err(nothing_happened)?),
        };
        if let Some(outcomes) = all_of(connection, commits).await? {
            return Ok(outcomes);
        }
        execute(connection, "ROLLBACK; BEGIN IMMEDIATE").await.map_err(nothing_happened)?;
        each_of(connection, commits).await
    }

    /// Moves the log into the database. The last connection to close removes the log.
    async fn finish(mut self) -> Result<(), sqlx::Error> {
        if self.is_closing {
            self.readers.close().await;
        }
        let Some(mut connection) = self.connection.take() else { return Ok(()) };
        execute(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await?;
        connection.close().await
    }
}

/// The usual way: no commit is refused, so none needs to be undone alone. `None` when one was, and
/// all have to be undone. An error means that the transaction is lost.
async fn all_of(connection: &mut SqliteConnection, commits: &[Commit]) -> Result<Option<Vec<Outcome>>, CommitError> {
    let all = || Some(vec![Ok(()); commits.len()]);
    if let [commit] = commits {
        let batch = Batch::of(commit, Some("BEGIN IMMEDIATE")).committed();
        return Ok(fits(batch.run(connection).await)?.then(all).flatten());
    }
    // Trips matter less here, and each commit keeps to one shape, wherever it stands.
    execute(connection, "BEGIN IMMEDIATE").await.map_err(nothing_happened)?;
    for commit in commits {
        if !fits(Batch::of(commit, None).run(connection).await)? {
            return Ok(None);
        }
    }
    end(connection).await?;
    Ok(all())
}

/// False when a commit was refused.
fn fits(ran: Result<(), Stop>) -> Result<bool, CommitError> {
    match ran {
        Ok(()) => Ok(true),
        Err(Stop::Refused(_)) => Ok(false),
        Err(stop) => Err(lost(stop)),
    }
}

/// Makes a transaction durable.
async fn end(connection: &mut SqliteConnection) -> Result<(), CommitError> {
    Batch::of(&Commit::default(), None).committed().run(connection).await.map_err(lost)
}

/// The careful way, at twice the cost: each commit has a savepoint, so that a refused one leaves its
/// neighbours alone.
async fn each_of(connection: &mut SqliteConnection, commits: &[Commit]) -> Result<Vec<Outcome>, CommitError> {
    let mut outcomes = Vec::with_capacity(commits.len());
    for commit in commits {
        let batch = Batch::of(commit, Some("SAVEPOINT one")).released_by("RELEASE one");
        outcomes.push(match batch.run(connection).await {
            Ok(()) => Ok(()),
            Err(Stop::Refused(refusal)) => {
                execute(connection, "ROLLBACK TO one; RELEASE one").await.map_err(nothing_happened)?;
                Err(refusal)
            }
            Err(stop) => return Err(lost(stop)),
        });
    }
    end(connection).await?;
    Ok(outcomes)
}

/// What a transaction that ended early means to everybody in it.
fn lost(stop: Stop) -> CommitError {
    match stop {
        Stop::Refused(refusal) => refusal,
        Stop::Failed(error) => nothing_happened(error),
        Stop::Doubtful(error) => CommitError::Unknown(error.to_string()),
    }
}

fn nothing_happened(error: sqlx::Error) -> CommitError {
    CommitError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use clawdforge_core::commit::Write;
    use clawdforge_core::id::AppId;
    use clawdforge_core::time::Timestamp;

    use super::*;
    use crate::{SqliteOptions, open};

    #[tokio::test]
    async fn a_writer_that_is_gone_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let opened = open(SqliteOptions::at(dir.path().join("db"))).await.unwrap();
        assert!(tokio::time::timeout(std::time::Duration::ZERO, opened.broken()).await.is_err(), "all is well");
        opened.writer().abort();
        opened.broken().await;
        let outcome = opened.store.door.commit(Commit::default()).await;
        assert!(matches!(outcome, Err(CommitError::Unavailable(_))), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_change_that_waited_for_too_long_is_refused_and_never_happens() {
        let dir = tempfile::tempdir().unwrap();
        let opened = open(SqliteOptions::at(dir.path().join("db"))).await.unwrap();
        let name: clawdforge_core::app::AppName = "late".parse().unwrap();
        let at = Timestamp::from_micros(1);
        let app = clawdforge_core::app::App { id: AppId::new(at, [1; 10]), name: name.clone() };
        let commit = Commit { writes: vec![Write::AddApp(app, at)], ..Commit::default() };
        let (answer, waiting) = oneshot::channel();
        opened.door().queue.send(Message::Commit(commit, answer, Instant::now())).await.ok().unwrap();
        assert!(matches!(waiting.await.unwrap(), Err(CommitError::Unavailable(why)) if why.contains("waited")));
        assert_eq!(opened.store.tokens.app(&name).await, Ok(None));
    }
}
