//! Kinds about the network: rules, and hosts with ports.

use std::path::Path;

use clawdforge_core::network::{ENDPOINTS_MAX, Endpoint, NetworkRule};
use serde_json::{Value as Json, json};

use super::Kind;
use crate::config::raw::Raw;

/// What agents may reach.
pub struct Network;

impl Kind for Network {
    type Value = NetworkRule;

    fn expected(&self) -> String {
        "`open`, `none`, `unfiltered`, or a list of hosts with ports such as `example.com:443`".to_owned()
    }

    /// Text without a port is a word; with one it is a list, separated by commas.
    fn read(&self, raw: &Raw, _base: &Path) -> Result<NetworkRule, String> {
        let read = match raw {
            Raw::List(entries) => NetworkRule::only(entries),
            Raw::Plain(text) if text.contains(':') => NetworkRule::only(&parts(text)),
            Raw::Plain(word) | Raw::String(word) => NetworkRule::named(word.trim()),
            Raw::Integer(_) | Raw::Boolean(_) | Raw::Other(_) => return Err(self.refuse(raw)),
        };
        read.map_err(|error| format!("must be {}: {error}", self.expected()))
    }

    fn json(&self, value: &NetworkRule) -> Json {
        value.to_json()
    }

    fn placeholder(&self) -> &'static str {
        "RULE"
    }
}

/// Hosts with ports, wherever they are.
pub struct Endpoints;

impl Kind for Endpoints {
    type Value = Vec<Endpoint>;

    fn expected(&self) -> String {
        format!("a list of at most {ENDPOINTS_MAX} hosts with ports such as `127.0.0.1:8080`")
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<Vec<Endpoint>, String> {
        let texts = match raw {
            Raw::List(texts) => texts.clone(),
            Raw::Plain(text) => parts(text),
            Raw::String(_) | Raw::Integer(_) | Raw::Boolean(_) | Raw::Other(_) => return Err(self.refuse(raw)),
        };
        if texts.len() > ENDPOINTS_MAX {
            return Err(self.refuse(raw));
        }
        let read = texts.iter().map(|text| text.parse()).collect::<Result<_, _>>();
        read.map_err(|error| format!("must be {}: {error}", self.expected()))
    }

    fn json(&self, value: &Vec<Endpoint>) -> Json {
        json!(value.iter().map(Endpoint::to_string).collect::<Vec<_>>())
    }

    fn placeholder(&self) -> &'static str {
        "HOST:PORT,…"
    }

    fn toml(&self, _text: &str) -> Option<String> {
        Some("[]".to_owned())
    }
}

fn parts(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
