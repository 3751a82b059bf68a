//! The tool servers of a new session: read with all faults at their places.
//!
//! No fault repeats what it found: there are secrets in it.

use std::collections::HashSet;

use axum::http::{HeaderName, HeaderValue, Uri};
use clawdforge_core::limits::{TOOL_SERVER_NAME_CHARS_MAX, TOOL_SERVERS_BYTES_MAX, TOOL_SERVERS_MAX};
use clawdforge_core::tools::{NamedSecret, Remote, ToolServer, Transport, is_server_name};
use serde_json::{Map, Value, json};

use crate::validate::Fields;

const KEY: &str = "mcp_servers";

/// The kinds of a server on the wire; a server that says none is a program.
const KINDS: [(&str, Option<Remote>); 3] = [("stdio", None), ("http", Some(Remote::Http)), ("sse", Some(Remote::Sse))];

/// The tool servers of a body; none where there are faults.
pub(super) fn read(fields: &mut Fields<'_>) -> Vec<ToolServer> {
    let items = fields.optional_list(KEY, TOOL_SERVERS_MAX, TOOL_SERVERS_BYTES_MAX);
    let mut names = HashSet::new();
    let mut servers = Vec::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        let Some(item) = item.as_object() else {
            fields.inner_fault(KEY, vec![json!(place)], "dict_type", "Input should be a valid dictionary");
            continue;
        };
        let server = Reader { fields, place, item }.server();
        if let Some(server) = server {
            if !names.insert(server.name.clone()) {
                let message = "Value error, another server has this name";
                fields.inner_fault(KEY, vec![json!(place), json!("name")], "value_error", message);
            }
            servers.push(server);
        }
    }
    servers
}

/// Reads one server.
struct Reader<'r, 'f> {
    fields: &'r mut Fields<'f>,
    place: usize,
    item: &'r Map<String, Value>,
}

impl Reader<'_, '_> {
    fn server(mut self) -> Option<ToolServer> {
        let kind = self.kind();
        let name = self.text("name", true);
        let name = name.filter(|name| self.is_name(name));
        let transport = match kind? {
            None => {
                let (command, args) = (self.text("command", true), self.args());
                let env = self.pairs("env", &VARIABLES);
                Transport::Stdio { command: command?, args: args?, env: env? }
            }
            Some(kind) => {
                let url = self.text("url", true).filter(|url| self.is_url(url));
                let headers = self.pairs("headers", &HEADERS);
                Transport::Remote { kind, url: url?, headers: headers? }
            }
        };
        Some(ToolServer { name: name?, transport })
    }

    /// Which kind it is; `None` where it is none of ours.
    fn kind(&mut self) -> Option<Option<Remote>> {
        let told = match self.item.get("type") {
            None | Some(Value::Null) => return Some(None),
            Some(told) => told.as_str(),
        };
        let found = KINDS.into_iter().find(|(word, _)| told == Some(*word));
        if found.is_none() {
            self.fault(&["type"], "literal_error", "Input should be 'stdio', 'http' or 'sse'");
        }
        found.map(|(_, kind)| kind)
    }

    fn is_name(&mut self, name: &str) -> bool {
        let is_right = is_server_name(name) && name.len() <= TOOL_SERVER_NAME_CHARS_MAX;
        if !is_right {
            let message = format!(
                "Value error, a server's name has 1 to {TOOL_SERVER_NAME_CHARS_MAX} characters out of a-z, A-Z, 0-9, _ and -"
            );
            self.fault(&["name"], "value_error", &message);
        }
        is_right
    }

