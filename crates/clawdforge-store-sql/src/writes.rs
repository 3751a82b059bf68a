//! Every durable change as SQL.
//!
//! A change that moves something forward (a turn, a token's life) is refused when it is not where
//! the change begins. One that makes something be there no more succeeds when it was not there. Rows
//! that do not fit those that are there (twice the same id, no such app) are refused, too.

use clawdforge_core::app::{App, AppToken};
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::{Event, EventBody, TurnOutcome};
use clawdforge_core::file::File;
use clawdforge_core::id::{AppId, FileId, HostId, SessionId, TokenId, TurnId};
use clawdforge_core::isolation::Isolation;
use clawdforge_core::limits::LEDGER_LINES_PER_TRIM_MAX;
use clawdforge_core::run::Effort;
use clawdforge_core::session::Session;
use clawdforge_core::time::Timestamp;
use clawdforge_core::turn::Turn;
use clawdforge_store::CommitError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Sqlite};

use crate::expects::holds;
use crate::fault::{Fault, fault};
use crate::ledger_lines::append_line;

/// How many events one statement inserts, the greatest first. Each statement is a trip to the connection's thread and
/// back, which costs as much as inserting several rows; and each is kept prepared, so there are few.
const EVENTS_PER_STATEMENT: [usize; 5] = [64, 16, 4, 2, 1];

/// Why the changes of one commit stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// This commit cannot happen; others can.
    Refused(CommitError),
    /// Storage failed; the transaction is lost.
    Failed(sqlx::Error),
}

/// Checks a commit's preconditions and makes its changes.
pub(crate) async fn make_changes(connection: &mut SqliteConnection, commit: &Commit) -> Result<(), Stop> {
    for (index, expect) in commit.expects.iter().enumerate() {
        if !holds(connection, expect).await.map_err(Stop::Failed)? {
            return Err(Stop::Refused(CommitError::Unexpected { index }));
        }
    }
    let unexpected = || Stop::Refused(CommitError::Unexpected { index: commit.expects.len() });
    let stop = |error: sqlx::Error| match fault(&error) {
        Fault::Conflict => unexpected(),
        Fault::Unwritable => Stop::Refused(CommitError::Unavailable(error.to_string())),
        Fault::Full | Fault::Busy | Fault::NotWritable | Fault::Damaged | Fault::Other => Stop::Failed(error),
    };
    for write in &commit.writes {
        if !make_change(connection, write).await.map_err(stop)? {
            return Err(unexpected());
        }
    }
    for entry in &commit.ledger {
        append_line(connection, entry).await.map_err(stop)?;
    }
    Ok(())
}

/// Makes one change; false when things are not where it begins.
async fn make_change(connection: &mut SqliteConnection, write: &Write) -> Result<bool, sqlx::Error> {
    match write {
        Write::AddApp(app, at) => add_app(connection, app, *at).await,
        Write::AddToken(token) => add_token(connection, token).await,
        Write::AddAgentUser(app, number) => add_agent_user(connection, *app, *number).await,
        Write::RevokeToken(token, at) => revoke_token(connection, *token, *at).await,
        Write::AddFile(file) => add_file(connection, file).await,
        Write::RemoveFile(file) => remove_file(connection, *file).await,
        Write::OpenSession(session) => open_session(connection, session).await,
        Write::QueueTurn(turn, prompt) => queue_turn(connection, turn, prompt.as_ref()).await,
        Write::StartTurn(turn, at) => start_turn(connection, *turn, *at).await,
        Write::NoteProcess(turn, process) => note_process(connection, *turn, process).await,
        Write::NoteLink(session, link) => note_link(connection, *session, link.as_deref()).await,
        Write::NoteHost(host, at) => note_host(connection, *host, *at).await,
        Write::ForgetHost(host) => forget_host(connection, *host).await,
        Write::NoteResume(session, key) => note_resume(connection, *session, key.as_deref()).await,
        Write::CloseSession(session, at) => close_session(connection, *session, *at).await,
        Write::AppendEvents(events) => append_events(connection, events).await,
        Write::EndTurn(turn, at, outcome) => end_turn(connection, *turn, *at, outcome).await,
        Write::EraseSession(session) => erase_session(connection, *session).await,
        Write::TrimLedger(before) => trim_ledger(connection, *before).await,
    }
}

type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// Runs a statement; true when it changed at least one row.
async fn changes(connection: &mut SqliteConnection, query: Query<'_>) -> Result<bool, sqlx::Error> {
    Ok(query.execute(connection).await?.rows_affected() > 0)
}

/// Runs a statement for which changing nothing is fine.
async fn ensures(connection: &mut SqliteConnection, query: Query<'_>) -> Result<bool, sqlx::Error> {
    query.execute(connection).await.map(|_| true)
}

