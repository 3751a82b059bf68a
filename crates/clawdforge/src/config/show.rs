//! `config show`: every value with its origin, for people and for programs.
//!
//! Rows hold what may be shown and nothing else: a secret is redacted when its row is made.

use std::io::{self, Write};

use serde_json::{Value as Json, json};

use super::Loaded;
use super::origin::Origin;

/// The effective value of one option.
#[derive(Debug, Clone)]
pub struct Row {
    /// The option's key; with dots for keys of tables.
    pub key: String,
    /// Its value for people.
    pub value: String,
    /// Its value for programs.
    pub json: Json,
    /// Where the value came from.
    pub origin: Origin,
}

/// Writes an aligned table: option, value, origin.
pub fn table(loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let width = |text: fn(&Row) -> &str, heading: &str| {
        loaded.rows.iter().map(|row| text(row).chars().count()).chain([heading.len()]).max().unwrap_or_default()
    };
    let (keys, values) = (width(|row| &row.key, "OPTION"), width(|row| &row.value, "VALUE"));
    writeln!(out, "{:keys$}  {:values$}  ORIGIN", "OPTION", "VALUE")?;
    for row in &loaded.rows {
        writeln!(out, "{:keys$}  {:values$}  {}", row.key, row.value, row.origin)?;
    }
    Ok(())
}

/// Writes one JSON object with all options and the warnings.
pub fn json(loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let rows = loaded.rows.iter();
    let options: Vec<_> =
        rows.map(|row| json!({"key": row.key, "value": row.json, "origin": origin(&row.origin)})).collect();
    let document = json!({"options": options, "warnings": loaded.warnings});
    writeln!(out, "{document:#}")
}

fn origin(origin: &Origin) -> Json {
    match origin {
        Origin::Default => json!({"layer": "default"}),
        Origin::File { path, line } => json!({"layer": "file", "path": path.display().to_string(), "line": line}),
        Origin::Env(name) => json!({"layer": "env", "name": name}),
        Origin::Flag(name) => json!({"layer": "flag", "name": name}),
    }
}
