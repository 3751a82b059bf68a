//! Problems: every public error of `/v1`, in the form of RFC 9457.
//!
//! The catalogue is closed. A code is never used for anything else and never renamed; each has a page in
//! `docs/problems/`, which the service gives out at the problem's `type`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! catalogue {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// What went wrong, by what the caller would do about it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable name, the last part of the problem's `type`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The HTTP status it comes with.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// A sentence that is the same every time.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// Its page: what happened, and what to do, in Markdown.
            #[must_use]
            pub fn page(self) -> &'static str {
                match self { $(Self::$name => include_str!(concat!("../../../docs/problems/", $code, ".md")),)* }
            }
        }
    };
}

catalogue! {
    /// The address may not speak to the service, or not with this token.
    AddressNotAllowed = "address_not_allowed", 403, "Requests from this address are not allowed.";
    /// No bearer, or one that is not known.
    NotSignedIn = "not_signed_in", 401, "The request carries no token that is known.";
    /// The bearer is known, but may not do this.
    NotPermitted = "not_permitted", 403, "This token may not do that.";
    /// Too many wrong tokens came from the address.
    TooManySignIns = "too_many_sign_ins", 429, "Too many wrong tokens came from this address.";
    /// The service does not answer under this host name.
    HostNotAllowed = "host_not_allowed", 421, "The service does not answer under this host name.";
    /// The request names no host, or several.
    HostUnreadable = "host_unreadable", 400, "The request does not name one host.";
    /// A page of another origin made the request.
    ForeignPage = "foreign_page", 403, "Pages of other origins may not use the service.";
    /// The URL holds a token.
    TokenInUrl = "token_in_url", 400, "A token has no place in a URL.";
    /// No such route.
    NoSuchRoute = "no_such_route", 404, "There is no such route.";
    /// The route exists, but not with this method.
    MethodNotAllowed = "method_not_allowed", 405, "The route does not take this method.";
    /// The body has another content type than the route takes.
    WrongContentType = "wrong_content_type", 415, "The body has a content type that the route does not take.";
    /// The body is larger than the route takes.
    BodyTooLarge = "body_too_large", 413, "The body is too large.";
    /// The body stopped arriving.
    BodyTooSlow = "body_too_slow", 408, "The body stopped arriving.";
    /// The body broke off.
    BodyBroken = "body_broken", 400, "The body could not be read.";
    /// The body or the query was read, and has faults.
    InvalidRequest = "invalid_request", 422, "The request has faults.";
    /// It does not exist, or belongs to somebody else.
    NotFound = "not_found", 404, "There is no such thing.";
    /// The session takes no turn any more.
    SessionClosed = "session_closed", 410, "The session is closed.";
    /// A turn of the session is under way or waits.
    SessionBusy = "session_busy", 409, "A turn of the session is under way or waits.";
    /// The session cannot be forked.
    ForkImpossible = "fork_impossible", 409, "The session cannot be forked.";
    /// There is nothing to stop.
    AlreadyEnded = "already_ended", 409, "It has ended already.";
    /// The idempotency key was used for another request.
    KeyReused = "idempotency_key_reused", 409, "The idempotency key was used for another request.";
    /// No agent of this name is configured.
    UnknownAgent = "unknown_agent", 422, "There is no agent of this name.";
    /// The agent's program is not there.
    AgentUnavailable = "agent_unavailable", 502, "The agent cannot be started.";
    /// Its agent would run with less isolation than is demanded.
    IsolationTooWeak = "isolation_too_weak", 422, "The agent would run with less isolation than is demanded.";
    /// The agent does not offer what is asked of it.
    NotOffered = "not_offered", 422, "The agent does not offer that.";
    /// All slots and the queue are taken.
    Busy = "busy", 503, "The service is busy.";
    /// The service is stopping and takes no new work.
    Stopping = "stopping", 503, "The service is stopping.";
    /// An accepted turn goes on after the restart.
    Deferred = "deferred", 503, "The turn is accepted and will be done after the restart.";
    /// The app has a live token already.
    NameTaken = "name_taken", 409, "The app has a token already.";
    /// There are as many tokens as there may be.
    TooManyTokens = "too_many_tokens", 409, "There are as many tokens as there may be.";
    /// The upload is larger than allowed.
    UploadTooLarge = "upload_too_large", 413, "The upload is too large.";
    /// The disk is full.
    DiskFull = "disk_full", 507, "The service's disk is full.";
    /// The records could not be written or read.
    RecordsUnavailable = "records_unavailable", 503, "The service cannot reach its records.";
    /// The outcome could not be recorded.
    OutcomeUnrecorded = "outcome_unrecorded", 500, "The outcome could not be recorded.";
    /// The service could not do its own part.
    InternalError = "internal_error", 500, "The service failed.";
}

impl Code {
    /// The code of a stable name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }
}

/// A problem as it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Where its page is, relative to the service: `/problems/<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A sentence that is the same every time.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, and what to do.
    pub detail: String,
    /// The request's id, by which the operator finds it in the log.
    pub instance: String,
    /// The stable code, the last part of `type`.
    pub code: String,
    /// When to come back, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The single faults of an `invalid_request`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Where it is: `body.prompt`, `query.limit`.
    pub field: String,
    /// What is wrong there.
    pub detail: String,
    /// What was found, if it is short.
    #[serde(default)]
    pub input: Value,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_has_a_page_of_its_own_and_every_page_a_code() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/problems");
        let pages = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let pages: HashSet<String> = pages.filter(|name| name != "README.md").collect();
        let codes: HashSet<String> = Code::ALL.iter().map(|code| format!("{}.md", code.as_str())).collect();
        assert_eq!(pages, codes);
        for code in Code::ALL {
            let page = code.page();
            assert!(page.starts_with(&format!("# {}\n", code.as_str())), "{page}");
            for part in [code.title(), &format!("Status {}", code.status()), "## What to do"] {
                assert!(page.contains(part), "{}: {part}", code.as_str());
            }
            assert_eq!(Code::named(code.as_str()), Some(*code));
        }
    }
}