async fn add_app(connection: &mut SqliteConnection, app: &App, at: Timestamp) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("INSERT INTO apps (id, name, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")
        .bind(app.id.to_string())
        .bind(app.name.as_str())
        .bind(at.micros());
    ensures(connection, query).await
}

async fn add_token(connection: &mut SqliteConnection, token: &AppToken) -> Result<bool, sqlx::Error> {
    let cidrs: Vec<String> = token.ip_cidrs.iter().map(ToString::to_string).collect();
    let query = sqlx::query("INSERT INTO tokens (id, app, hash, ip_cidrs, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")
        .bind(token.id.to_string())
        .bind(token.app.id.to_string())
        .bind(token.hash.as_bytes().as_slice())
        .bind(serde_json::to_string(&cidrs).map_err(no_json)?)
        .bind(token.created_at.micros());
    changes(connection, query).await
}

async fn add_agent_user(connection: &mut SqliteConnection, app: AppId, number: u32) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("INSERT INTO agent_users (app, number) VALUES (?1, ?2)");
    changes(connection, query.bind(app.to_string()).bind(number)).await
}

async fn revoke_token(connection: &mut SqliteConnection, token: TokenId, at: Timestamp) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("UPDATE tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL")
        .bind(token.to_string())
        .bind(at.micros());
    changes(connection, query).await
}

async fn add_file(connection: &mut SqliteConnection, file: &File) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO files (id, app, name, size_bytes, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(file.id.to_string())
    .bind(file.app.to_string())
    .bind(&file.name)
    .bind(integer(file.size))
    .bind(file.created_at.micros())
    .bind(file.expires_at.micros());
    changes(connection, query).await
}

async fn remove_file(connection: &mut SqliteConnection, file: FileId) -> Result<bool, sqlx::Error> {
    ensures(connection, sqlx::query("DELETE FROM files WHERE id = ?1").bind(file.to_string())).await
}

async fn open_session(connection: &mut SqliteConnection, session: &Session) -> Result<bool, sqlx::Error> {
    let chosen = session.conversation.as_ref();
    let query = sqlx::query(
        "INSERT INTO sessions (id, app, app_name, agent, kind, created_at, active_at, model, meta, driver,
                               on_context_loss, effort, isolation)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )
    .bind(session.id.to_string())
    .bind(session.app.to_string())
    .bind(&session.app_name)
    .bind(session.agent.as_str())
    .bind(session.kind())
    .bind(session.created_at.micros())
    .bind(chosen.and_then(|chosen| chosen.model.as_deref()))
    .bind(chosen.and_then(|chosen| chosen.meta.as_deref()))
    .bind(chosen.map(|chosen| chosen.driver.as_str()))
    .bind(chosen.map(|chosen| chosen.on_context_loss.as_str()))
    .bind(chosen.and_then(|chosen| chosen.effort).map(Effort::as_str))
    .bind(session.isolation.map(Isolation::as_str));
    changes(connection, query).await
}

async fn queue_turn(
    connection: &mut SqliteConnection,
    turn: &Turn,
    prompt: Option<&EventBody>,
) -> Result<bool, sqlx::Error> {
    let prompt = prompt.map(serde_json::to_string).transpose().map_err(no_json)?;
    let query = sqlx::query(
        "INSERT INTO turns (id, session, place, state, request, queued_at, timeout_us, prompt)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(turn.id.to_string())
    .bind(turn.session.to_string())
    .bind(turn.index)
    .bind(turn.state.as_str())
    .bind(turn.request.to_string())
    .bind(turn.queued_at.micros())
    .bind(i64::try_from(turn.timeout.as_micros()).unwrap_or(i64::MAX))
    .bind(prompt);
    Ok(changes(&mut *connection, query).await? && used(connection, turn.id, turn.queued_at).await?)
}

/// Notes that a conversation was in use. A run never asks for it.
async fn used(connection: &mut SqliteConnection, turn: TurnId, at: Timestamp) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "UPDATE sessions SET active_at = max(active_at, ?2)
         WHERE id = (SELECT session FROM turns WHERE id = ?1) AND kind = 'conversation'",
    );
    ensures(connection, query.bind(turn.to_string()).bind(at.micros())).await
}

async fn note_link(
    connection: &mut SqliteConnection,
    session: SessionId,
    link: Option<&str>,
) -> Result<bool, sqlx::Error> {
    ensures(connection, sqlx::query("UPDATE sessions SET link = ?2 WHERE id = ?1").bind(session.to_string()).bind(link))
        .await
}

