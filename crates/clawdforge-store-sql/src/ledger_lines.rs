//! Ledger entries as flat lines.

use clawdforge_core::agent::Usage;
use clawdforge_core::ledger::{LedgerEntry, LedgerFact, RunFacts};
use sqlx::SqliteConnection;

use crate::writes::integer;

/// Appends a line; SQLite numbers it.
pub(crate) async fn append_line(connection: &mut SqliteConnection, entry: &LedgerEntry) -> Result<(), sqlx::Error> {
    let columns = Columns::of(&entry.fact);
    let usage = columns.usage;
    sqlx::query(
        "INSERT INTO ledger (at, kind, principal, app, request_id, subject, agent, model_asked, model_used,
                             input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd,
                             prompt_chars, answer_chars, size_bytes, duration_ms, outcome)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
    )
    .bind(entry.at.micros())
    .bind(entry.fact.kind())
    .bind(entry.principal)
    .bind(&entry.app)
    .bind(entry.request.map(|request| request.to_string()))
    .bind(columns.subject)
    .bind(columns.run.map(|run| run.agent.as_str()))
    .bind(columns.run.map(|run| run.model.as_str()))
    .bind(usage.and_then(|usage| usage.model.as_deref()))
    .bind(usage.and_then(|usage| usage.input_tokens).map(integer))
    .bind(usage.and_then(|usage| usage.output_tokens).map(integer))
    .bind(usage.and_then(|usage| usage.cache_read_tokens).map(integer))
    .bind(usage.and_then(|usage| usage.cache_write_tokens).map(integer))
    .bind(usage.and_then(|usage| usage.cost_usd))
    .bind(columns.run.map(|run| integer(run.prompt_chars)))
    .bind(columns.answer_chars.map(integer))
    .bind(columns.size.map(integer))
    .bind(columns.duration_ms.map(integer))
    .bind(columns.outcome)
    .execute(connection)
    .await
    .map(drop)
}

/// What a fact puts into the columns that only some kinds of line have.
struct Columns<'a> {
    subject: String,
    run: Option<&'a RunFacts>,
    usage: Option<&'a Usage>,
    answer_chars: Option<u64>,
    size: Option<u64>,
    duration_ms: Option<u64>,
    outcome: Option<&'static str>,
}

impl<'a> Columns<'a> {
    fn about(subject: impl ToString) -> Self {
        Self {
            subject: subject.to_string(),
            run: None,
            usage: None,
            answer_chars: None,
            size: None,
            duration_ms: None,
            outcome: None,
        }
    }

    fn of(fact: &'a LedgerFact) -> Self {
        match fact {
            LedgerFact::TokenMinted(token) | LedgerFact::TokenRevoked(token) => Self::about(token),
            LedgerFact::FileUploaded { file, size } => Self { size: Some(*size), ..Self::about(file) },
            LedgerFact::FileErased(file) => Self::about(file),
            LedgerFact::RunAccepted(run) => Self { run: Some(run), ..Self::about(run.run) },
            LedgerFact::RunEnded { run, usage, answer_chars, duration_ms, outcome } => Self {
                run: Some(run),
                usage: Some(usage),
                answer_chars: Some(*answer_chars),
                duration_ms: Some(*duration_ms),
                outcome: Some(outcome),
                ..Self::about(run.run)
            },
            LedgerFact::RunErased(run) => Self::about(run),
        }
    }
}
