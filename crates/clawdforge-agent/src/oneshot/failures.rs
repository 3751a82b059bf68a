//! From a result that says "error" to a kind and a sentence: which failure it was and what to do.
//!
//! `is_error` decides, and nothing else: a failed API call has `subtype: "success"`, an interrupted
//! turn exits with 0, and a good answer may exit with 1. The agent's own text is quoted only where it
//! adds something for the caller (a reset time); texts about the operator's gateway are not.

use clawdforge_core::agent::{Failure, FailureKind};

/// What a result says about an error. Absent fields are `None` or empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct ErrorFacts<'a> {
    /// `subtype`: `success`, `error_max_turns`, …
    pub subtype: &'a str,
    /// `stop_reason`.
    pub stop_reason: Option<&'a str>,
    /// `api_error_status`: the HTTP status of the failed call.
    pub status: Option<u16>,
    /// `api_error`: `connection_failed`, `max_output_tokens`.
    pub api_error: Option<&'a str>,
    /// The `error` word of the last message the agent itself wrote in place of the model.
    pub word: Option<&'a str>,
    /// `result`, or the first of `errors`.
    pub text: &'a str,
    /// The model that was asked for.
    pub model: &'a str,
}

/// Longest quotation of the agent's own words.
const QUOTE_CHARS_MAX: usize = 300;

/// Decides which failure it was.
#[must_use]
pub fn judge(facts: &ErrorFacts<'_>) -> Failure {
    if facts.stop_reason == Some("refusal") {
        return Failure::new(
            FailureKind::Refused,
            format!("the model {} refused to answer; rephrase the request or ask another model", facts.model),
        );
    }
    if let Some(failure) = limit(facts) {
        return failure;
    }
    if facts.subtype == "error_during_execution" {
        return Failure::new(FailureKind::Crashed, "the agent was interrupted before it had an answer");
    }
    if facts.text.to_ascii_lowercase().contains("prompt is too long") {
        return too_large();
    }
    match facts.status {
        Some(status) => by_status(status, facts),
        None => by_word(facts),
    }
}

fn limit(facts: &ErrorFacts<'_>) -> Option<Failure> {
    let message = match (facts.subtype, facts.api_error.or(facts.word)) {
        ("error_max_turns", _) => "the agent used up its number of turns before it had an answer; ask for less work",
        ("error_max_budget_usd", _) => "the agent used up its budget before it had an answer; ask for less work",
        ("error_max_structured_output_retries", _) => {
            "the agent could not bring its answer into the wanted form; ask for a simpler one"
        }
        (_, Some("max_output_tokens")) => {
            "the answer is longer than the model may write; ask for less, or for several parts"
        }
        _ => return None,
    };
    Some(Failure::new(FailureKind::LimitReached, message))
}

fn by_status(status: u16, facts: &ErrorFacts<'_>) -> Failure {
    match status {
        401 => Failure::new(
            FailureKind::Unauthorized,
            "the model API refused the agent's credentials (401): sign in again with the program that \
             `clawdforge agents list` shows (`auth login`), or renew the token",
        ),
        403 => Failure::new(
            FailureKind::Forbidden,
            format!(
                "the model API forbids this request (403): the account behind the agent may not use the model {} \
                 or the service; ask the operator",
                facts.model
            ),
        ),
        404 => unknown_model(facts),
        413 => too_large(),
        408 | 504 => timed_out(),
        429 => rate_limited(facts),
        529 => overloaded(),
        500..=599 => Failure::new(
            FailureKind::ProviderError,
            format!("the model API failed ({status}); that is on its side and usually passes: send the request again"),
        ),
        _ => Failure::new(
            FailureKind::RequestRejected,
            format!("the model API rejected the request ({status}): {}", quote(facts.text)),
        ),
    }
}

/// Without a status: the agent never got an answer of the API, or does not say which.
fn by_word(facts: &ErrorFacts<'_>) -> Failure {
    if facts.api_error == Some("connection_failed") {
        return Failure::new(
            FailureKind::ConnectionFailed,
            format!(
                "the agent could not reach the model API, or the connection broke{}; check the network of the \
                 service's machine, or send the request again",
                errno(facts.text).map(|word| format!(" ({word})")).unwrap_or_default()
            ),
        );
    }
    let text = facts.text.to_ascii_lowercase();
    if text.contains("timed out") || text.contains("timeout") {
        return timed_out();
    }
    match facts.word {
        Some("authentication_failed") => not_signed_in(),
        Some("rate_limit") => rate_limited(facts),
        Some("overloaded") => overloaded(),
        Some("model_not_found") => unknown_model(facts),
        _ if text.contains("not logged in") || text.contains("/login") => not_signed_in(),
        Some("server_error") => Failure::new(
            FailureKind::ProviderError,
            "the model API failed; that is on its side and usually passes: send the request again",
        ),
        _ if text.is_empty() => Failure::new(FailureKind::Crashed, "the agent gave up without saying why"),
        _ => Failure::new(FailureKind::Crashed, format!("the agent gave up: {}", quote(facts.text))),
    }
}

