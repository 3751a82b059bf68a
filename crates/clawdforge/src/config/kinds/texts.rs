//! Kinds that are written as text: addresses, paths, names, secrets, words.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clawdforge_core::agent::AgentName;
use clawdforge_core::limits::MODEL_CHARS_MAX;
use clawdforge_core::secret::SecretString;
use ipnet::IpNet;
use serde_json::{Value as Json, json};
use tracing_subscriber::EnvFilter;

use super::{Kind, REDACTED, cidr};
use crate::config::raw::Raw;
use crate::config::suggest;

/// Characters of an admin token: below this it could be guessed, and a forgotten placeholder
/// such as `changeme` is caught.
const SECRET_CHARS_MIN: usize = 16;

/// An IP address with a port.
pub struct Address;

impl Kind for Address {
    type Value = SocketAddr;

    fn expected(&self) -> String {
        "an IP address and port, such as `127.0.0.1:8800` or `[::]:8800`".to_owned()
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<SocketAddr, String> {
        raw.text().and_then(|text| text.trim().parse().ok()).ok_or_else(|| self.refuse(raw))
    }

    fn json(&self, value: &SocketAddr) -> Json {
        json!(value.to_string())
    }

    fn placeholder(&self) -> &'static str {
        "ADDRESS:PORT"
    }
}

/// A path, made absolute; in the file it is relative to the file.
pub struct FilePath;

impl Kind for FilePath {
    type Value = PathBuf;

    fn expected(&self) -> String {
        "a path".to_owned()
    }

    fn read(&self, raw: &Raw, base: &Path) -> Result<PathBuf, String> {
        match raw.text() {
            Some(text) if !text.is_empty() && !text.contains('\0') => Ok(absolute(text, base)),
            _ => Err(self.refuse(raw)),
        }
    }

    fn json(&self, value: &PathBuf) -> Json {
        json!(value.display().to_string())
    }

    fn placeholder(&self) -> &'static str {
        "PATH"
    }
}

/// Joins and drops the dots that mean nothing; `..` stays, because a symbolic link may stand before it.
pub fn absolute(path: impl AsRef<Path>, base: &Path) -> PathBuf {
    base.join(path).components().collect()
}

/// A secret of visible ASCII characters, long enough not to be guessed.
pub struct Secret;

impl Kind for Secret {
    type Value = SecretString;

    fn expected(&self) -> String {
        format!("at least {SECRET_CHARS_MIN} visible ASCII characters")
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<SecretString, String> {
        let text = raw.text().unwrap_or_default().trim();
        if text.len() >= SECRET_CHARS_MIN && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(SecretString::from(text))
        } else {
            Err(format!("must be {}", self.expected()))
        }
    }

    fn json(&self, _value: &SecretString) -> Json {
        json!(REDACTED)
    }

    fn placeholder(&self) -> &'static str {
        "SECRET"
    }
}

/// A list of address ranges.
pub struct Cidrs;

impl Kind for Cidrs {
    type Value = Vec<IpNet>;

    fn expected(&self) -> String {
        "a list of address ranges such as `10.0.0.0/8`; a bare address is a range of one".to_owned()
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<Vec<IpNet>, String> {
        let texts = raw.list().ok_or_else(|| self.refuse(raw))?;
        cidr::parse_all(&texts)
    }

    fn json(&self, value: &Vec<IpNet>) -> Json {
        value.iter().map(|range| json!(range.to_string())).collect()
    }

    fn placeholder(&self) -> &'static str {
        "RANGES"
    }

    fn toml(&self, _text: &str) -> Option<String> {
        Some("[]".to_owned())
    }
}

/// The name of an agent.
pub struct Agent;

impl Kind for Agent {
    type Value = AgentName;

    fn expected(&self) -> String {
        "an agent's name: 1 to 64 characters out of a-z, A-Z, 0-9, `_` and `-`".to_owned()
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<AgentName, String> {
        raw.text().and_then(|text| text.parse().ok()).ok_or_else(|| self.refuse(raw))
    }

    fn json(&self, value: &AgentName) -> Json {
        json!(value.as_str())
    }

    fn placeholder(&self) -> &'static str {
        "AGENT"
    }
}

/// The name of a model, which becomes an argument of the agent: it must not look like a flag.
pub struct Model;

impl Kind for Model {
    type Value = String;

    fn expected(&self) -> String {
        format!("a model's name: 1 to {MODEL_CHARS_MAX} characters without spaces, not beginning with `-`")
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<String, String> {
        let fits = |text: &&str| {
            (1..=MODEL_CHARS_MAX).contains(&text.chars().count())
                && !text.starts_with('-')
                && !text.chars().any(|c| c.is_control() || c.is_whitespace())
        };
        raw.text().filter(fits).map(str::to_owned).ok_or_else(|| self.refuse(raw))
    }

    fn json(&self, value: &String) -> Json {
        json!(value)
    }

    fn placeholder(&self) -> &'static str {
        "MODEL"
    }
}

/// What the log shows, in the filter language of `tracing`.
pub struct LogFilter;

impl LogFilter {
    const LEVELS: [&'static str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
}

impl Kind for LogFilter {
    type Value = String;

    fn expected(&self) -> String {
        "`off`, `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,clawdforge_engine=debug`"
            .to_owned()
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<String, String> {
        let text = raw.text().map(str::trim).filter(|text| !text.is_empty()).ok_or_else(|| self.refuse(raw))?;
        // To the filter language a mistyped level is the name of a module, and all else falls silent.
        let lower = text.to_ascii_lowercase();
        if !Self::LEVELS.contains(&lower.as_str())
            && let Some(level) = suggest::nearest(&lower, Self::LEVELS)
        {
            return Err(format!("{}; did you mean `{level}`?", self.refuse(raw)));
        }
        EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|_| self.refuse(raw))
    }

    fn json(&self, value: &String) -> Json {
        json!(value)
    }

    fn placeholder(&self) -> &'static str {
        "FILTER"
    }
}

/// One word out of a few.
pub struct Choice<T: 'static>(
    /// The words and what each means.
    pub &'static [(&'static str, T)],
);

impl<T: Copy + PartialEq + Sync> Kind for Choice<T> {
    type Value = T;

    fn expected(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| format!("`{word}`")).collect();
        match words.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => "nothing".to_owned(),
        }
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<T, String> {
        let chosen = raw.text().and_then(|text| self.0.iter().find(|(word, _)| *word == text));
        chosen.map(|(_, value)| *value).ok_or_else(|| self.refuse(raw))
    }

    fn json(&self, value: &T) -> Json {
        self.0.iter().find(|(_, each)| each == value).map_or(Json::Null, |(word, _)| json!(word))
    }

    fn placeholder(&self) -> &'static str {
        "WORD"
    }
}
