//! From the vocabulary to the shapes of `/v1`.

use clawdforge_api::v1;
use clawdforge_core::agent::Usage;
use clawdforge_core::app::AppToken;
use clawdforge_core::event::{Event, EventBody, TurnOutcome};
use clawdforge_core::file::File;
use clawdforge_core::id::RunId;
use clawdforge_core::ledger::UsageSum;
use clawdforge_core::limits::STDERR_SHOWN_BYTES_MAX;
use clawdforge_core::network::NetworkRule;
use clawdforge_core::output::Violation;
use clawdforge_core::session::Session;
use clawdforge_core::time::Timestamp;
use clawdforge_core::turn::TurnRecord;
use clawdforge_engine::{RunView, SessionView, TurnView};

use crate::legacy;

pub(super) fn session(view: SessionView) -> v1::Session {
    let SessionView { record, is_warm } = view;
    let session = record.session;
    let chosen = session.conversation.as_ref();
    v1::Session {
        id: session.id.to_string(),
        state: if record.closed_at.is_none() { "open" } else { "closed" }.to_owned(),
        agent: session.agent.to_string(),
        driver: chosen.map(|chosen| chosen.driver.as_str().to_owned()),
        model: chosen.and_then(|chosen| chosen.model.clone()),
        effort: chosen.and_then(|chosen| chosen.effort).map(|effort| effort.as_str().to_owned()),
        mode: chosen.and_then(|chosen| chosen.mode.clone()),
        system_mode: chosen.and_then(|chosen| chosen.system_mode).map(|mode| mode.as_str().to_owned()),
        mcp_servers: chosen.map(|chosen| chosen.tool_servers.clone()).unwrap_or_default(),
        // It was an object when it was taken.
        meta: chosen.and_then(|chosen| serde_json::from_str(chosen.meta.as_ref()?).ok()),
        on_context_loss: chosen.map(|chosen| chosen.on_context_loss.as_str().to_owned()),
        isolation: isolation(&session),
        warm: is_warm,
        turns: record.turns,
        created_at: session.created_at.to_string(),
        last_turn_at: record.last_turn_at.map(|at| at.to_string()),
        closed_at: record.closed_at.map(|at| at.to_string()),
        forked_from: record
            .forked_from
            .map(|from| v1::ForkPoint { session_id: from.session.to_string(), turn_index: from.turn_index }),
    }
}

pub(super) fn turn(TurnView { record, outcome: result }: TurnView) -> v1::Turn {
    v1::Turn { progress: progress(&record, result), ..listed_turn(record) }
}

/// A turn of a page, without what came of it.
pub(super) fn listed_turn(record: TurnRecord) -> v1::Turn {
    v1::Turn {
        id: record.turn.id.to_string(),
        session_id: record.turn.session.to_string(),
        index: record.turn.index,
        progress: progress(&record, None),
    }
}

pub(super) fn run(RunView { session, turn }: RunView) -> v1::Run {
    v1::Run { progress: progress(&turn.record, turn.outcome), ..listed_run(&session, &turn.record) }
}

/// A run of a page, without what came of it.
pub(super) fn listed_run(session: &Session, record: &TurnRecord) -> v1::Run {
    v1::Run {
        id: RunId::from(session.id).to_string(),
        agent: session.agent.to_string(),
        isolation: isolation(session),
        progress: progress(record, None),
    }
}

fn isolation(session: &Session) -> Option<String> {
    session.isolation.map(|level| level.as_str().to_owned())
}

fn progress(record: &TurnRecord, result: Option<TurnOutcome>) -> v1::Progress {
    v1::Progress {
        state: record.turn.state.as_str().to_owned(),
        outcome: record.outcome.clone(),
        queued_at: record.turn.queued_at.to_string(),
        started_at: record.started_at.map(|at| at.to_string()),
        ended_at: record.ended_at.map(|at| at.to_string()),
        cancel_asked_at: record.cancel_asked_at.map(|at| at.to_string()),
        result: result.map(outcome),
    }
}

