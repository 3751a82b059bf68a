//! What came of a suite, for people.

use std::fmt::{self, Display, Formatter};

use clawdforge_process::sandbox::Outcome;

use super::{Expected, Ground, Row, expected};

/// What came of one row.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub row: Row,
    pub expected: Expected,
    pub observed: Outcome,
}

/// What came of all rows on one ground.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where.
    pub ground: Ground,
    /// In the order of the rows.
    pub lines: Vec<Line>,
    /// The gaps that the service said it has when it started.
    pub published: Vec<String>,
}

impl Report {
    /// The names of the rows of which something else came than was expected.
    #[must_use]
    pub fn wrong(&self) -> Vec<&'static str> {
        self.lines.iter().filter(|line| !line.holds()).map(|line| line.row.name).collect()
    }

    /// Gaps that rows name on this ground and the service does not.
    #[must_use]
    pub fn unpublished(&self) -> Vec<&'static str> {
        let named = self.lines.iter().filter_map(|line| match line.expected {
            Expected::Open(gap) => Some(gap),
            Expected::Refused | Expected::Works | Expected::Either => None,
        });
        named.filter(|gap| !self.published.iter().any(|published| published == gap)).collect()
    }

    /// The same observations, held against what another ground promises.
    #[must_use]
    pub fn judged_as(&self, ground: Ground) -> Self {
        let lines = self.lines.iter().map(|line| {
            let expected = expected(line.row.barrier, line.row.control, ground);
            Line { expected, ..*line }
        });
        Self { ground, lines: lines.collect(), published: self.published.clone() }
    }

    /// The level, and whether it was with users.
    #[must_use]
    pub fn level(&self) -> String {
        let Ground { level, users, .. } = self.ground;
        let with = if users && level.as_str() != "uid" { " + users" } else { "" };
        format!("{level}{with}")
    }
}

impl Line {
    fn holds(&self) -> bool {
        self.expected.holds(self.observed)
    }

    fn observed(&self) -> &'static str {
        match self.observed {
            Outcome::Denied => "refused",
            Outcome::Open => "open",
            Outcome::Unknown => "unknown",
        }
    }

    /// What came of it, and the gap's name where it is one; loudly where it should not have come to that.
    fn cell(&self) -> String {
        match (self.holds(), self.expected) {
            (false, _) => format!("**NOT as expected: {}**", self.observed()),
            (true, Expected::Open(gap)) => format!("**open** (`{gap}`)"),
            (true, _) => self.observed().to_owned(),
        }
    }
}

impl Display for Expected {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => out.pad("refused"),
            Self::Open(gap) => out.pad(&format!("open ({gap})")),
            Self::Works => out.pad("open (control)"),
            Self::Either => out.pad("either (control)"),
        }
    }
}

impl Display for Report {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let level = self.level();
        writeln!(
            out,
            "{:<26} {:<62} {:<18} {:<34} {:<8} ok?",
            "attack", "what it tries", "level", "expected", "observed"
        )?;
        for line in &self.lines {
            let verdict = if line.holds() { "ok" } else { "NOT" };
            let Line { row, expected, .. } = line;
            let observed = line.observed();
            writeln!(out, "{:<26} {:<62} {level:<18} {expected:<34} {observed:<8} {verdict}", row.name, row.tries)?;
        }
        Ok(())
    }
}

/// All levels beside each other, in Markdown.
#[must_use]
pub fn matrix(reports: &[Report]) -> String {
    let levels: Vec<String> = reports.iter().map(Report::level).collect();
    let mut text = format!("| attack | what it tries | {} |\n", levels.join(" | "));
    text += &format!("| --- | --- |{}\n", " --- |".repeat(reports.len()));
    let rows = reports.first().map(|report| report.lines.as_slice()).unwrap_or_default();
    for (at, line) in rows.iter().enumerate() {
        let cells: Vec<_> = reports.iter().filter_map(|report| report.lines.get(at)).map(Line::cell).collect();
        text += &format!("| `{}` | {} | {} |\n", line.row.name, line.row.tries, cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use clawdforge_core::isolation::Isolation;

    use super::super::rows::ALL;
    use super::*;

    /// The page as it is kept.
    const PAGE: &str = include_str!("../../../../docs/security/attack-suite.md");

    fn report(observed: Outcome) -> Report {
        let line = Line { row: ALL[0], expected: Expected::Refused, observed };
        Report { ground: Ground::here(Isolation::Landlock), lines: vec![line], published: Vec::new() }
    }

    #[test]
    fn what_is_not_as_expected_is_loud() {
        let (good, bad) = (report(Outcome::Denied), report(Outcome::Open));
        assert!(good.wrong().is_empty() && !good.to_string().contains("NOT"));
        assert_eq!(bad.wrong(), [ALL[0].name]);
        assert!(bad.to_string().contains("NOT") && matrix(&[good, bad]).contains("NOT as expected: open"));
    }

    #[test]
    fn every_row_is_on_the_page_and_nothing_there_is_unexpected() {
        for row in ALL {
            let cells = format!("| `{}` | {} |", row.name, row.tries);
            assert!(PAGE.contains(&cells), "{cells} is missing: `cargo xtask attack --write`");
        }
        assert!(!PAGE.contains("NOT as expected"));
    }
}
