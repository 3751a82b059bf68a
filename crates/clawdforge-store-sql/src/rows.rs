//! Rows as things of the vocabulary. A row that is none is an error that names the column.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use clawdforge_core::agent::Usage;
use clawdforge_core::app::{App, AppToken, TokenHash};
use clawdforge_core::event::{Event, EventBody};
use clawdforge_core::file::File;
use clawdforge_core::id::SessionId;
use clawdforge_core::idempotency::{Fingerprint, IdempotencyKey, KeptKey};
use clawdforge_core::isolation::Isolation;
use clawdforge_core::ledger::{LedgerLine, UsageSum};
use clawdforge_core::network::NetworkRule;
use clawdforge_core::run::{Effort, SystemMode};
use clawdforge_core::session::{Conversation, DriverName, Equipment, ForkPoint, OnContextLoss, Session, SessionRecord};
use clawdforge_core::time::Timestamp;
use clawdforge_core::turn::{Turn, TurnRecord, TurnState};
use clawdforge_store::{EndedTurn, ReadError, RunRecord, UnfinishedTurn};
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use crate::tool_servers;

/// A row of `apps`.
pub(crate) fn app(row: &SqliteRow) -> Result<App, ReadError> {
    Ok(App { id: parsed(row, "id")?, name: parsed(row, "name")? })
}

/// A row of `tokens` with `app_id` and `app_name`.
pub(crate) fn token(row: &SqliteRow) -> Result<AppToken, ReadError> {
    let hash = TokenHash::from_bytes(get(row, "hash")?).ok_or_else(|| strange("hash", "not 32 bytes"))?;
    let cidrs: Vec<String> = serde_json::from_str(get(row, "ip_cidrs")?).map_err(|e| strange("ip_cidrs", e))?;
    let ip_cidrs =
        cidrs.iter().map(|cidr| cidr.parse()).collect::<Result<_, _>>().map_err(|e| strange("ip_cidrs", e))?;
    let network: Option<&str> = get(row, "network")?;
    let rule = |text: &str| {
        let value = serde_json::from_str(text).map_err(|e| strange("network", e))?;
        NetworkRule::from_json(&value).map_err(|e| strange("network", e))
    };
    let network = network.map(rule).transpose()?;
    let app = App { id: parsed(row, "app_id")?, name: parsed(row, "app_name")? };
    Ok(AppToken {
        id: parsed(row, "id")?,
        app,
        hash,
        ip_cidrs,
        network,
        may_give_tool_servers: get::<Option<&str>>(row, "tool_servers")? != Some(tool_servers::NONE),
        created_at: time(row, "created_at")?,
    })
}

/// A row of `files`.
pub(crate) fn file(row: &SqliteRow) -> Result<File, ReadError> {
    Ok(File {
        id: parsed(row, "id")?,
        app: parsed(row, "app")?,
        name: get(row, "name")?,
        size: number(row, "size_bytes")?,
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
    })
}

/// A row of `sessions`, with its id as `session`.
pub(crate) fn session(row: &SqliteRow) -> Result<Session, ReadError> {
    let conversation = match get(row, "kind")? {
        Session::RUN => None,
        Session::CONVERSATION => Some(Conversation {
            model: get(row, "model")?,
            effort: maybe_word(row, "effort", &Effort::ALL)?,
            mode: get(row, "mode")?,
            system_mode: maybe_word(row, "system_mode", &SystemMode::ALL)?,
            tool_servers: names(row, "tool_servers")?,
            meta: get(row, "meta")?,
            driver: word(row, "driver", &DriverName::ALL)?,
            on_context_loss: word(row, "on_context_loss", &OnContextLoss::ALL)?,
            isolation_min: maybe_word(row, "isolation_min", &Isolation::WORDS)?,
        }),
        other => return Err(strange("kind", other)),
    };
    Ok(Session {
        id: parsed(row, "session")?,
        app: parsed(row, "app")?,
        app_name: get(row, "app_name")?,
        agent: parsed(row, "agent")?,
        created_at: time(row, "created_at")?,
        isolation: maybe_word(row, "isolation", &Isolation::WORDS)?,
        conversation,
    })
}

/// A list of names as JSON; nothing where there is none.
fn names(row: &SqliteRow, column: &'static str) -> Result<Vec<String>, ReadError> {
    let text: Option<&str> = get(row, column)?;
    text.map(|text| serde_json::from_str(text).map_err(|e| strange(column, e)))
        .transpose()
        .map(Option::unwrap_or_default)
}

