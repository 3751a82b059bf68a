//! Ledger lines for a spreadsheet and for a person.

use std::fmt::Write;
use std::io;

use clawdforge_api::admin::LedgerEntry;

use super::text::printable;

/// The columns of an export: every field of [`LedgerEntry`], in its order.
const COLUMNS: [&str; 22] = [
    "seq",
    "at",
    "kind",
    "principal",
    "app",
    "request_id",
    "subject",
    "agent",
    "model_asked",
    "model_used",
    "prompt_chars",
    "answer_chars",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost_usd",
    "size_bytes",
    "duration_ms",
    "outcome",
    "isolation",
    "count",
];

/// Comma-separated values, page by page; the heading comes first, even of an empty ledger.
#[derive(Default)]
pub(super) struct CsvLines {
    headed: bool,
}

impl CsvLines {
    pub(super) fn page(&mut self, entries: &[LedgerEntry]) -> io::Result<Vec<u8>> {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        if !self.headed {
            writer.write_record(COLUMNS)?;
            self.headed = true;
        }
        for entry in entries {
            writer.serialize(entry)?;
        }
        writer.into_inner().map_err(|error| io::Error::new(error.error().kind(), error.to_string()))
    }
}

/// What a person looks for, in columns as wide as they must be.
pub(super) fn table(entries: &[LedgerEntry]) -> String {
    const HEADING: [&str; 10] = ["SEQ", "AT", "KIND", "APP", "MODEL", "IN", "OUT", "COST", "TIME", "OUTCOME"];
    let mut rows: Vec<[String; 10]> = vec![HEADING.map(str::to_owned)];
    rows.extend(entries.iter().map(|entry| cells(entry).map(|cell| printable(&cell))));
    let mut widths = [0; 10];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Writing into a string cannot fail. Numbers stand to the right.
            let _ = if matches!(column, 0 | 5..=8) {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn cells(entry: &LedgerEntry) -> [String; 10] {
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    [
        entry.seq.to_string(),
        entry.at.clone(),
        entry.kind.clone(),
        entry.app.clone().unwrap_or_default(),
        entry.model_used.clone().or_else(|| entry.model_asked.clone()).unwrap_or_default(),
        number(entry.input_tokens),
        number(entry.output_tokens),
        entry.cost_usd.map_or_else(String::new, |cost| format!("${cost:.4}")),
        entry.duration_ms.map_or_else(String::new, |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100)),
        entry.outcome.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry(changes: &Value) -> LedgerEntry {
        let mut line: serde_json::Map<String, Value> =
            COLUMNS.iter().map(|column| ((*column).to_owned(), Value::Null)).collect();
        let base = json!({"seq": 1, "at": "2026-01-02T03:04:05.678Z", "kind": "run_ended", "principal": "app"});
        for changed in [&base, changes] {
            line.extend(changed.as_object().unwrap().clone());
        }
        serde_json::from_value(Value::Object(line)).unwrap()
    }

    #[test]
    fn the_heading_names_every_field_in_its_order() {
        let line = serde_json::to_string(&entry(&json!({}))).unwrap();
        let mut last = 0;
        for column in COLUMNS {
            let at = line.find(&format!("\"{column}\":")).unwrap_or_else(|| panic!("{column} is no field"));
            assert!(at >= last, "{column} is out of order");
            last = at;
        }
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap().as_object().unwrap().len(), COLUMNS.len());
    }

    #[test]
    fn values_with_commas_quotes_and_line_breaks_are_quoted() {
        let line = entry(&json!({"model_asked": "a,b", "subject": "say \"x\"\nnow", "cost_usd": 0.25}));
        let text = String::from_utf8(CsvLines::default().page(&[line]).unwrap()).unwrap();
        let (heading, rest) = text.split_once('\n').unwrap();
        assert_eq!(heading, COLUMNS.join(","));
        assert_eq!(
            rest,
            "1,2026-01-02T03:04:05.678Z,run_ended,app,,,\"say \"\"x\"\"\nnow\",,\"a,b\",,,,,,,,0.25,,,,,\n"
        );
    }

    #[test]
    fn the_heading_is_written_once_and_for_an_empty_ledger_too() {
        let mut csv = CsvLines::default();
        assert_eq!(csv.page(&[]).unwrap(), format!("{}\n", COLUMNS.join(",")).into_bytes());
        let next = String::from_utf8(csv.page(&[entry(&json!({}))]).unwrap()).unwrap();
        assert!(next.starts_with("1,"), "{next}");
    }

    #[test]
    fn the_table_is_aligned_and_safe_for_a_terminal() {
        let lines = [
            entry(&json!({"app": "a", "model_asked": "evil\u{1b}[2J", "duration_ms": 12_345, "outcome": "completed"})),
            entry(&json!({"seq": 22, "app": "longer", "model_used": "opus", "cost_usd": 0.5, "input_tokens": 7})),
        ];
        let shown = table(&lines);
        let rows: Vec<&str> = shown.lines().collect();
        assert_eq!(rows.len(), 3);
        assert!(!shown.contains('\u{1b}'));
        let app = rows[0].find("APP").unwrap();
        assert!(rows[1][app..].starts_with("a ") && rows[2][app..].starts_with("longer "), "{shown}");
        assert!(rows[1].contains("12.3 s") && rows[1].ends_with("completed"), "{shown}");
        assert!(rows[2].contains("$0.5000"), "{shown}");
    }
}
