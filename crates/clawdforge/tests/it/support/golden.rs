//! Golden pages: answers as they stand on the wire, with only what differs from run to run replaced.
//!
//! The body is kept byte for byte, so the order of keys and the spelling of numbers are part of the
//! page. All headers are shown but those of the transport.

use std::fmt;

use clawdforge_testkit::app::Answer;

/// Headers of the transport; whether a connection is closed depends on how much of a refused body had
/// arrived. And those for browsers, which every answer has alike: tests of the server's router hold them.
const UNINTERESTING: [&str; 8] = [
    "date",
    "content-length",
    "connection",
    "x-content-type-options",
    "referrer-policy",
    "content-security-policy",
    "x-frame-options",
    "cross-origin-resource-policy",
];

/// Fewest characters of an id or a secret, so that texts which only mention `cf_…` stay as they are.
const ID_CHARS_MIN: usize = 26;

/// A page of answers, each under a title.
#[derive(Default)]
pub struct Golden {
    page: String,
}

impl Golden {
    /// Adds an answer.
    pub fn add(&mut self, title: &str, answer: &Answer) {
        let mut headers: Vec<String> = answer
            .headers
            .iter()
            .filter(|(name, _)| !UNINTERESTING.contains(&name.as_str()))
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        headers.sort();
        let body = if answer.text.is_empty() { "(no body)" } else { &answer.text };
        let whole = format!("{}\n{}\n\n{body}", answer.status, headers.join("\n"));
        if !self.page.is_empty() {
            self.page.push_str("\n\n");
        }
        self.page.push_str(&format!("### {title}\n\n{}", redacted(&whole)));
    }
}

impl fmt::Display for Golden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.page)
    }
}

/// The text with ids, secrets and times replaced.
fn redacted(text: &str) -> String {
    let mut text = text.to_owned();
    for (begins, shown) in [("req_", "[request]"), ("ff_", "[file token]"), ("cf_", "[app token]")] {
        text = replaced(&text, begins, "", ID_CHARS_MIN, |c| c.is_ascii_alphanumeric() || c == '_', shown);
    }
    // A session's id of the first versions, a UUID behind its key.
    text = replaced(
        &text,
        "\"session_id\":\"",
        "\"session_id\":\"",
        36,
        |c| c.is_ascii_hexdigit() || c == '-',
        "[session]",
    );
    for (begins, shown) in [
        ("\"duration_ms\":", "[ms]"),
        ("\"created_at\":", "[seconds]"),
        ("\"last_turn_at\":", "[seconds]"),
        ("\"closed_at\":", "[seconds]"),
    ] {
        text = replaced(&text, begins, begins, 1, |c| c.is_ascii_digit(), shown);
    }
    text
}

/// Replaces every run of such characters, of at least that length, behind `begins`.
fn replaced(
    text: &str,
    begins: &str,
    keep: &str,
    chars_min: usize,
    is_part: impl Fn(char) -> bool,
    shown: &str,
) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(begins) {
        let (before, from) = rest.split_at(at);
        let behind = &from[begins.len()..];
        let run = behind.find(|c| !is_part(c)).unwrap_or(behind.len());
        out.push_str(before);
        if run >= chars_min {
            out.push_str(keep);
            out.push_str(shown);
        } else {
            out.push_str(&from[..begins.len() + run]);
        }
        rest = &behind[run..];
    }
    out + rest
}
