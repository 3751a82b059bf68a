//! What the operator reads: the ledger.
//!
//! `GET /admin/ledger?app=&kind=&order=newest|oldest&cursor=&limit=` with the admin token.

use serde::{Deserialize, Serialize};

/// A page of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerPage {
    /// Always true.
    pub ok: bool,
    /// The lines.
    pub entries: Vec<LedgerEntry>,
    /// Hand this back as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<u64>,
}

/// One line of the ledger. Absent values are null, so that every line has every column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Its number, growing.
    pub seq: u64,
    /// When it happened, RFC 3339 with milliseconds.
    pub at: String,
    /// `run_accepted`, `run_ended`, `run_erased`, `file_uploaded`, `file_erased`, `token_minted`,
    /// `token_revoked`.
    pub kind: String,
    /// Who acted: `app`, `operator` or `service`.
    pub principal: String,
    /// The app it concerns.
    pub app: Option<String>,
    /// The request behind it.
    pub request_id: Option<String>,
    /// The run, file or token it is about; of failed sign-ins, the address.
    pub subject: Option<String>,
    /// The agent.
    pub agent: Option<String>,
    /// The model asked for.
    pub model_asked: Option<String>,
    /// The model that answered.
    pub model_used: Option<String>,
    /// Characters of the prompt.
    pub prompt_chars: Option<u64>,
    /// Characters of the answer.
    pub answer_chars: Option<u64>,
    /// Tokens read, without those from a cache.
    pub input_tokens: Option<u64>,
    /// Tokens written.
    pub output_tokens: Option<u64>,
    /// Tokens read from a cache.
    pub cache_read_tokens: Option<u64>,
    /// Tokens written to a cache.
    pub cache_write_tokens: Option<u64>,
    /// Cost in US dollars, as the agent reported it.
    pub cost_usd: Option<f64>,
    /// Size in bytes, of files.
    pub size_bytes: Option<u64>,
    /// Milliseconds it took.
    pub duration_ms: Option<u64>,
    /// `completed`, or the code of the failure.
    pub outcome: Option<String>,
    /// `off`, `landlock` or `uid`: how well the agent was kept apart.
    #[serde(default)]
    pub isolation: Option<String>,
    /// How often it happened, of what is told of once for many times.
    #[serde(default)]
    pub count: Option<u64>,
}