/// A row of `sessions` with what its turns tell.
pub(crate) fn session_record(row: &SqliteRow) -> Result<SessionRecord, ReadError> {
    Ok(SessionRecord {
        session: session(row)?,
        closed_at: maybe_time(row, "closed_at")?,
        resume_key: get(row, "resume_key")?,
        turns: get::<Option<u32>>(row, "turns")?.unwrap_or(0),
        last_turn_at: maybe_time(row, "last_turn_at")?,
        forked_from: fork_point(row)?,
    })
}

/// A row of `equipment`.
pub(crate) fn equipment(row: &SqliteRow) -> Result<Equipment, ReadError> {
    let servers: Option<&str> = get(row, "tool_servers")?;
    let tool_servers = servers.map(tool_servers::from_text).transpose()?.unwrap_or_default();
    Ok(Equipment { system: get(row, "system")?, tool_servers })
}

/// Where a conversation was forked from; both columns are there or none is.
fn fork_point(row: &SqliteRow) -> Result<Option<ForkPoint>, ReadError> {
    let Some(session) = get::<Option<&str>>(row, "forked_from")? else { return Ok(None) };
    let session = session.parse().map_err(|error| strange("forked_from", error))?;
    Ok(Some(ForkPoint { session, turn_index: get(row, "forked_after")? }))
}

/// A conversation and the process tree it noted.
pub(crate) fn link(row: &SqliteRow) -> Result<(SessionId, String), ReadError> {
    Ok((parsed(row, "id")?, get(row, "link")?))
}

/// A row of `turns` joined with its session.
pub(crate) fn unfinished_turn(row: &SqliteRow) -> Result<UnfinishedTurn, ReadError> {
    let is_cancelled = maybe_time(row, "cancel_asked_at")?.is_some();
    Ok(UnfinishedTurn { session: session(row)?, turn: turn(row)?, is_cancelled, process: get(row, "process")? })
}

/// A row of `turns`.
pub(crate) fn turn_record(row: &SqliteRow) -> Result<TurnRecord, ReadError> {
    Ok(TurnRecord {
        turn: turn(row)?,
        started_at: maybe_time(row, "started_at")?,
        ended_at: maybe_time(row, "ended_at")?,
        outcome: get(row, "outcome")?,
        cancel_asked_at: maybe_time(row, "cancel_asked_at")?,
    })
}

/// A row of `sessions` joined with its one turn.
pub(crate) fn run(row: &SqliteRow) -> Result<RunRecord, ReadError> {
    Ok(RunRecord { session: session(row)?, turn: turn_record(row)? })
}

/// The prompt that is kept with a turn.
pub(crate) fn prompt(row: &SqliteRow) -> Result<EventBody, ReadError> {
    serde_json::from_str(get(row, "prompt")?).map_err(|error| strange("prompt", error))
}

/// A row of `turns` that has an end.
pub(crate) fn ended_turn(row: &SqliteRow) -> Result<EndedTurn, ReadError> {
    Ok(EndedTurn { turn: parsed(row, "id")?, process: get(row, "process")? })
}

fn turn(row: &SqliteRow) -> Result<Turn, ReadError> {
    let state = match get(row, "state")? {
        "queued" => TurnState::Queued,
        "running" => TurnState::Running,
        "ended" => TurnState::Ended,
        other => return Err(strange("state", other)),
    };
    Ok(Turn {
        id: parsed(row, "turn")?,
        session: parsed(row, "session")?,
        index: get(row, "place")?,
        state,
        request: parsed(row, "request")?,
        queued_at: time(row, "queued_at")?,
        timeout: Duration::from_micros(number(row, "timeout_us")?),
    })
}

/// A row of `events`.
pub(crate) fn event(row: &SqliteRow) -> Result<Event, ReadError> {
    Ok(Event {
        session: parsed(row, "session")?,
        seq: number(row, "seq")?,
        turn: parsed(row, "turn")?,
        at: time(row, "at")?,
        body: serde_json::from_str(get(row, "body")?).map_err(|error| strange("body", error))?,
    })
}

/// The number of an event.
pub(crate) fn seq(row: &SqliteRow) -> Result<u64, ReadError> {
    number(row, "seq")
}

