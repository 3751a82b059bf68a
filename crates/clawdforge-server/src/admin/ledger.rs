//! `GET /admin/ledger`: who did what and what it cost, in pages.

use axum::Json;
use axum::extract::{Query, State};
use clawdforge_api::admin::{LedgerEntry, LedgerPage};
use clawdforge_core::ledger::{LedgerLine, LedgerQuery, Order};
use clawdforge_core::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};

use crate::App;
use crate::answer::Refusal;
use crate::extract::ByOperator;
use crate::validate::Fields;

const FIELDS: [&str; 5] = ["app", "kind", "order", "cursor", "limit"];

/// More than an app or a kind may be called.
const FILTER_BYTES_MAX: usize = 128;

/// A page of the ledger.
pub(crate) async fn page(
    State(app): State<App>,
    _by: ByOperator,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Json<LedgerPage>, Refusal> {
    let query = read(parameters)?;
    let limit = query.limit;
    let lines = app.engine.ledger(query).await?;
    let next_cursor = if lines.len() == limit { lines.last().map(|line| line.seq) } else { None };
    Ok(Json(LedgerPage { ok: true, entries: lines.into_iter().map(entry).collect(), next_cursor }))
}

fn read(parameters: Vec<(String, String)>) -> Result<LedgerQuery, Refusal> {
    let mut fields = Fields::of_query(parameters, &FIELDS);
    let app = fields.optional_text("app", FILTER_BYTES_MAX);
    let kind = fields.optional_text("kind", FILTER_BYTES_MAX);
    let orders = [("newest", Order::NewestFirst), ("oldest", Order::OldestFirst)];
    let order = fields.optional_word("order", &orders).unwrap_or(Order::NewestFirst);
    let cursor = fields.optional_integer("cursor", 0, i64::MAX);
    let rows_max = i64::try_from(PAGE_ROWS_MAX).unwrap_or(i64::MAX);
    let limit = fields.optional_integer("limit", 1, rows_max);
    fields.finish().map_err(Refusal::Invalid)?;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE_ROWS_DEFAULT);
    Ok(LedgerQuery { app, kind, order, cursor: cursor.map(i64::unsigned_abs), limit })
}

fn entry(line: LedgerLine) -> LedgerEntry {
    LedgerEntry {
        seq: line.seq,
        at: line.at.to_string(),
        kind: line.kind,
        principal: line.principal,
        app: line.app,
        request_id: line.request_id,
        subject: line.subject,
        agent: line.agent,
        model_asked: line.model_asked,
        model_used: line.usage.model,
        prompt_chars: line.prompt_chars,
        answer_chars: line.answer_chars,
        input_tokens: line.usage.input_tokens,
        output_tokens: line.usage.output_tokens,
        cache_read_tokens: line.usage.cache_read_tokens,
        cache_write_tokens: line.usage.cache_write_tokens,
        cost_usd: line.usage.cost_usd,
        size_bytes: line.size,
        duration_ms: line.duration_ms,
        outcome: line.outcome,
        isolation: line.isolation,
        count: line.count,
    }
}
