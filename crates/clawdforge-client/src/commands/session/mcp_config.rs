//! A file of tool servers, in the form that other programs take as well.

use std::path::Path;

use clawdforge_api::v1::McpServer;
use serde_json::{Value, json};

use crate::commands::failure::CommandError;

/// The tool servers of a file.
pub(super) fn read(path: &Path) -> Result<Vec<McpServer>, CommandError> {
    let wrong = |why: String| CommandError::Usage(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    servers(&text).map_err(wrong)
}

fn servers(text: &str) -> Result<Vec<McpServer>, String> {
    let whole: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
    let servers = whole["mcpServers"].as_object().ok_or("it has no object `mcpServers`")?;
    let one = |(name, server): (&String, &Value)| {
        let mut server = server.as_object().cloned().unwrap_or_default();
        server.insert("name".to_owned(), json!(name));
        // What serde says would repeat what it found, and there may be secrets in it.
        serde_json::from_value(Value::Object(server))
            .map_err(|_| format!("`{name}` is neither a program (`command`) nor an address (`type` and `url`)"))
    };
    servers.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_addresses_are_read_and_the_rest_is_told_by_name() {
        let read = servers(
            r#"{"mcpServers": {"docs": {"type": "http", "url": "https://example.org"}, "sum": {"command": "node", "env": {"A": "b"}}}}"#,
        );
        let wanted = json!([
            {"type": "http", "name": "docs", "url": "https://example.org", "headers": {}},
            {"name": "sum", "command": "node", "args": [], "env": {"A": "b"}},
        ]);
        assert_eq!(serde_json::to_value(read.unwrap()).unwrap(), wanted);
        for (text, said) in [
            ("{", "no JSON"),
            ("[]", "no object `mcpServers`"),
            (r#"{"mcpServers": {"bad": {"url": "canary"}}}"#, "`bad` is neither"),
            (r#"{"mcpServers": {"bad": "canary"}}"#, "`bad` is neither"),
        ] {
            let error = servers(text).unwrap_err();
            assert!(error.contains(said) && !error.contains("canary"), "{error}");
        }
    }
}
