//! The way out: each window as a few queries on a small pool of read-only connections.
//!
//! A read sees everything acknowledged before it began. It may be dropped at any time.

use std::time::Duration;

use async_trait::async_trait;
use clawdforge_core::app::{App, AppName, AppToken};
use clawdforge_core::event::{Event, EventBody, EventSeq};
use clawdforge_core::file::File;
use clawdforge_core::id::{AppId, FileId, HostId, RunId, SessionId, TurnId};
use clawdforge_core::idempotency::KeptKey;
use clawdforge_core::ledger::{LedgerLine, UsageSum};
use clawdforge_core::session::{Equipment, Session, SessionRecord};
use clawdforge_core::time::Timestamp;
use clawdforge_core::turn::TurnRecord;
use clawdforge_store::{
    AgentUserReads, EndedTurn, EventBounds, EventReads, FileReads, KeyReads, LedgerQuery, LedgerReads, Order,
    ReadError, RunRecord, SessionReads, TokenReads, UnfinishedTurn,
};
use sqlx::sqlite::{SqliteArguments, SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};

use crate::rows;
use crate::writes::integer;

/// All windows of the store.
pub(crate) struct Windows {
    readers: SqlitePool,
}

type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

impl Windows {
    pub(crate) fn new(readers: SqlitePool) -> Self {
        Self { readers }
    }

    async fn all<T>(&self, query: Query<'_>, row: fn(&SqliteRow) -> Result<T, ReadError>) -> Result<Vec<T>, ReadError> {
        query.fetch_all(&self.readers).await.map_err(read_error)?.iter().map(row).collect()
    }

    async fn one<T>(
        &self,
        query: Query<'_>,
        row: fn(&SqliteRow) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        query.fetch_optional(&self.readers).await.map_err(read_error)?.as_ref().map(row).transpose()
    }
}

#[async_trait]
impl TokenReads for Windows {
    async fn live_tokens(&self) -> Result<Vec<AppToken>, ReadError> {
        let query = sqlx::query(
            "SELECT tokens.id, hash, ip_cidrs, network, tool_servers, tokens.created_at, apps.id AS app_id, apps.name AS app_name
             FROM tokens JOIN apps ON apps.id = tokens.app
             WHERE revoked_at IS NULL ORDER BY apps.name",
        );
        self.all(query, rows::token).await
    }

    async fn app(&self, name: &AppName) -> Result<Option<App>, ReadError> {
        self.one(sqlx::query("SELECT id, name FROM apps WHERE name = ?1").bind(name.as_str()), rows::app).await
    }
}

#[async_trait]
impl AgentUserReads for Windows {
    async fn agent_user(&self, app: AppId) -> Result<Option<u32>, ReadError> {
        let query = sqlx::query("SELECT number FROM agent_users WHERE app = ?1");
        self.one(query.bind(app.to_string()), rows::agent_user).await
    }

    async fn last_agent_user(&self) -> Result<Option<u32>, ReadError> {
        self.one(sqlx::query("SELECT number FROM agent_users ORDER BY number DESC LIMIT 1"), rows::agent_user).await
    }
}

#[async_trait]
impl FileReads for Windows {
    async fn file(&self, id: FileId) -> Result<Option<File>, ReadError> {
        let query = sqlx::query("SELECT id, app, name, size_bytes, created_at, expires_at FROM files WHERE id = ?1");
        self.one(query.bind(id.to_string()), rows::file).await
    }

    async fn expired_files(&self, now: Timestamp, limit: usize) -> Result<Vec<File>, ReadError> {
        let query = sqlx::query(
            "SELECT id, app, name, size_bytes, created_at, expires_at FROM files
             WHERE expires_at <= ?1 ORDER BY expires_at, id LIMIT ?2",
        );
        self.all(query.bind(now.micros()).bind(rows_max(limit)), rows::file).await
    }

    async fn files_after(&self, after: Option<FileId>, limit: usize) -> Result<Vec<FileId>, ReadError> {
        // Ids begin with the time, so their order is the order of age; every id is above the empty text.
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let query = sqlx::query("SELECT id FROM files WHERE id > ?1 ORDER BY id LIMIT ?2");
        self.all(query.bind(after).bind(rows_max(limit)), |row| rows::parsed(row, "id")).await
    }
}

