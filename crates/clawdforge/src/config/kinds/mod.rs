//! The kinds of values an option can have: how each is read, shown and described.
//!
//! A kind's `expected` sentence serves three readers: the person whose value was refused, `--help`,
//! and the reference page.

mod cgroups;
mod cidr;
mod launch;
mod lists;
mod network;
mod numbers;
mod places;
mod texts;

use std::path::Path;

use serde_json::{Value as Json, json};

pub use self::cgroups::{CgroupChoice, CgroupPlace};
pub use self::launch::{EnvNames, Program, Words, is_env_name};
pub use self::lists::{Choices, Hosts};
pub use self::network::{Endpoints, Network};
pub use self::numbers::{Bytes, Count, OrForEver, Span, Unit};
pub use self::places::{Paths, UserRange, Users};
pub use self::texts::{Address, Agent, Choice, Cidrs, FilePath, LogFilter, Model, Secret, absolute};
use super::raw::Raw;

/// What is shown in place of a secret.
pub const REDACTED: &str = "****";

/// How one kind of value is read, shown and described.
pub trait Kind: Sync {
    /// What the service works with.
    type Value;

    /// What a right value is: "a whole number from 1 to 8".
    fn expected(&self) -> String;

    /// Understands what a layer said; relative paths start from `base`. The error completes the
    /// sentence "`key` …" and, for secrets, does not repeat the value.
    fn read(&self, raw: &Raw, base: &Path) -> Result<Self::Value, String>;

    /// The value for programs.
    fn json(&self, value: &Self::Value) -> Json;

    /// The value for people.
    fn human(&self, value: &Self::Value) -> String {
        match self.json(value) {
            Json::Null => "-".to_owned(),
            Json::String(text) => text,
            Json::Array(items) if items.is_empty() => "-".to_owned(),
            Json::Array(items) => {
                let texts: Vec<_> = items.iter().map(|item| item.as_str().unwrap_or_default()).collect();
                texts.join(", ")
            }
            other => other.to_string(),
        }
    }

    /// The word for the value in `--help`.
    fn placeholder(&self) -> &'static str;

    /// A text of this kind as the file writes it; `None` where the text stands for no value.
    fn toml(&self, text: &str) -> Option<String> {
        Some(json!(text).to_string())
    }

    /// Whether the bare flag means `true`.
    fn is_switch(&self) -> bool {
        false
    }

    /// The standard complaint: what is expected, what was found.
    fn refuse(&self, raw: &Raw) -> String {
        format!("must be {}, not {}", self.expected(), raw.found())
    }
}

/// Yes or no.
pub struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn expected(&self) -> String {
        "`true` or `false`".to_owned()
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<bool, String> {
        raw.switch().ok_or_else(|| self.refuse(raw))
    }

    fn json(&self, value: &bool) -> Json {
        json!(value)
    }

    fn placeholder(&self) -> &'static str {
        "BOOL"
    }

    fn toml(&self, text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn is_switch(&self) -> bool {
        true
    }
}

/// A value that may be absent: no text means none.
pub struct Maybe<K>(
    /// The kind of the value where there is one.
    pub K,
);

impl<K: Kind> Kind for Maybe<K> {
    type Value = Option<K::Value>;

    fn expected(&self) -> String {
        self.0.expected()
    }

    fn read(&self, raw: &Raw, base: &Path) -> Result<Self::Value, String> {
        match raw {
            Raw::Plain(text) if text.is_empty() => Ok(None),
            given => self.0.read(given, base).map(Some),
        }
    }

    fn json(&self, value: &Self::Value) -> Json {
        value.as_ref().map_or(Json::Null, |value| self.0.json(value))
    }

    fn human(&self, value: &Self::Value) -> String {
        value.as_ref().map_or("-".to_owned(), |value| self.0.human(value))
    }

    fn placeholder(&self) -> &'static str {
        self.0.placeholder()
    }

    fn toml(&self, text: &str) -> Option<String> {
        if text.is_empty() { None } else { self.0.toml(text) }
    }
}
