//! The words and bounds of the decision core: its failures, and how what agents make up is cut.

use crate::agent::{Exit, Failure, FailureKind, TurnEnd};
use crate::limits::{EVENT_TEXT_BYTES_MAX, NAME_BYTES_MAX};
use crate::output::Violation;

/// The failure of a turn that its app had stopped.
#[must_use]
pub fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "the turn was cancelled by its app")
}

pub(super) fn interrupted() -> Failure {
    let message = "the service was stopped before the agent had finished; send the request again";
    Failure::new(FailureKind::Interrupted, message)
}

pub(super) fn closed() -> Failure {
    Failure::new(FailureKind::SessionClosed, "the session was closed during this turn")
}

pub(super) fn unwritten() -> Failure {
    Failure::new(FailureKind::Internal, "the event log could not be written, so the agent was stopped")
}

/// The failure of a turn whose answer does not fit, the last one included.
pub(super) fn invalid(answers: u64, violations: Vec<Violation>) -> Failure {
    let first =
        violations.first().map_or_else(String::new, |first| format!(", at \"{}\": {}", first.path, first.message));
    let message = match answers {
        1 => format!("the answer does not fit output_schema{first}"),
        _ => format!("none of {answers} answers fits output_schema; the last one does not{first}"),
    };
    Failure { violations, ..Failure::new(FailureKind::OutputInvalid, message) }
}

/// The end of a turn whose agent is gone without having ended it.
pub(super) fn crashed(exit: Exit) -> TurnEnd {
    let how = match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        (Some(code), None) => format!("exited with code {code}"),
        (None, None) => "ended".to_owned(),
    };
    let said = exit.stderr.lines().rev().find(|line| !line.trim().is_empty()).map(str::trim);
    let message = match said {
        Some(line) => format!("the agent {how} without an answer: {}", cut_to(line.to_owned(), 500)),
        None => format!("the agent {how} without an answer"),
    };
    TurnEnd { failure: Some(Failure::new(FailureKind::Crashed, message)), stderr: exit.stderr, ..TurnEnd::default() }
}

pub(super) fn cut(text: String) -> String {
    cut_to(text, EVENT_TEXT_BYTES_MAX)
}

pub(super) fn cut_name(text: String) -> String {
    cut_to(text, NAME_BYTES_MAX)
}

/// The text, cut at a character boundary to at most so many bytes, with a mark where it was cut.
pub(super) fn cut_to(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let dropped = text.len() - bytes_max;
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push_str(&format!("… [{dropped} bytes cut]"));
    }
    text
}

/// The value, or its text cut, where its JSON would be larger than an event may be.
pub(super) fn cut_value(value: serde_json::Value) -> serde_json::Value {
    let text = match &value {
        serde_json::Value::String(text) if text.len() <= EVENT_TEXT_BYTES_MAX => return value,
        serde_json::Value::String(text) => text.clone(),
        other => {
            let text = other.to_string();
            if text.len() <= EVENT_TEXT_BYTES_MAX {
                return value;
            }
            text
        }
    };
    serde_json::Value::String(cut(text))
}