fn not_signed_in() -> Failure {
    Failure::new(
        FailureKind::NotSignedIn,
        "the agent is not signed in: `clawdforge doctor` on the service's machine prints the command that signs it in; \
         or give the service ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN",
    )
}

fn rate_limited(facts: &ErrorFacts<'_>) -> Failure {
    let said = match quote(facts.text) {
        said if said.is_empty() => String::new(),
        said => format!(" The agent says: {said}"),
    };
    Failure::new(
        FailureKind::RateLimited,
        format!("the model API's rate or usage limit is reached (429): wait and send the request again.{said}"),
    )
}

fn overloaded() -> Failure {
    Failure::new(FailureKind::Overloaded, "the model API is overloaded (529): wait a moment and send the request again")
}

fn unknown_model(facts: &ErrorFacts<'_>) -> Failure {
    Failure::new(
        FailureKind::UnknownModel,
        format!("the model API does not know the model {}, or the account may not use it (404)", facts.model),
    )
}

fn too_large() -> Failure {
    Failure::new(
        FailureKind::RequestTooLarge,
        "the request is larger than the model takes (413): shorten the prompt or attach less",
    )
}

fn timed_out() -> Failure {
    Failure::new(
        FailureKind::ConnectionFailed,
        "the model API did not answer the agent in time; send the request again",
    )
}

/// The first line of the agent's words, bounded.
fn quote(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// The system's name of a network error that the agent put in parentheses: `(ECONNREFUSED)`.
fn errno(text: &str) -> Option<&str> {
    text.split(['(', ')']).find(|part| {
        part.len() > 2 && part.starts_with('E') && part.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(facts: ErrorFacts<'_>) -> FailureKind {
        judge(&facts).kind
    }

    #[test]
    fn every_status_has_its_kind() {
        let expected = [
            (400, FailureKind::RequestRejected),
            (401, FailureKind::Unauthorized),
            (403, FailureKind::Forbidden),
            (404, FailureKind::UnknownModel),
            (408, FailureKind::ConnectionFailed),
            (413, FailureKind::RequestTooLarge),
            (422, FailureKind::RequestRejected),
            (429, FailureKind::RateLimited),
            (500, FailureKind::ProviderError),
            (503, FailureKind::ProviderError),
            (528, FailureKind::ProviderError),
            (529, FailureKind::Overloaded),
        ];
        for (status, expected) in expected {
            assert_eq!(kind(ErrorFacts { status: Some(status), ..ErrorFacts::default() }), expected, "{status}");
        }
    }

    #[test]
    fn a_status_counts_for_more_than_the_words_around_it() {
        let facts = ErrorFacts {
            status: Some(401),
            word: Some("authentication_failed"),
            text: "Not logged in · Please run /login",
            ..ErrorFacts::default()
        };
        assert_eq!(kind(facts), FailureKind::Unauthorized);
        assert_eq!(kind(ErrorFacts { status: None, ..facts }), FailureKind::NotSignedIn);
    }

    #[test]
    fn a_rate_limit_repeats_when_it_ends() {
        let facts = ErrorFacts {
            word: Some("rate_limit"),
            text: "You've hit your limit · resets 3pm (UTC)",
            ..ErrorFacts::default()
        };
        let failure = judge(&facts);
        assert_eq!(failure.kind, FailureKind::RateLimited);
        assert!(failure.message.ends_with("resets 3pm (UTC)"), "{}", failure.message);
    }

    #[test]
    fn a_prompt_beyond_the_context_is_too_large_whatever_the_status() {
        let text = "API Error: 400 prompt is too long: 213462 tokens > 200000 maximum";
        assert_eq!(kind(ErrorFacts { status: Some(400), text, ..ErrorFacts::default() }), FailureKind::RequestTooLarge);
        assert_eq!(
            kind(ErrorFacts { text: "Prompt is too long", ..ErrorFacts::default() }),
            FailureKind::RequestTooLarge
        );
    }

    #[test]
    fn the_address_of_a_gateway_is_not_repeated() {
        let text = "API Error: 500 Internal server error. Check your inference gateway (10.1.2.3:8080).";
        let failure = judge(&ErrorFacts { status: Some(500), text, ..ErrorFacts::default() });
        assert!(!failure.message.contains("10.1.2.3"), "{}", failure.message);
    }

    #[test]
    fn words_nobody_knows_are_quoted_cut_to_one_line() {
        let text = format!("{}\nsecond line", "é".repeat(1000));
        let failure = judge(&ErrorFacts { text: &text, ..ErrorFacts::default() });
        assert_eq!(failure.kind, FailureKind::Crashed);
        assert_eq!(failure.message, format!("the agent gave up: {}…", "é".repeat(QUOTE_CHARS_MAX)));
    }
}
