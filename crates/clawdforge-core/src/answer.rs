//! The JSON in an agent's answer.
//!
//! Models wrap JSON in Markdown fences however often they are told not to. An answer is JSON where it is that alone, or
//! inside one fence around the whole of it.

use serde_json::Value;

/// The fence of a Markdown code block.
const FENCE: &str = "```";

/// The JSON that an answer is, as it was written and as it is read; `None` where it is none.
#[must_use]
pub fn json_in(answer: &str) -> Option<(&str, Value)> {
    let text = unfenced(answer).unwrap_or(answer).trim();
    Some((text, serde_json::from_str(text).ok()?))
}

/// What stands inside the one fence around the whole text, if there is one.
fn unfenced(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix(FENCE)?.strip_suffix(FENCE)?;
    // The rest of the first line is the language, if it is one word; `{` on it is content already.
    let (first, rest) = inner.split_once('\n').unwrap_or(("", inner));
    let is_language = first.trim().chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+'));
    let body = if is_language { rest } else { inner };
    (!body.contains(FENCE)).then_some(body)
}