/// The columns a session is read from, beside its id.
macro_rules! session_columns {
    () => {
        "app, app_name, agent, kind, created_at, model, meta, driver, on_context_loss, effort, mode, system_mode, tool_servers,
         isolation, isolation_min"
    };
}

/// The beginning of a query for conversations with what their turns tell.
macro_rules! record_columns {
    () => {
        concat!(
            "SELECT id AS session, closed_at, resume_key, forked_from, forked_after,
                    (SELECT max(place) FROM turns WHERE turns.session = sessions.id) AS turns,
                    (SELECT queued_at FROM turns WHERE turns.session = sessions.id
                     ORDER BY place DESC LIMIT 1) AS last_turn_at, ",
            session_columns!(),
            " FROM sessions",
        )
    };
}

/// The columns a turn is read from, where it is the only thing with an id.
macro_rules! turn_columns {
    () => {
        "turns.id AS turn, session, place, state, request, queued_at, timeout_us, started_at, ended_at, outcome,
         cancel_asked_at"
    };
}

/// The beginning of a query for runs.
macro_rules! run_columns {
    () => {
        concat!(
            "SELECT ",
            turn_columns!(),
            ", ",
            session_columns!(),
            " FROM sessions JOIN turns ON turns.session = sessions.id"
        )
    };
}

#[async_trait]
impl SessionReads for Windows {
    async fn unfinished_turns(&self) -> Result<Vec<UnfinishedTurn>, ReadError> {
        let query = sqlx::query(concat!(
            "SELECT turns.id AS turn, session, place, state, request, queued_at, timeout_us, process, cancel_asked_at, ",
            session_columns!(),
            " FROM turns JOIN sessions ON sessions.id = turns.session
             WHERE ended_at IS NULL ORDER BY queued_at, turns.id",
        ));
        self.all(query, rows::unfinished_turn).await
    }

    async fn turn(&self, id: TurnId) -> Result<Option<TurnRecord>, ReadError> {
        let query = sqlx::query(concat!("SELECT ", turn_columns!(), " FROM turns WHERE id = ?1"));
        self.one(query.bind(id.to_string()), rows::turn_record).await
    }

