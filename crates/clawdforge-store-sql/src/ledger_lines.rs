//! Ledger entries as flat lines.

use clawdforge_core::agent::Usage;
use clawdforge_core::isolation::Isolation;
use clawdforge_core::ledger::{FailedSignIns, LedgerEntry, LedgerFact, RunFacts, TurnFacts};

use crate::batch::Batch;
use crate::writes::integer;

/// Appends a line; SQLite numbers it.
pub(crate) fn add_line(batch: &mut Batch, entry: &LedgerEntry) {
    let columns = Columns::of(&entry.fact);
    let usage = columns.usage;
    batch
        .add(
            "INSERT INTO ledger (at, kind, principal, app, request_id, subject, agent, model_asked, model_used,
                             input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd,
                             prompt_chars, answer_chars, size_bytes, duration_ms, outcome, isolation, count)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(entry.at.micros())
        .bind(entry.fact.kind())
        .bind(entry.principal)
        .bind(&entry.app)
        .bind(entry.request.map(|request| request.to_string()))
        .bind(columns.subject)
        .bind(columns.asked.map(|asked| asked.0))
        .bind(columns.asked.and_then(|asked| asked.1))
        .bind(usage.and_then(|usage| usage.model.as_deref()))
        .bind(usage.and_then(|usage| usage.input_tokens).map(integer))
        .bind(usage.and_then(|usage| usage.output_tokens).map(integer))
        .bind(usage.and_then(|usage| usage.cache_read_tokens).map(integer))
        .bind(usage.and_then(|usage| usage.cache_write_tokens).map(integer))
        .bind(usage.and_then(|usage| usage.cost_usd))
        .bind(columns.prompt_chars.map(integer))
        .bind(columns.answer_chars.map(integer))
        .bind(columns.size.map(integer))
        .bind(columns.duration_ms.map(integer))
        .bind(columns.outcome)
        .bind(columns.isolation.map(Isolation::as_str))
        .bind(columns.count.map(integer));
}

/// What a fact puts into the columns that only some kinds of line have.
struct Columns<'a> {
    subject: String,
    /// The agent and, unless it was left to it, the model.
    asked: Option<(&'a str, Option<&'a str>)>,
    prompt_chars: Option<u64>,
    usage: Option<&'a Usage>,
    answer_chars: Option<u64>,
    size: Option<u64>,
    duration_ms: Option<u64>,
    outcome: Option<&'static str>,
    isolation: Option<Isolation>,
    count: Option<u64>,
}

impl<'a> Columns<'a> {
    fn about(subject: impl ToString) -> Self {
        Self {
            subject: subject.to_string(),
            asked: None,
            prompt_chars: None,
            usage: None,
            answer_chars: None,
            size: None,
            duration_ms: None,
            outcome: None,
            isolation: None,
            count: None,
        }
    }

    fn of_run(run: &'a RunFacts) -> Self {
        let asked = Some((run.agent.as_str(), Some(run.model.as_str())));
        Self { asked, prompt_chars: Some(run.prompt_chars), isolation: run.isolation, ..Self::about(run.run) }
    }

    fn of_turn(turn: &'a TurnFacts) -> Self {
        let asked = Some((turn.asked.agent.as_str(), turn.asked.model.as_deref()));
        let subject = format!("{}#{}", turn.session, turn.index);
        Self { asked, prompt_chars: Some(turn.prompt_chars), isolation: turn.asked.isolation, ..Self::about(subject) }
    }

    fn of(fact: &'a LedgerFact) -> Self {
        match fact {
            LedgerFact::TokenMinted(token) | LedgerFact::TokenRevoked(token) => Self::about(token),
            LedgerFact::FileUploaded { file, size } => Self { size: Some(*size), ..Self::about(file) },
            LedgerFact::FileErased(file) => Self::about(file),
            LedgerFact::RunAccepted(run) => Self::of_run(run),
            LedgerFact::RunEnded { run, usage, answer_chars, duration_ms, outcome } => Self {
                usage: Some(usage),
                answer_chars: Some(*answer_chars),
                duration_ms: Some(*duration_ms),
                outcome: Some(outcome),
                ..Self::of_run(run)
            },
            LedgerFact::RunErased(run) => Self::about(run),
            LedgerFact::SessionCreated(session, asked) | LedgerFact::SessionForked(session, asked) => Self {
                asked: Some((&asked.agent, asked.model.as_deref())),
                isolation: asked.isolation,
                ..Self::about(session)
            },
            LedgerFact::TurnAccepted(turn) => Self::of_turn(turn),
            LedgerFact::TurnEnded { turn, usage, answer_chars, duration_ms, outcome } => Self {
                usage: Some(usage),
                answer_chars: Some(*answer_chars),
                duration_ms: Some(*duration_ms),
                outcome: Some(outcome),
                ..Self::of_turn(turn)
            },
            LedgerFact::CancelAsked(subject) => Self::about(subject),
            LedgerFact::SessionChanged(session)
            | LedgerFact::SessionClosed(session)
            | LedgerFact::SessionSwept(session) => Self::about(session),
            LedgerFact::SessionErased { session, agent_forgot } => {
                Self { outcome: (!agent_forgot).then_some("agent_records_left"), ..Self::about(session) }
            }
            LedgerFact::SignInsFailed(FailedSignIns { from, door, count, duration }) => Self {
                duration_ms: Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
                outcome: Some(door.outcome()),
                count: Some(*count),
                ..Self::about(from)
            },
        }
    }
}