    fn is_url(&mut self, url: &str) -> bool {
        let parsed = url.parse::<Uri>().ok();
        let is_right = parsed.is_some_and(|url| {
            matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty())
        });
        if !is_right {
            self.fault(&["url"], "value_error", "Value error, this is no address that begins with http:// or https://");
        }
        is_right
    }

    /// A text without zero bytes.
    fn text(&mut self, key: &str, is_required: bool) -> Option<String> {
        match self.item.get(key) {
            None | Some(Value::Null) if is_required => self.fault(&[key], "missing", "Field required"),
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() => {
                self.fault(&[key], "string_too_short", "String should have at least 1 character");
            }
            Some(Value::String(text)) if text.contains('\0') => {
                self.fault(&[key], "value_error", "Value error, a zero byte has no place in it");
            }
            Some(Value::String(text)) => return Some(text.clone()),
            Some(_) => self.fault(&[key], "string_type", "Input should be a valid string"),
        }
        None
    }

    fn args(&mut self) -> Option<Vec<String>> {
        let items = match self.item.get("args") {
            None | Some(Value::Null) => return Some(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.fault(&["args"], "list_type", "Input should be a valid list");
                return None;
            }
        };
        let mut args = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            match item {
                Value::String(text) if !text.contains('\0') => args.push(text.clone()),
                _ => self.fault_at(
                    vec![json!("args"), json!(place)],
                    "string_type",
                    "Input should be a string without zero bytes",
                ),
            }
        }
        (args.len() == items.len()).then_some(args)
    }

    /// An object of texts, which are secrets.
    fn pairs(&mut self, key: &str, rules: &Rules) -> Option<Vec<NamedSecret>> {
        let items = match self.item.get(key) {
            None | Some(Value::Null) => return Some(Vec::new()),
            Some(Value::Object(items)) => items,
            Some(_) => {
                self.fault(&[key], "dict_type", "Input should be a valid dictionary");
                return None;
            }
        };
        let mut pairs = Vec::with_capacity(items.len());
        for (name, value) in items {
            // A name that is none of ours may be a value in the wrong place.
            let (shown, message) = match value {
                _ if name.len() > TOOL_SERVER_NAME_CHARS_MAX || !(rules.is_name)(name) => ("", rules.wrong_name),
                Value::String(text) if (rules.is_value)(text) => {
                    pairs.push(NamedSecret { name: name.clone(), value: text.clone().into() });
                    continue;
                }
                _ => (name.as_str(), rules.wrong_value),
            };
            self.fault(&[key, shown], "value_error", message);
        }
        (pairs.len() == items.len()).then_some(pairs)
    }

    fn fault(&mut self, path: &[&str], kind: &str, message: &str) {
        self.fault_at(path.iter().map(|part| json!(part)).collect(), kind, message);
    }

    fn fault_at(&mut self, path: Vec<Value>, kind: &str, message: &str) {
        let place = [json!(self.place)].into_iter().chain(path).collect();
        self.fields.inner_fault(KEY, place, kind, message);
    }
}

/// What names and values of a kind of pair must be.
struct Rules {
    is_name: fn(&str) -> bool,
    wrong_name: &'static str,
    is_value: fn(&str) -> bool,
    wrong_value: &'static str,
}

const VARIABLES: Rules = Rules {
    is_name: |name| !name.is_empty() && !name.contains(['=', '\0']),
    wrong_name: "Value error, the name of a variable has 1 to 64 bytes, no = and no zero byte",
    is_value: |value| !value.contains('\0'),
    wrong_value: "Value error, the value of a variable is a text without zero bytes",
};