    async fn turns(&self, session: SessionId, after: u32, limit: usize) -> Result<Vec<TurnRecord>, ReadError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            turn_columns!(),
            " FROM turns WHERE session = ?1 AND place > ?2 ORDER BY place LIMIT ?3"
        ));
        self.all(query.bind(session.to_string()).bind(after).bind(rows_max(limit)), rows::turn_record).await
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, ReadError> {
        let query = sqlx::query(concat!(run_columns!(), " WHERE sessions.id = ?1 AND kind = 'run'"));
        self.one(query.bind(SessionId::from(id).to_string()), rows::run).await
    }

    async fn runs(&self, app: AppId, before: Option<RunId>, limit: usize) -> Result<Vec<RunRecord>, ReadError> {
        let query = sqlx::query(concat!(
            run_columns!(),
            " WHERE app = ?1 AND kind = 'run' AND sessions.id < ?2 ORDER BY sessions.id DESC LIMIT ?3"
        ));
        let query = query.bind(app.to_string()).bind(before_id(before.map(SessionId::from))).bind(rows_max(limit));
        self.all(query, rows::run).await
    }

    async fn queued_prompt(&self, turn: TurnId) -> Result<Option<EventBody>, ReadError> {
        let query = sqlx::query("SELECT prompt FROM turns WHERE id = ?1 AND prompt IS NOT NULL");
        self.one(query.bind(turn.to_string()), rows::prompt).await
    }

    async fn turns_just_ended(&self, window: Duration) -> Result<Vec<EndedTurn>, ReadError> {
        let query = sqlx::query(
            "SELECT id, process FROM turns WHERE ended_at >= (SELECT max(ended_at) FROM turns) - ?1 ORDER BY ended_at, id",
        );
        let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        self.all(query.bind(window), rows::ended_turn).await
    }

    async fn conversation(&self, id: SessionId) -> Result<Option<SessionRecord>, ReadError> {
        let query = sqlx::query(concat!(record_columns!(), " WHERE id = ?1 AND kind = 'conversation'"));
        Ok(self.all(query.bind(id.to_string()), rows::session_record).await?.pop())
    }

    async fn equipment(&self, session: SessionId) -> Result<Equipment, ReadError> {
        let query =
            sqlx::query("SELECT system, tool_servers FROM equipment WHERE session = ?1").bind(session.to_string());
        Ok(self.one(query, rows::equipment).await?.unwrap_or_default())
    }

    async fn conversations(
        &self,
        app: AppId,
        include_closed: bool,
        before: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionRecord>, ReadError> {
        let query = sqlx::query(concat!(
            record_columns!(),
            " WHERE app = ?1 AND kind = 'conversation' AND (?2 OR closed_at IS NULL) AND id < ?3
              ORDER BY id DESC LIMIT ?4",
        ));
        let query = query.bind(app.to_string()).bind(include_closed).bind(before_id(before)).bind(rows_max(limit));
        self.all(query, rows::session_record).await
    }

    async fn open_conversations(&self) -> Result<u64, ReadError> {
        let query = sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM sessions WHERE kind = 'conversation' AND closed_at IS NULL",
        );
        let count = query.fetch_one(&self.readers).await.map_err(read_error)?;
        u64::try_from(count).map_err(|error| ReadError(error.to_string()))
    }

    async fn linked_conversations(&self) -> Result<Vec<(SessionId, String)>, ReadError> {
        self.all(sqlx::query("SELECT id, link FROM sessions WHERE link IS NOT NULL"), rows::link).await
    }

    async fn hosts(&self) -> Result<Vec<HostId>, ReadError> {
        self.all(sqlx::query("SELECT id FROM hosts ORDER BY id"), |row| rows::parsed(row, "id")).await
    }

    async fn conversations_idle_since(&self, before: Timestamp, limit: usize) -> Result<Vec<Session>, ReadError> {
        let query = sqlx::query(concat!(
            "SELECT id AS session, ",
            session_columns!(),
            " FROM sessions WHERE kind = 'conversation' AND closed_at IS NULL AND active_at < ?1
                AND NOT EXISTS (SELECT 1 FROM turns WHERE turns.session = sessions.id AND ended_at IS NULL)
              ORDER BY active_at LIMIT ?2",
        ));
        self.all(query.bind(before.micros()).bind(rows_max(limit)), rows::session).await
    }

    async fn conversations_closed_before(&self, before: Timestamp, limit: usize) -> Result<Vec<Session>, ReadError> {
        let query = sqlx::query(concat!(
            "SELECT id AS session, ",
            session_columns!(),
            " FROM sessions WHERE closed_at < ?1
                AND NOT EXISTS (SELECT 1 FROM turns WHERE turns.session = sessions.id AND ended_at IS NULL)
              ORDER BY closed_at LIMIT ?2",
        ));
        self.all(query.bind(before.micros()).bind(rows_max(limit)), rows::session).await
    }

    async fn runs_ended_before(&self, before: Timestamp, limit: usize) -> Result<Vec<Session>, ReadError> {
        let query = sqlx::query(concat!(
            "SELECT session, ",
            session_columns!(),
            " FROM turns JOIN sessions ON sessions.id = turns.session
             WHERE ended_at < ?1 AND kind = 'run' ORDER BY ended_at, session LIMIT ?2",
        ));
        self.all(query.bind(before.micros()).bind(rows_max(limit)), rows::session).await
    }
}

#[async_trait]
impl EventReads for Windows {
    async fn events_within(
        &self,
        session: SessionId,
        after: EventSeq,
        bounds: EventBounds,
    ) -> Result<Vec<Event>, ReadError> {
        // The bytes are counted before any is read: SQLite knows the length of a body without loading it. To stop
        // taking rows would be too late, for the driver reads ahead of whoever takes them.
        let query = sqlx::query(
            "SELECT session, seq, turn, at, body FROM events
             WHERE session = ?1 AND seq > ?2 AND seq <= (
                 SELECT max(seq) FROM (
                     SELECT seq, bytes, sum(bytes) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) AS bytes_so_far FROM (
                         SELECT seq, octet_length(body) AS bytes FROM events
                         WHERE session = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3))
                 WHERE bytes_so_far - bytes < ?4)
             ORDER BY seq LIMIT ?3",
        );
        // None at all would be no page; its first event is in whatever its bytes are.
        let bytes_max = i64::try_from(bounds.bytes_max.max(1)).unwrap_or(i64::MAX);
        let query =
            query.bind(session.to_string()).bind(integer(after)).bind(rows_max(bounds.rows_max)).bind(bytes_max);
        self.all(query, rows::event).await
    }

    async fn first_of_turn(&self, session: SessionId, turn: TurnId) -> Result<Option<EventSeq>, ReadError> {
        let query = sqlx::query("SELECT seq FROM events WHERE session = ?1 AND turn = ?2 ORDER BY seq LIMIT 1");
        self.one(query.bind(session.to_string()).bind(turn.to_string()), rows::seq).await
    }

    async fn last_of_turn(&self, session: SessionId, turn: TurnId) -> Result<Option<Event>, ReadError> {
        let query = sqlx::query(
            "SELECT session, seq, turn, at, body FROM events
             WHERE session = ?1 AND turn = ?2 ORDER BY seq DESC LIMIT 1",
        );
        self.one(query.bind(session.to_string()).bind(turn.to_string()), rows::event).await
    }

    async fn head(&self, session: SessionId) -> Result<EventSeq, ReadError> {
        let head: i64 = sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM events WHERE session = ?1")
            .bind(session.to_string())
            .fetch_one(&self.readers)
            .await
            .map_err(read_error)?;
        u64::try_from(head).map_err(|error| ReadError(error.to_string()))
    }
}

