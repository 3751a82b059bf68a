//! The statements of one commit, run in few trips.
//!
//! A connection of sqlx is a thread of its own. A statement sent to it costs two changes of threads, which is more
//! than most of our statements take; so a commit sends its statements together, down to the one that ends its
//! transaction. What must come of a statement is therefore checked by another one behind it, which fails where it
//! does not hold ([`MUST`]): SQLite runs none of the statements behind one that failed.

use clawdforge_core::commit::Commit;
use clawdforge_store::CommitError;
use futures_util::TryStreamExt;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe, Either, Encode, Executor, Sqlite};

use crate::expects::add_expect;
use crate::fault::{Fault, fault};
use crate::ledger_lines::add_line;
use crate::writes::add_write;

/// Why the changes of one commit stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// This commit cannot happen; others can.
    Refused(CommitError),
    /// Storage failed; the transaction is lost.
    Failed(sqlx::Error),
    /// Storage failed while it made the transaction durable: it happened, or it did not.
    Doubtful(sqlx::Error),
}

/// What a writing connection needs for its checks: putting a row into `must` fails unless it holds something true,
/// and changes nothing.
pub(crate) const MUST: &str = "
    CREATE TEMP TABLE must (holds INTEGER) STRICT;
    CREATE TEMP TRIGGER must_hold BEFORE INSERT ON must BEGIN
        SELECT iif(NEW.holds, RAISE(IGNORE), RAISE(ABORT, 'it is not where the change begins'));
    END";

/// What a statement is to its commit.
#[derive(Debug, Clone, Copy)]
enum Role {
    /// The precondition with this index.
    Expect(usize),
    /// A change, or the check of one.
    Change,
    /// It makes the whole transaction durable.
    End,
}

/// Statements on their way to the connection together. The connection keeps each text prepared, so a batch is made of
/// few shapes: what there can be many of goes alone.
#[derive(Default)]
struct Trip {
    sql: String,
    arguments: SqliteArguments,
    roles: Vec<Role>,
}

/// All statements of one commit.
pub(crate) struct Batch {
    trips: Vec<Trip>,
    /// Whether the last trip takes another statement.
    is_open: bool,
    /// What begins, also where nothing else is sent.
    first: Option<&'static str>,
    /// A value that could not be encoded: the commit is refused.
    unwritable: Option<sqlx::Error>,
    /// How many preconditions there are.
    expects: usize,
}

impl Batch {
    /// The preconditions and changes of a commit, after what begins a transaction or a savepoint, if anything.
    pub fn of(commit: &Commit, first: Option<&'static str>) -> Self {
        let expects = commit.expects.len();
        let mut batch = Self { trips: Vec::new(), is_open: false, first, unwritable: None, expects };
        if let Some(first) = first {
            batch.push(Role::Change, first);
        }
        for (index, expect) in commit.expects.iter().enumerate() {
            add_expect(&mut batch, index, expect);
        }
        for write in &commit.writes {
            add_write(&mut batch, write);
        }
        for entry in &commit.ledger {
            add_line(&mut batch, entry);
        }
        batch
    }

    /// The batch and what ends its savepoint.
    pub fn released_by(mut self, sql: &'static str) -> Self {
        self.push(Role::Change, sql);
        self
    }

    /// The batch and the end of the transaction.
    pub fn committed(mut self) -> Self {
        self.push(Role::End, "COMMIT");
        self
    }

    /// Adds a statement. Its parameters are plain `?`, and [`bind`](Self::bind) follows for each, in order.
    pub fn add(&mut self, sql: &str) -> &mut Self {
        self.push(Role::Change, sql);
        self
    }

    /// Adds a statement that goes alone.
    pub fn add_alone(&mut self, sql: &str) -> &mut Self {
        self.is_open = false;
        self.push(Role::Change, sql);
        self.is_open = false;
        self
    }

