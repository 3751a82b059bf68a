//! What the doctor found, for people and for programs.

use std::io::{self, Write};

use serde_json::json;

use super::{Check, Verdict, is_healthy};

/// Writes one aligned line for each check, below it what to do, and a last line that sums up.
pub fn text(checks: &[Check], out: &mut dyn Write) -> io::Result<()> {
    let names = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
    let margin = " ".repeat(4 + 2 + names + 2);
    for check in checks {
        let mut lines = check.what.lines();
        let first = lines.next().unwrap_or_default();
        writeln!(out, "{:4}  {:names$}  {first}", word(check.verdict), check.name)?;
        for line in lines {
            writeln!(out, "{margin}{line}")?;
        }
        if let Some(todo) = &check.todo {
            writeln!(out, "{margin}→ {todo}")?;
        }
    }
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (failures, warnings) = (count(Verdict::Fail), count(Verdict::Warn));
    match (failures, warnings) {
        (0, 0) => writeln!(out, "\nhealthy"),
        (0, _) => writeln!(out, "\nhealthy, with {}", counted(warnings, "warning")),
        (_, 0) => writeln!(out, "\nnot healthy: {}", counted(failures, "failure")),
        _ => writeln!(out, "\nnot healthy: {}, {}", counted(failures, "failure"), counted(warnings, "warning")),
    }
}

/// Writes one JSON object.
pub fn json(checks: &[Check], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = checks
        .iter()
        .map(|check| {
            let verdict = word(check.verdict).to_lowercase();
            let mut row = json!({"name": check.name, "verdict": verdict, "what": check.what, "todo": check.todo});
            if !check.details.is_null() {
                row["details"] = check.details.clone();
            }
            row
        })
        .collect();
    writeln!(out, "{:#}", json!({"healthy": is_healthy(checks), "checks": rows}))
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Vec<Check> {
        vec![
            Check::ok("port", "free"),
            Check::warn("disk space", "900 MB free", "make room"),
            Check::fail("configuration", "two errors:\n  a", "correct it"),
        ]
    }

    #[test]
    fn people_read_aligned_lines_with_what_to_do_below() {
        let mut out = Vec::new();
        text(&checks(), &mut out).unwrap();
        let expected = "\
ok    port           free
warn  disk space     900 MB free
                     → make room
FAIL  configuration  two errors:
                       a
                     → correct it

not healthy: 1 failure, 1 warning
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn programs_read_one_object() {
        let mut out = Vec::new();
        json(&checks()[..2], &mut out).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read["healthy"], true);
        assert_eq!(read["checks"][0], json!({"name": "port", "verdict": "ok", "what": "free", "todo": null}));
        assert_eq!(read["checks"][1]["verdict"], "warn");
    }
}
