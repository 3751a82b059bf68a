//! Kinds that are lists of words: host names, choices.

use std::path::Path;

use clawdforge_server::AllowedHost;
use serde_json::{Value as Json, json};

use super::Kind;
use crate::config::raw::Raw;

/// A list of host names.
pub struct Hosts;

impl Kind for Hosts {
    type Value = Vec<AllowedHost>;

    fn expected(&self) -> String {
        "a list of host names such as `forge.example.com` or `*.example.com`; `*` is every name".to_owned()
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<Self::Value, String> {
        let texts = raw.list().ok_or_else(|| self.refuse(raw))?;
        texts.iter().map(|text| text.parse().map_err(|error| format!("must be {}: {error}", self.expected()))).collect()
    }

    fn json(&self, value: &Self::Value) -> Json {
        value.iter().map(|host| json!(host.to_string())).collect()
    }

    fn placeholder(&self) -> &'static str {
        "HOSTS"
    }

    fn toml(&self, _text: &str) -> Option<String> {
        Some("[]".to_owned())
    }
}

/// Any of a few words.
pub struct Choices<T: 'static>(
    /// The words and what each means.
    pub &'static [(&'static str, T)],
);

impl<T: Copy + PartialEq + Sync> Kind for Choices<T> {
    type Value = Vec<T>;

    fn expected(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| format!("`{word}`")).collect();
        format!("a list out of {}", words.join(", "))
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<Vec<T>, String> {
        let texts = raw.list().ok_or_else(|| self.refuse(raw))?;
        let chosen = |text: &&str| self.0.iter().find(|(word, _)| word == text).map(|(_, value)| *value);
        texts.iter().map(|text| chosen(text).ok_or_else(|| self.refuse(raw))).collect()
    }

    fn json(&self, value: &Vec<T>) -> Json {
        let words = self.0.iter().filter(|(_, each)| value.contains(each));
        words.map(|(word, _)| json!(word)).collect()
    }

    fn placeholder(&self) -> &'static str {
        "WORDS"
    }

    fn toml(&self, _text: &str) -> Option<String> {
        Some("[]".to_owned())
    }
}
