//! Every durable change as SQL.
//!
//! A change that moves something forward (a turn, a token's life) is refused when it is not where
//! the change begins. One that makes something be there no more succeeds when it was not there. Rows
//! that do not fit those that are there (twice the same id, no such app) are refused, too.

use clawdforge_core::app::{App, AppToken};
use clawdforge_core::commit::Write;
use clawdforge_core::event::{Event, EventBody, TurnOutcome};
use clawdforge_core::file::File;
use clawdforge_core::id::{AppId, FileId, HostId, SessionId, TokenId, TurnId};
use clawdforge_core::idempotency::KeptKey;
use clawdforge_core::isolation::Isolation;
use clawdforge_core::limits::LEDGER_LINES_PER_TRIM_MAX;
use clawdforge_core::run::{Effort, SystemMode};
use clawdforge_core::session::{Conversation, Equipment, ForkPoint, Session};
use clawdforge_core::time::Timestamp;
use clawdforge_core::turn::Turn;

use crate::batch::Batch;
use crate::tool_servers;

/// How many events one statement inserts, the greatest first. Each statement is kept prepared, so there are few.
const EVENTS_PER_STATEMENT: [usize; 5] = [64, 16, 4, 2, 1];

/// From how many events on a statement goes alone, so that the rest of a commit keeps to a few shapes.
const EVENTS_ALONE_MIN: usize = 4;

/// Adds what makes one change, and what must be there for it.
pub(crate) fn add_write(batch: &mut Batch, write: &Write) {
    match write {
        Write::AddApp(app, at) => add_app(batch, app, *at),
        Write::AddToken(token) => add_token(batch, token),
        Write::AddAgentUser(app, number) => add_agent_user(batch, *app, *number),
        Write::RevokeToken(token, at) => revoke_token(batch, *token, *at),
        Write::AddFile(file) => add_file(batch, file),
        Write::RemoveFile(file) => remove_file(batch, *file),
        Write::OpenSession(session) => open_session(batch, session),
        Write::EquipSession(session, equipment) => equip_session(batch, *session, equipment),
        Write::QueueTurn(turn, prompt) => queue_turn(batch, turn, prompt.as_ref()),
        Write::StartTurn(turn, at) => start_turn(batch, *turn, *at),
        Write::NoteProcess(turn, process) => note_process(batch, *turn, process),
        Write::NoteLink(session, link) => note_link(batch, *session, link.as_deref()),
        Write::NoteHost(host, at) => note_host(batch, *host, *at),
        Write::ForgetHost(host) => forget_host(batch, *host),
        Write::NoteResume(session, key) => note_resume(batch, *session, key.as_deref()),
        Write::NoteFork(session, from) => note_fork(batch, *session, from),
        Write::ChangeConversation(session, chosen) => change_conversation(batch, *session, chosen),
        Write::CloseSession(session, at) => close_session(batch, *session, *at),
        Write::KeepKey(kept) => keep_key(batch, kept),
        Write::TrimKeys(before) => trim_keys(batch, *before),
        Write::AppendEvents(events) => append_events(batch, events),
        Write::AskCancel(turn, at) => ask_cancel(batch, *turn, *at),
        Write::EndTurn(turn, at, outcome) => end_turn(batch, *turn, *at, outcome),
        Write::EraseSession(session) => erase_session(batch, *session),
        Write::TrimLedger(before) => trim_ledger(batch, *before),
    }
}

