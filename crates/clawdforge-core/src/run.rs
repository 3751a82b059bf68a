//! A run: a single prompt with no memory before or after.
//!
//! Inside, a run *is* a session that holds exactly one turn and is never resumed, so it goes
//! through the same pipeline as every other turn. What is its own is the request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::FileId;
use crate::isolation::Isolation;
use crate::output::OutputSchema;

/// What a caller asks of an agent in one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRequest {
    /// What the agent is asked; never empty.
    pub prompt: String,
    /// The model by the agent's own name for it.
    pub model: String,
    /// Text for the system prompt.
    pub system: Option<String>,
    /// What becomes of the agent's own system prompt.
    pub system_mode: SystemMode,
    /// How hard the model should think; `None` leaves it to the agent.
    pub effort: Option<Effort>,
    /// Uploads to lay into the workspace, in order.
    pub files: Vec<FileId>,
    /// Longest time from the start of the agent to its answer.
    pub timeout: Duration,
    /// The weakest isolation it may run at; `None` takes what there is.
    pub isolation_min: Option<Isolation>,
    /// What the answer is to fit; `None` takes any.
    pub output_schema: Option<OutputSchema>,
}

/// Whether the caller's system text joins the agent's own or takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemMode {
    /// After the agent's own.
    #[default]
    Append,
    /// Instead of the agent's own.
    Replace,
}

impl SystemMode {
    /// Every mode with its name on the wire and in the store.
    pub const ALL: [(&'static str, Self); 2] = [("append", Self::Append), ("replace", Self::Replace)];

    /// The mode's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Replace => "replace",
        }
    }
}

/// How hard the model should think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Least.
    Low,
    /// Between low and high.
    Medium,
    /// Much.
    High,
    /// More than much.
    Xhigh,
    /// Most.
    Max,
}

impl Effort {
    /// Every level with its name on the wire and on the agent's command line.
    pub const ALL: [(&'static str, Self); 5] = [
        ("low", Self::Low),
        ("medium", Self::Medium),
        ("high", Self::High),
        ("xhigh", Self::Xhigh),
        ("max", Self::Max),
    ];

    /// The level's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }
}