const HEADERS: Rules = Rules {
    is_name: |name| HeaderName::from_bytes(name.as_bytes()).is_ok(),
    wrong_name: "Value error, the name of a header has 1 to 64 of the characters that HTTP takes",
    is_value: |value| HeaderValue::from_str(value).is_ok(),
    wrong_value: "Value error, the value of a header is a text of visible ASCII characters and spaces",
};

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[&str] = &[KEY];

    fn read_body(servers: &Value) -> Result<Vec<ToolServer>, Vec<(String, String)>> {
        let body = json!({ KEY: servers }).to_string();
        let mut fields = Fields::of_body(body.as_bytes(), FIELDS).unwrap();
        let servers = read(&mut fields);
        let place = |loc: &[Value]| {
            let parts = loc.iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned));
            parts.collect::<Vec<_>>().join(".")
        };
        let told = |faults: Vec<clawdforge_api::legacy::ValidationFault>| {
            assert!(faults.iter().all(|fault| fault.input == Value::Null), "{faults:?}");
            faults.into_iter().map(|fault| (place(&fault.loc), fault.kind)).collect()
        };
        fields.finish().map(|()| servers).map_err(told)
    }

    #[test]
    fn servers_are_programs_or_addresses() {
        let servers = read_body(&json!([
            {"name": "sum", "command": "node", "args": ["-e", "x"], "env": {"TOKEN": "a\nb"}},
            {"type": "stdio", "name": "plain", "command": "/bin/cat", "args": null, "more": 1},
            {"type": "http", "name": "docs", "url": "https://example.org/mcp", "headers": {"Authorization": "Bearer x"}},
            {"type": "sse", "name": "old", "url": "http://127.0.0.1:9/sse"},
        ]));
        let named =
            |name: &str, value: &str| vec![NamedSecret { name: name.to_owned(), value: value.to_owned().into() }];
        let stdio = |command: &str, args: &[&str], env| Transport::Stdio {
            command: command.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env,
        };
        let remote = |kind, url: &str, headers| Transport::Remote { kind, url: url.to_owned(), headers };
        let wanted = [
            ("sum", stdio("node", &["-e", "x"], named("TOKEN", "a\nb"))),
            ("plain", stdio("/bin/cat", &[], Vec::new())),
            ("docs", remote(Remote::Http, "https://example.org/mcp", named("Authorization", "Bearer x"))),
            ("old", remote(Remote::Sse, "http://127.0.0.1:9/sse", Vec::new())),
        ];
        let wanted: Vec<_> =
            wanted.into_iter().map(|(name, transport)| ToolServer { name: name.to_owned(), transport }).collect();
        assert_eq!(servers.unwrap(), wanted);
        assert_eq!(read_body(&Value::Null).unwrap(), []);
    }

    #[test]
    fn all_faults_of_servers_are_told_at_once_with_their_places_and_without_what_was_found() {
        let faults = read_body(&json!([
            "canary",
            {"name": "a b", "args": ["x", 7], "env": {"TOKEN": 7, "A=canary": "x"}},
            {"type": "pipe", "name": "canary"},
            {"type": "http", "name": "same", "url": "file:///canary", "headers": {"a b": "x", "x-y": "1\r\n2"}},
            {"name": "twice", "command": "c"},
            {"name": "twice", "command": "c", "env": []},
        ]));
        let wanted = [
            ("0", "dict_type"),
            ("1.name", "value_error"),
            ("1.command", "missing"),
            ("1.args.1", "string_type"),
            ("1.env.TOKEN", "value_error"),
            ("1.env.", "value_error"),
            ("2.type", "literal_error"),
            ("3.url", "value_error"),
            ("3.headers.", "value_error"),
            ("3.headers.x-y", "value_error"),
            ("5.env", "dict_type"),
        ];
        let wanted: Vec<_> =
            wanted.iter().map(|(place, kind)| (format!("body.mcp_servers.{place}"), (*kind).to_owned())).collect();
        assert_eq!(faults.unwrap_err(), wanted);
        let twice = read_body(&json!([{"name": "x", "command": "c"}, {"name": "x", "command": "c"}]));
        assert_eq!(twice.unwrap_err(), [("body.mcp_servers.1.name".to_owned(), "value_error".to_owned())]);
    }

    #[test]
    fn more_servers_and_larger_ones_than_may_be_are_refused() {
        let many: Vec<_> = (0..=TOOL_SERVERS_MAX).map(|n| json!({"name": n.to_string(), "command": "c"})).collect();
        let large = json!([{"name": "x", "command": "c".repeat(TOOL_SERVERS_BYTES_MAX)}]);
        for servers in [json!(many), large, json!({}), json!("x")] {
            let faults = read_body(&servers).unwrap_err();
            assert_eq!((faults.len(), faults[0].0.as_str()), (1, "body.mcp_servers"));
        }
        assert_eq!(read_body(&json!(many[1..])).unwrap().len(), TOOL_SERVERS_MAX);
    }
}