fn add_app(batch: &mut Batch, app: &App, at: Timestamp) {
    batch
        .add("INSERT INTO apps (id, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(app.id.to_string())
        .bind(app.name.as_str())
        .bind(at.micros());
}

fn add_token(batch: &mut Batch, token: &AppToken) {
    let cidrs: Vec<String> = token.ip_cidrs.iter().map(ToString::to_string).collect();
    batch
        .add("INSERT INTO tokens (id, app, hash, ip_cidrs, created_at, network, tool_servers) VALUES (?, ?, ?, ?, ?, ?, ?)")
        .bind(token.id.to_string())
        .bind(token.app.id.to_string())
        .bind(token.hash.as_bytes().as_slice())
        .bind_json(serde_json::to_string(&cidrs))
        .bind(token.created_at.micros())
        .bind(token.network.as_ref().map(|rule| rule.to_json().to_string()))
        .bind((!token.may_give_tool_servers).then_some(tool_servers::NONE));
}

fn add_agent_user(batch: &mut Batch, app: AppId, number: u32) {
    batch.add("INSERT INTO agent_users (app, number) VALUES (?, ?)").bind(app.to_string()).bind(number);
}

fn revoke_token(batch: &mut Batch, token: TokenId, at: Timestamp) {
    batch
        .add("UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL")
        .bind(at.micros())
        .bind(token.to_string())
        .must_change();
}

fn add_file(batch: &mut Batch, file: &File) {
    batch
        .add("INSERT INTO files (id, app, name, size_bytes, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(file.id.to_string())
        .bind(file.app.to_string())
        .bind(&file.name)
        .bind(integer(file.size))
        .bind(file.created_at.micros())
        .bind(file.expires_at.micros());
}

fn remove_file(batch: &mut Batch, file: FileId) {
    batch.add("DELETE FROM files WHERE id = ?").bind(file.to_string());
}

fn open_session(batch: &mut Batch, session: &Session) {
    let chosen = session.conversation.as_ref();
    let names = chosen.map(|chosen| &chosen.tool_servers).filter(|names| !names.is_empty());
    batch
        .add(
            "INSERT INTO sessions (id, app, app_name, agent, kind, created_at, active_at, model, meta, driver,
                                   on_context_loss, effort, isolation, isolation_min, mode, system_mode,
                                   tool_servers)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(session.id.to_string())
        .bind(session.app.to_string())
        .bind(&session.app_name)
        .bind(session.agent.as_str())
        .bind(session.kind())
        .bind(session.created_at.micros())
        .bind(session.created_at.micros())
        .bind(chosen.and_then(|chosen| chosen.model.as_deref()))
        .bind(chosen.and_then(|chosen| chosen.meta.as_deref()))
        .bind(chosen.map(|chosen| chosen.driver.as_str()))
        .bind(chosen.map(|chosen| chosen.on_context_loss.as_str()))
        .bind(chosen.and_then(|chosen| chosen.effort).map(Effort::as_str))
        .bind(session.isolation.map(Isolation::as_str))
        .bind(chosen.and_then(|chosen| chosen.isolation_min).map(Isolation::as_str))
        .bind(chosen.and_then(|chosen| chosen.mode.as_deref()))
        .bind(chosen.and_then(|chosen| chosen.system_mode).map(SystemMode::as_str))
        .bind_json(names.map(serde_json::to_string).transpose());
}

fn equip_session(batch: &mut Batch, session: SessionId, equipment: &Equipment) {
    let servers = Some(equipment.tool_servers.as_slice()).filter(|servers| !servers.is_empty());
    batch
        .add("INSERT INTO equipment (session, system, tool_servers) VALUES (?, ?, ?)")
        .bind(session.to_string())
        .bind(equipment.system.as_deref())
        .bind_json(servers.map(tool_servers::to_text).transpose());
}

fn queue_turn(batch: &mut Batch, turn: &Turn, prompt: Option<&EventBody>) {
    batch
        .add(
            "INSERT INTO turns (id, session, place, state, request, queued_at, timeout_us, prompt)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(turn.id.to_string())
        .bind(turn.session.to_string())
        .bind(turn.index)
        .bind(turn.state.as_str())
        .bind(turn.request.to_string())
        .bind(turn.queued_at.micros())
        .bind(i64::try_from(turn.timeout.as_micros()).unwrap_or(i64::MAX))
        .bind_json(prompt.map(serde_json::to_string).transpose());
    used(batch, turn.id, turn.queued_at);
}

/// Notes that a conversation was in use. A run never asks for it.
fn used(batch: &mut Batch, turn: TurnId, at: Timestamp) {
    batch
        .add(
            "UPDATE sessions SET active_at = max(active_at, ?)
             WHERE id = (SELECT session FROM turns WHERE id = ?) AND kind = 'conversation'",
        )
        .bind(at.micros())
        .bind(turn.to_string());
}

fn note_link(batch: &mut Batch, session: SessionId, link: Option<&str>) {
    batch.add("UPDATE sessions SET link = ? WHERE id = ?").bind(link).bind(session.to_string());
}

fn note_host(batch: &mut Batch, host: HostId, at: Timestamp) {
    batch.add("INSERT INTO hosts (id, created_at) VALUES (?, ?)").bind(host.to_string()).bind(at.micros());
}

fn forget_host(batch: &mut Batch, host: HostId) {
    batch.add("DELETE FROM hosts WHERE id = ?").bind(host.to_string());
}

fn note_resume(batch: &mut Batch, session: SessionId, key: Option<&str>) {
    batch.add("UPDATE sessions SET resume_key = ? WHERE id = ?").bind(key).bind(session.to_string()).must_change();
}

fn note_fork(batch: &mut Batch, session: SessionId, from: &ForkPoint) {
    batch
        .add("UPDATE sessions SET forked_from = ?, forked_after = ? WHERE id = ? AND forked_from IS NULL")
        .bind(from.session.to_string())
        .bind(from.turn_index)
        .bind(session.to_string())
        .must_change();
}

fn change_conversation(batch: &mut Batch, session: SessionId, chosen: &Conversation) {
    batch
        .add("UPDATE sessions SET model = ?, effort = ?, mode = ?, meta = ? WHERE id = ? AND kind = 'conversation'")
        .bind(chosen.model.as_deref())
        .bind(chosen.effort.map(Effort::as_str))
        .bind(chosen.mode.as_deref())
        .bind(chosen.meta.as_deref())
        .bind(session.to_string())
        .must_change();
}

fn close_session(batch: &mut Batch, session: SessionId, at: Timestamp) {
    batch
        .add("UPDATE sessions SET closed_at = ? WHERE id = ? AND closed_at IS NULL")
        .bind(at.micros())
        .bind(session.to_string())
        .must_change();
}

fn start_turn(batch: &mut Batch, turn: TurnId, at: Timestamp) {
    batch
        .add("UPDATE turns SET state = 'running', started_at = ?, prompt = NULL WHERE id = ? AND state = 'queued'")
        .bind(at.micros())
        .bind(turn.to_string())
        .must_change();
}

fn note_process(batch: &mut Batch, turn: TurnId, process: &str) {
    batch
        .add("UPDATE turns SET process = ? WHERE id = ? AND state = 'running'")
        .bind(process)
        .bind(turn.to_string())
        .must_change();
}

/// The first time counts.
fn ask_cancel(batch: &mut Batch, turn: TurnId, at: Timestamp) {
    batch
        .add("UPDATE turns SET cancel_asked_at = coalesce(cancel_asked_at, ?) WHERE id = ?")
        .bind(at.micros())
        .bind(turn.to_string())
        .must_change();
}

fn keep_key(batch: &mut Batch, kept: &KeptKey) {
    batch
        .add("INSERT INTO idempotency_keys (app, key, fingerprint, subject, at) VALUES (?, ?, ?, ?, ?)")
        .bind(kept.app.to_string())
        .bind(&kept.key.key)
        .bind(kept.key.fingerprint.as_bytes().as_slice())
        .bind(&kept.subject)
        .bind(kept.at.micros());
}

fn trim_keys(batch: &mut Batch, before: Timestamp) {
    batch.add("DELETE FROM idempotency_keys WHERE at < ?").bind(before.micros());
}

fn append_events(batch: &mut Batch, events: &[Event]) {
    for of_session in events.chunk_by(|one, next| one.session == next.session) {
        let Some(first) = of_session.first() else { continue };
        if of_session.windows(2).any(|two| matches!(two, [one, next] if next.seq != one.seq + 1)) {
            batch.must("false");
            return;
        }
        let session = first.session.to_string();
        batch
            .must("(SELECT coalesce(max(seq), 0) = ? FROM events WHERE session = ?)")
            .bind(integer(first.seq) - 1)
            .bind(&session);
        let mut left = of_session;
        for rows in EVENTS_PER_STATEMENT {
            while let Some((now, later)) = left.split_at_checked(rows) {
                insert_events(batch, &session, now);
                left = later;
            }
        }
    }
}

fn insert_events(batch: &mut Batch, session: &str, events: &[Event]) {
    let rows = vec!["(?, ?, ?, ?, ?)"; events.len()].join(", ");
    let sql = format!("INSERT INTO events (session, seq, turn, at, body) VALUES {rows}");
    let statement = match events.len() {
        EVENTS_ALONE_MIN.. => batch.add_alone(&sql),
        _ => batch.add(&sql),
    };
    for event in events {
        statement
            .bind(session)
            .bind(integer(event.seq))
            .bind(event.turn.to_string())
            .bind(event.at.micros())
            .bind_json(serde_json::to_string(&event.body));
    }
}

/// The whole outcome is in the event that the same commit appends; here lies what lists need.
fn end_turn(batch: &mut Batch, turn: TurnId, at: Timestamp, outcome: &TurnOutcome) {
    batch
        .add(
            "UPDATE turns SET state = 'ended', ended_at = ?, outcome = ?, prompt = NULL
             WHERE id = ? AND state <> 'ended'",
        )
        .bind(at.micros())
        .bind(outcome.code())
        .bind(turn.to_string())
        .must_change();
    used(batch, turn, at);
}

fn erase_session(batch: &mut Batch, session: SessionId) {
    let session = session.to_string();
    batch.add("DELETE FROM events WHERE session = ?").bind(&session);
    batch.add("DELETE FROM turns WHERE session = ?").bind(&session);
    batch.add("DELETE FROM equipment WHERE session = ?").bind(&session);
    batch.add("DELETE FROM sessions WHERE id = ?").bind(&session);
}

fn trim_ledger(batch: &mut Batch, before: Timestamp) {
    batch
        .add("DELETE FROM ledger WHERE seq IN (SELECT seq FROM ledger WHERE at < ? ORDER BY at, seq LIMIT ?)")
        .bind(before.micros())
        .bind(integer(LEDGER_LINES_PER_TRIM_MAX as u64));
}

/// SQLite's integers are signed; nothing we count comes near the difference.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
