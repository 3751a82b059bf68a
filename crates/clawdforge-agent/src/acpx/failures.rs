//! What acpx itself reports as an error, as ours.

use clawdforge_core::agent::{Failure, FailureKind};
use serde_json::Value;

use crate::acp::translate::failure;
use crate::acp::wire::{Error, ErrorCode};

/// Characters of its sentence that a caller is shown.
const MESSAGE_CHARS_MAX: usize = 500;

/// An error line of acpx: its `error` object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal(pub Value);

impl Refusal {
    fn detail(&self) -> &str {
        self.0["data"]["detailCode"].as_str().unwrap_or_default()
    }

    fn code(&self) -> &str {
        self.0["data"]["acpxCode"].as_str().unwrap_or_default()
    }

    /// Its sentence, for the log: it may hold paths.
    pub(super) fn message(&self) -> &str {
        self.0["message"].as_str().unwrap_or("it did not say why")
    }

    /// Whether nothing else is worth trying.
    pub(super) fn ends_it(&self) -> bool {
        let kind = self.failure("").kind;
        matches!(kind, FailureKind::NotSignedIn | FailureKind::UnknownModel)
            || matches!(self.detail(), "AGENT_SPAWN_ENOENT" | "AGENT_STARTUP_FAILED")
    }

    /// As a caller of the agent is told it.
    pub(super) fn failure(&self, agent: &str) -> Failure {
        let said = || self.message().lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        let cut = |text: &str| text.chars().take(MESSAGE_CHARS_MAX).collect::<String>();
        match (self.detail(), self.code()) {
            ("AUTH_REQUIRED", _) => failure(&Error::new(ErrorCode::AUTH_REQUIRED, "")),
            // Its sentence holds the whole command line.
            ("AGENT_SPAWN_ENOENT", _) => Failure::new(
                FailureKind::StartFailed,
                format!("acpx could not start {agent}: the program, or the interpreter it names, is not there"),
            ),
            ("AGENT_STARTUP_FAILED", _) => {
                // "ACP agent exited before initialize completed (exit=3, signal=null): no licence"
                let why = said().split_once("): ").map_or("it said nothing about it", |(_, why)| why);
                let message = format!("{agent} ended before a conversation could begin: {}", cut(why));
                Failure::new(FailureKind::StartFailed, message)
            }
            ("AGENT_DISCONNECTED", _) => {
                Failure::new(FailureKind::Crashed, format!("{agent} ended without an answer; send the prompt again"))
            }
            // What the agent says goes to the call by the owner, whole: a line that is no message breaks their talk off.
            (detail, _) if detail.starts_with("QUEUE_PROTOCOL_") => Failure::new(
                FailureKind::Crashed,
                format!("acpx could not pass on what {agent} said; what it did is not known"),
            ),
            ("QUEUE_DISCONNECTED_BEFORE_COMPLETION" | "QUEUE_SUBMISSION_OUTCOME_UNKNOWN", _) => Failure::new(
                FailureKind::Crashed,
                "the owner that acpx keeps for this session ended during the turn; what the agent did is not known",
            ),
            (_, "TIMEOUT") => Failure::new(FailureKind::TimedOut, "acpx gave up waiting for the agent"),
            (_, "NO_SESSION") => {
                Failure::new(FailureKind::Crashed, "acpx does not know this session any more; send the prompt again")
            }
            _ if self.message().starts_with("Cannot apply --model") => {
                let message = format!("{agent} does not take the model: {}", cut(self.message()));
                Failure::new(FailureKind::UnknownModel, message)
            }
            _ => match serde_json::from_value::<Error>(self.0.clone()) {
                Ok(error) if error.code == ErrorCode::AUTH_REQUIRED => failure(&error),
                _ => Failure::new(FailureKind::ProviderError, format!("acpx reports: {}", cut(said()))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_of_acpx_are_told_by_what_a_caller_would_do_and_without_paths() {
        let line = |code: i64, message: &str, acpx: &str, detail: &str| {
            let data = json!({"acpxCode": acpx, "detailCode": detail, "origin": "cli"});
            Refusal(json!({"code": code, "message": message, "data": data})).failure("claude")
        };
        for (told, kind, words) in [
            (line(-32000, "Authentication required", "RUNTIME", "AUTH_REQUIRED"), FailureKind::NotSignedIn, "doctor"),
            (line(-32000, "Authentication required", "RUNTIME", ""), FailureKind::NotSignedIn, "doctor"),
            (
                line(-32603, "Failed to spawn: /opt/secret", "RUNTIME", "AGENT_SPAWN_ENOENT"),
                FailureKind::StartFailed,
                "claude",
            ),
            (
                line(-32603, "ACP agent exited (exit=3, signal=null): no licence", "RUNTIME", "AGENT_STARTUP_FAILED"),
                FailureKind::StartFailed,
                "begin: no licence",
            ),
            (line(-32603, "gone", "RUNTIME", "AGENT_DISCONNECTED"), FailureKind::Crashed, "claude ended"),
            (
                line(-32603, "gone", "RUNTIME", "QUEUE_DISCONNECTED_BEFORE_COMPLETION"),
                FailureKind::Crashed,
                "not known",
            ),
            (
                line(-32603, "Queue owner sent malformed message", "RUNTIME", "QUEUE_PROTOCOL_MALFORMED_MESSAGE"),
                FailureKind::Crashed,
                "could not pass on what claude said",
            ),
            (line(-32603, "late", "TIMEOUT", ""), FailureKind::TimedOut, "gave up"),
            (line(-32002, "none", "NO_SESSION", ""), FailureKind::Crashed, "does not know this session"),
            (line(-32603, "Cannot apply --model \"x\": no", "RUNTIME", ""), FailureKind::UnknownModel, "\"x\""),
            (line(-32603, "something new", "RUNTIME", "WHO_KNOWS"), FailureKind::ProviderError, "something new"),
        ] {
            assert_eq!(told.kind, kind, "{told:?}");
            assert!(told.message.contains(words) && !told.message.contains("/opt"), "{told:?}");
        }
    }
}