#[async_trait]
impl KeyReads for Windows {
    async fn kept(&self, app: AppId, key: &str) -> Result<Option<KeptKey>, ReadError> {
        let query =
            sqlx::query("SELECT app, key, fingerprint, subject, at FROM idempotency_keys WHERE app = ?1 AND key = ?2");
        self.one(query.bind(app.to_string()).bind(key), rows::kept_key).await
    }
}

#[async_trait]
impl LedgerReads for Windows {
    async fn ledger(&self, query: LedgerQuery) -> Result<Vec<LedgerLine>, ReadError> {
        // Built up, so that SQLite sees only the conditions that apply and picks the index for them.
        let mut sql = QueryBuilder::new("SELECT * FROM ledger WHERE seq ");
        match query.order {
            Order::NewestFirst => sql.push("< ").push_bind(query.cursor.map_or(i64::MAX, integer)),
            Order::OldestFirst => sql.push("> ").push_bind(query.cursor.map_or(0, integer)),
        };
        if let Some(app) = query.app {
            sql.push(" AND app = ").push_bind(app);
        }
        if let Some(kind) = query.kind {
            sql.push(" AND kind = ").push_bind(kind);
        }
        sql.push(match query.order {
            Order::NewestFirst => " ORDER BY seq DESC LIMIT ",
            Order::OldestFirst => " ORDER BY seq LIMIT ",
        });
        sql.push_bind(rows_max(query.limit));
        self.all(sql.build(), rows::ledger_line).await
    }

    async fn usage(
        &self,
        app: &AppName,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<UsageSum, ReadError> {
        // An agent may report any number, and `sum` fails where integers overflow. `total` does not, is exact up to
        // 2^53 tokens, and the cast ends at the largest integer.
        let query = sqlx::query(
            "SELECT coalesce(sum(kind = 'run_ended'), 0) AS runs, coalesce(sum(kind = 'turn_ended'), 0) AS turns,
                    CAST(total(input_tokens) AS INTEGER) AS input_tokens,
                    CAST(total(output_tokens) AS INTEGER) AS output_tokens,
                    CAST(total(cache_read_tokens) AS INTEGER) AS cache_read_tokens,
                    CAST(total(cache_write_tokens) AS INTEGER) AS cache_write_tokens,
                    coalesce(sum(cost_usd), 0.0) AS cost_usd
             FROM ledger
             WHERE app = ?1 AND kind IN ('run_ended', 'turn_ended') AND at >= ?2 AND at < ?3",
        );
        let from = from.map_or(i64::MIN, Timestamp::micros);
        let to = to.map_or(i64::MAX, Timestamp::micros);
        let found = self.one(query.bind(app.as_str()).bind(from).bind(to), rows::usage_sum).await?;
        Ok(found.unwrap_or_default())
    }

    async fn has_lines_before(&self, before: Timestamp) -> Result<bool, ReadError> {
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM ledger WHERE at < ?1)").bind(before.micros());
        query.fetch_one(&self.readers).await.map_err(read_error)
    }
}

/// The id that a page ends before; every id is below the one that stands for none.
fn before_id(before: Option<SessionId>) -> String {
    before.map_or_else(|| "~".to_owned(), |id| id.to_string())
}

/// A negative limit would mean none; this one never is.
fn rows_max(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn read_error(error: sqlx::Error) -> ReadError {
    ReadError(error.to_string())
}