    /// The statement that was added last must change at least one row.
    pub fn must_change(&mut self) {
        self.push(Role::Change, "INSERT INTO temp.must VALUES (changes() > 0)");
    }

    /// Adds an expression that must hold for the changes that follow.
    pub fn must(&mut self, condition: &str) -> &mut Self {
        self.push(Role::Change, &format!("INSERT INTO temp.must VALUES ({condition})"));
        self
    }

    /// Adds the expression that is the precondition with this index.
    pub fn expect(&mut self, index: usize, condition: &str) -> &mut Self {
        self.push(Role::Expect(index), &format!("INSERT INTO temp.must VALUES ({condition})"));
        self
    }

    fn push(&mut self, role: Role, sql: &str) {
        if !std::mem::replace(&mut self.is_open, true) {
            self.trips.push(Trip::default());
        }
        if let Some(trip) = self.trips.last_mut() {
            trip.sql.push_str(sql);
            trip.sql.push(';');
            trip.roles.push(role);
        }
    }

    /// The next value of the statement that was added last.
    pub fn bind<'t>(&mut self, value: impl Encode<'t, Sqlite> + sqlx::Type<Sqlite>) -> &mut Self {
        match self.trips.last_mut().map(|trip| trip.arguments.add(value)) {
            None | Some(Ok(())) => self,
            Some(Err(error)) => self.refuse_value(error),
        }
    }

    /// As [`bind`](Self::bind), for what is kept as JSON.
    pub fn bind_json<'t>(
        &mut self,
        value: Result<impl Encode<'t, Sqlite> + sqlx::Type<Sqlite>, serde_json::Error>,
    ) -> &mut Self {
        match value {
            Ok(value) => self.bind(value),
            Err(error) => self.refuse_value(error.into()),
        }
    }

    fn refuse_value(&mut self, error: BoxDynError) -> &mut Self {
        self.unwritable.get_or_insert(sqlx::Error::Encode(error));
        self
    }

    /// Runs the statements.
    pub async fn run(self, connection: &mut SqliteConnection) -> Result<(), Stop> {
        let expects = self.expects;
        let stop = |role: Role, error: sqlx::Error| match (role, fault(&error)) {
            // The mark that ends a transaction is written last, so without room for it there is none.
            (Role::End, Fault::Full | Fault::Busy) => Stop::Failed(error),
            (Role::End, _) => Stop::Doubtful(error),
            (Role::Expect(index), Fault::Conflict) => Stop::Refused(CommitError::Unexpected { index }),
            (Role::Change, Fault::Conflict) => Stop::Refused(CommitError::Unexpected { index: expects }),
            (_, Fault::Unwritable) => Stop::Refused(CommitError::Unavailable(error.to_string())),
            (_, Fault::Full | Fault::Busy | Fault::NotWritable | Fault::Damaged | Fault::Other) => Stop::Failed(error),
        };
        if let Some(error) = self.unwritable {
            if let Some(first) = self.first {
                execute(connection, first).await.map_err(Stop::Failed)?;
            }
            return Err(stop(Role::Change, error));
        }
        for trip in self.trips {
            trip.run(connection).await.map_err(|(role, error)| stop(role, error))?;
        }
        Ok(())
    }
}

impl Trip {
    /// Runs the statements down to the first that fails.
    async fn run(self, connection: &mut SqliteConnection) -> Result<(), (Role, sqlx::Error)> {
        // The text is put together of our own; what comes from outside is bound.
        let query = sqlx::query_with(AssertSqlSafe(self.sql), self.arguments);
        let mut results = connection.fetch_many(query);
        let mut roles = self.roles.into_iter();
        loop {
            match results.try_next().await {
                Ok(Some(Either::Left(_))) => drop(roles.next()),
                Ok(Some(Either::Right(_))) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err((roles.next().unwrap_or(Role::End), error)),
            }
        }
    }
}

/// Runs a statement that takes no values.
pub(crate) async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await.map(drop)
}
