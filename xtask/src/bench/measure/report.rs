//! The numbers as a person reads them: the same Markdown on the terminal and in the document.

use std::fmt::{self, Display};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::paths::root;

/// The document with the method and the numbers.
pub const DOCUMENT: &str = "docs/performance.md";

const BEGIN: &str = "<!-- numbers: written by `cargo xtask bench --write` -->";
const END: &str = "<!-- end of numbers -->";

/// Numbers of one kind.
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

/// What issue and documents promise, and what came out.
pub struct Goal {
    what: String,
    /// `at most` or `at least`, with the number.
    limit: String,
    measured: String,
    met: bool,
}

impl Table {
    /// A table with its column heads and nothing in it.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self { title: title.to_owned(), rows: vec![columns.iter().map(|&column| column.to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The goals, as a table.
    pub fn of_goals(goals: &[Goal]) -> Self {
        let mut table = Self::new("Goals", &["goal", "limit", "measured", "met"]);
        for goal in goals {
            let met = if goal.met { "yes" } else { "**no**" };
            table.row([goal.what.clone(), goal.limit.clone(), goal.measured.clone(), met.to_owned()]);
        }
        table
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n", self.title)?;
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            for (cell, &width) in row.iter().zip(&widths) {
                write!(f, "| {cell:<width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                let rules: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
                writeln!(f, "|{}|", rules.join("|"))?;
            }
        }
        Ok(())
    }
}

impl Goal {
    /// A time that should stay within so many milliseconds.
    pub fn millis(what: &str, limit_ms: f64, time: Duration) -> Self {
        Self::signed_millis(what, limit_ms, time.as_secs_f64() * 1_000.0)
    }

    /// A difference of times that should.
    pub fn signed_millis(what: &str, limit_ms: f64, measured_ms: f64) -> Self {
        Self {
            what: what.to_owned(),
            limit: format!("at most {limit_ms} ms"),
            measured: format!("{measured_ms:.2} ms"),
            met: measured_ms <= limit_ms,
        }
    }

    /// Memory that should stay within so many megabytes (of a million bytes).
    pub fn megabytes(what: &str, limit_mb: f64, bytes: u64) -> Self {
        let measured = as_megabytes(bytes);
        Self {
            what: what.to_owned(),
            limit: format!("at most {limit_mb} MB"),
            measured: format!("{measured:.1} MB"),
            met: measured <= limit_mb,
        }
    }

    /// A rate per second that should be reached.
    pub fn rate(what: &str, limit: f64, measured: f64) -> Self {
        Self {
            what: what.to_owned(),
            limit: format!("at least {limit}/s"),
            measured: format!("{measured:.0}/s"),
            met: measured >= limit,
        }
    }
}

/// Bytes in megabytes of a million bytes.
#[expect(clippy::cast_precision_loss, reason = "a process is far below the point where digits get lost")]
pub fn as_megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The difference in kilobytes of a thousand bytes; negative where it became less.
pub fn as_kilobytes(after: u64, before: u64) -> f64 {
    (as_megabytes(after) - as_megabytes(before)) * 1e3
}

/// Puts the numbers into the document.
///
/// # Errors
/// When the document or its marks are missing.
pub fn write(numbers: &str) -> Result<()> {
    let path = root().join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {DOCUMENT}"))?;
    let text = replaced(&text, numbers).with_context(|| format!("{DOCUMENT} has lost the marks around its numbers"))?;
    fs::write(&path, text).with_context(|| format!("could not write {DOCUMENT}"))
}

fn replaced(document: &str, numbers: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", numbers.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_replace_what_was_between_the_marks_and_nothing_else() {
        let document = format!("method\n{BEGIN}\nold\n{END}\nmore\n");
        assert_eq!(replaced(&document, "new\n").unwrap(), format!("method\n{BEGIN}\n\nnew\n\n{END}\nmore\n"));
        assert_eq!(replaced("no marks", "new"), None);
    }

    #[test]
    fn a_table_lines_up() {
        let mut table = Table::new("T", &["a", "long"]);
        table.row(["wide cell".to_owned(), "x".to_owned()]);
        let shown = table.to_string();
        let expected = "### T\n\n| a         | long |\n|-----------|------|\n| wide cell | x    |\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_goal_that_is_missed_says_so() {
        let goals = [Goal::millis("fast", 2.0, Duration::from_millis(3)), Goal::megabytes("small", 15.0, 15_000_000)];
        let shown = Table::of_goals(&goals).to_string();
        assert!(shown.contains("| 3.00 ms  | **no** |"), "{shown}");
        assert!(shown.contains("| 15.0 MB  | yes"), "{shown}");
    }
}