/// A row of `idempotency_keys`.
pub(crate) fn kept_key(row: &SqliteRow) -> Result<KeptKey, ReadError> {
    let fingerprint = Fingerprint::from_bytes(get(row, "fingerprint")?);
    let fingerprint = fingerprint.ok_or_else(|| strange("fingerprint", "not 32 bytes"))?;
    Ok(KeptKey {
        app: parsed(row, "app")?,
        key: IdempotencyKey { key: get(row, "key")?, fingerprint },
        subject: get(row, "subject")?,
        at: time(row, "at")?,
    })
}

/// A row of `ledger`.
pub(crate) fn ledger_line(row: &SqliteRow) -> Result<LedgerLine, ReadError> {
    Ok(LedgerLine {
        seq: number(row, "seq")?,
        at: time(row, "at")?,
        kind: get(row, "kind")?,
        principal: get(row, "principal")?,
        app: get(row, "app")?,
        request_id: get(row, "request_id")?,
        subject: get(row, "subject")?,
        agent: get(row, "agent")?,
        model_asked: get(row, "model_asked")?,
        usage: Usage {
            model: get(row, "model_used")?,
            input_tokens: maybe_number(row, "input_tokens")?,
            output_tokens: maybe_number(row, "output_tokens")?,
            cache_read_tokens: maybe_number(row, "cache_read_tokens")?,
            cache_write_tokens: maybe_number(row, "cache_write_tokens")?,
            cost_usd: get(row, "cost_usd")?,
        },
        prompt_chars: maybe_number(row, "prompt_chars")?,
        answer_chars: maybe_number(row, "answer_chars")?,
        size: maybe_number(row, "size_bytes")?,
        duration_ms: maybe_number(row, "duration_ms")?,
        outcome: get(row, "outcome")?,
        isolation: get(row, "isolation")?,
        count: maybe_number(row, "count")?,
    })
}

/// What lines of `ledger` come to.
pub(crate) fn usage_sum(row: &SqliteRow) -> Result<UsageSum, ReadError> {
    Ok(UsageSum {
        runs: number(row, "runs")?,
        turns: number(row, "turns")?,
        input_tokens: number(row, "input_tokens")?,
        output_tokens: number(row, "output_tokens")?,
        cache_read_tokens: number(row, "cache_read_tokens")?,
        cache_write_tokens: number(row, "cache_write_tokens")?,
        cost_usd: get(row, "cost_usd")?,
    })
}

/// A text column that holds the shown form of something.
pub(crate) fn parsed<T>(row: &SqliteRow, column: &'static str) -> Result<T, ReadError>
where
    T: FromStr,
    T::Err: Display,
{
    get::<&str>(row, column)?.parse().map_err(|error| strange(column, error))
}

fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, ReadError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    // The error names the column.
    row.try_get(column).map_err(|error| ReadError(error.to_string()))
}

fn number(row: &SqliteRow, column: &'static str) -> Result<u64, ReadError> {
    u64::try_from(get::<i64>(row, column)?).map_err(|error| strange(column, error))
}

fn maybe_number(row: &SqliteRow, column: &'static str) -> Result<Option<u64>, ReadError> {
    get::<Option<i64>>(row, column)?.map(u64::try_from).transpose().map_err(|error| strange(column, error))
}

fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp, ReadError> {
    get(row, column).map(Timestamp::from_micros)
}

fn maybe_time(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>, ReadError> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_micros))
}

/// A number of `agent_users`.
pub(crate) fn agent_user(row: &SqliteRow) -> Result<u32, ReadError> {
    get(row, "number")
}

/// A value that is stored by its name.
fn word<T: Copy>(row: &SqliteRow, column: &'static str, words: &[(&str, T)]) -> Result<T, ReadError> {
    named(column, get(row, column)?, words)
}

/// As [`word`], or nothing.
fn maybe_word<T: Copy>(row: &SqliteRow, column: &'static str, words: &[(&str, T)]) -> Result<Option<T>, ReadError> {
    get::<Option<&str>>(row, column)?.map(|name| named(column, name, words)).transpose()
}

fn named<T: Copy>(column: &'static str, name: &str, words: &[(&str, T)]) -> Result<T, ReadError> {
    let found = words.iter().find(|(word, _)| *word == name);
    found.map(|(_, value)| *value).ok_or_else(|| strange(column, name))
}

fn strange(column: &'static str, what: impl Display) -> ReadError {
    ReadError(format!("column `{column}` holds something else than this version writes: {what}"))
}