async fn note_host(connection: &mut SqliteConnection, host: HostId, at: Timestamp) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("INSERT INTO hosts (id, created_at) VALUES (?1, ?2)").bind(host.to_string());
    changes(connection, query.bind(at.micros())).await
}

async fn forget_host(connection: &mut SqliteConnection, host: HostId) -> Result<bool, sqlx::Error> {
    ensures(connection, sqlx::query("DELETE FROM hosts WHERE id = ?1").bind(host.to_string())).await
}

async fn note_resume(
    connection: &mut SqliteConnection,
    session: SessionId,
    key: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("UPDATE sessions SET resume_key = ?2 WHERE id = ?1").bind(session.to_string()).bind(key);
    changes(connection, query).await
}

async fn close_session(
    connection: &mut SqliteConnection,
    session: SessionId,
    at: Timestamp,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("UPDATE sessions SET closed_at = ?2 WHERE id = ?1 AND closed_at IS NULL")
        .bind(session.to_string())
        .bind(at.micros());
    changes(connection, query).await
}

async fn start_turn(connection: &mut SqliteConnection, turn: TurnId, at: Timestamp) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "UPDATE turns SET state = 'running', started_at = ?2, prompt = NULL WHERE id = ?1 AND state = 'queued'",
    );
    changes(connection, query.bind(turn.to_string()).bind(at.micros())).await
}

async fn note_process(connection: &mut SqliteConnection, turn: TurnId, process: &str) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("UPDATE turns SET process = ?2 WHERE id = ?1 AND state = 'running'")
        .bind(turn.to_string())
        .bind(process);
    changes(connection, query).await
}

async fn append_events(connection: &mut SqliteConnection, events: &[Event]) -> Result<bool, sqlx::Error> {
    for of_session in events.chunk_by(|one, next| one.session == next.session) {
        let Some(first) = of_session.first() else { continue };
        let session = first.session.to_string();
        let mut head: i64 = sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM events WHERE session = ?1")
            .bind(&session)
            .fetch_one(&mut *connection)
            .await?;
        for event in of_session {
            head += 1;
            if integer(event.seq) != head {
                return Ok(false);
            }
        }
        let mut left = of_session;
        for rows in EVENTS_PER_STATEMENT {
            while let Some((now, later)) = left.split_at_checked(rows) {
                insert_events(connection, &session, now).await?;
                left = later;
            }
        }
    }
    Ok(true)
}

async fn insert_events(connection: &mut SqliteConnection, session: &str, events: &[Event]) -> Result<(), sqlx::Error> {
    let rows = vec!["(?, ?, ?, ?, ?)"; events.len()].join(", ");
    let sql = format!("INSERT INTO events (session, seq, turn, at, body) VALUES {rows}");
    // The text depends on nothing but a number.
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for event in events {
        let body = serde_json::to_string(&event.body).map_err(no_json)?;
        let (turn, at) = (event.turn.to_string(), event.at.micros());
        query = query.bind(session).bind(integer(event.seq)).bind(turn).bind(at).bind(body);
    }
    query.execute(connection).await.map(drop)
}

/// The whole outcome is in the event that the same commit appends; here lies what lists need.
async fn end_turn(
    connection: &mut SqliteConnection,
    turn: TurnId,
    at: Timestamp,
    outcome: &TurnOutcome,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "UPDATE turns SET state = 'ended', ended_at = ?2, outcome = ?3, prompt = NULL
         WHERE id = ?1 AND state <> 'ended'",
    )
    .bind(turn.to_string())
    .bind(at.micros())
    .bind(outcome.code());
    Ok(changes(&mut *connection, query).await? && used(connection, turn, at).await?)
}

async fn erase_session(connection: &mut SqliteConnection, session: SessionId) -> Result<bool, sqlx::Error> {
    let session = session.to_string();
    sqlx::query("DELETE FROM events WHERE session = ?1").bind(&session).execute(&mut *connection).await?;
    sqlx::query("DELETE FROM turns WHERE session = ?1").bind(&session).execute(&mut *connection).await?;
    ensures(connection, sqlx::query("DELETE FROM sessions WHERE id = ?1").bind(&session)).await
}

async fn trim_ledger(connection: &mut SqliteConnection, before: Timestamp) -> Result<bool, sqlx::Error> {
    let query =
        sqlx::query("DELETE FROM ledger WHERE seq IN (SELECT seq FROM ledger WHERE at < ?1 ORDER BY at, seq LIMIT ?2)");
    ensures(connection, query.bind(before.micros()).bind(integer(LEDGER_LINES_PER_TRIM_MAX as u64))).await
}

/// SQLite's integers are signed; nothing we count comes near the difference.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn no_json(error: serde_json::Error) -> sqlx::Error {
    sqlx::Error::Encode(error.into())
}