fn outcome(outcome: TurnOutcome) -> v1::Outcome {
    let TurnOutcome { answer, output, stop_reason, failure, stderr, duration_ms, usage, .. } = outcome;
    let failure = failure.map(|failure| v1::Failure {
        code: failure.kind.code().to_owned(),
        message: failure.message,
        violations: failure.violations.into_iter().map(violation).collect(),
        stderr: shown_stderr(&stderr).to_owned(),
    });
    v1::Outcome { answer, output, stop_reason, failure, duration_ms, usage: used(usage) }
}

fn violation(Violation { path, message }: Violation) -> v1::Violation {
    v1::Violation { path, message }
}

/// The end of what an agent wrote to its error stream, as much as a caller gets to see.
fn shown_stderr(stderr: &str) -> &str {
    &stderr[stderr.ceil_char_boundary(stderr.len().saturating_sub(STDERR_SHOWN_BYTES_MAX))..]
}

fn used(usage: Usage) -> v1::Usage {
    let Usage { model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd } = usage;
    v1::Usage { model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd }
}

pub(super) fn event(event: &Event) -> v1::Event {
    let mut body = event.body.clone();
    if let EventBody::Ended(outcome) = &mut body {
        outcome.stderr = shown_stderr(&outcome.stderr).to_owned();
    }
    v1::Event { seq: event.seq, at: event.at.to_string(), turn_id: event.turn.to_string(), body }
}

pub(super) fn file(file: &File) -> v1::File {
    v1::File {
        id: file.id.to_string(),
        name: file.name.clone(),
        size_bytes: file.size,
        created_at: file.created_at.to_string(),
        expires_at: file.expires_at.to_string(),
    }
}

pub(super) fn token(token: &AppToken) -> v1::Token {
    v1::Token {
        name: token.app.name.to_string(),
        ip_cidrs: legacy::tokens::texts(&token.ip_cidrs),
        network: token.network.as_ref().map(NetworkRule::to_json),
        mcp_servers: if token.may_give_tool_servers { "any" } else { "none" }.to_owned(),
        created_at: token.created_at.to_string(),
    }
}

pub(super) fn usage_sum(sum: &UsageSum, from: Option<Timestamp>, to: Option<Timestamp>) -> v1::UsageSum {
    v1::UsageSum {
        from: from.map(|at| at.to_string()),
        to: to.map(|at| at.to_string()),
        runs: sum.runs,
        turns: sum.turns,
        input_tokens: sum.input_tokens,
        output_tokens: sum.output_tokens,
        cache_read_tokens: sum.cache_read_tokens,
        cache_write_tokens: sum.cache_write_tokens,
        cost_usd: sum.cost_usd,
    }
}

#[cfg(test)]
mod tests {
    use clawdforge_core::id::{SessionId, TurnId};

    use super::*;

    #[test]
    fn an_event_shows_as_much_of_an_error_stream_as_an_outcome_does() {
        let stderr = format!("{}\u{e9}{}", "s".repeat(STDERR_SHOWN_BYTES_MAX), "x".repeat(STDERR_SHOWN_BYTES_MAX - 1));
        let ended = TurnOutcome {
            answer: None,
            output: None,
            stop_reason: None,
            failure: None,
            stderr,
            duration_ms: 0,
            usage: Usage::default(),
            events_dropped: 0,
        };
        let shown = event(&Event {
            session: SessionId::from_u128(1),
            seq: 1,
            turn: TurnId::from_u128(2),
            at: Timestamp::from_micros(0),
            body: EventBody::Ended(ended),
        });
        let EventBody::Ended(outcome) = shown.body else { panic!("it is an end") };
        assert_eq!(outcome.stderr, "x".repeat(STDERR_SHOWN_BYTES_MAX - 1), "no half of a character");
    }
}
