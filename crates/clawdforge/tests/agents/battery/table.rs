//! The table is whole, and the one that people read is the same.

use super::subject::Subject;
use super::{Row, TABLE};

/// The cases that a driver is asked for, in their order.
const CASES: [&str; 12] = [
    "open",
    "turn",
    "memory",
    "tool",
    "attachment",
    "cancel",
    "kill_agent",
    "kill_adapter",
    "restart",
    "flood",
    "garbage",
    "hang",
];

const PAGE: &str = include_str!("../../../../../docs/reference/agents/sessions.md");

const BEGIN: &str = "<!-- The table of the battery, compared by its tests. -->\n";
const END: &str = "<!-- The end of the table. -->\n";

#[test]
fn every_case_is_told_of_every_subject_or_says_why_not() {
    assert_eq!(TABLE.iter().map(|row| row.case).collect::<Vec<_>>(), CASES);
    for row in TABLE {
        for subject in Subject::ALL.map(Subject::name) {
            let tested = row.tested.iter().filter(|name| **name == subject).count();
            let excluded = row.excluded.iter().filter(|(name, _)| *name == subject).count();
            assert_eq!(tested + excluded, 1, "{}::{subject} is to be a test, or excluded with a reason", row.case);
        }
        assert_eq!(row.tested.len() + row.excluded.len(), Subject::ALL.len(), "{} names nobody else", row.case);
        assert!(row.excluded.iter().all(|(_, why)| !why.is_empty()), "{} says why", row.case);
    }
    for subject in Subject::ALL {
        let has_none =
            TABLE.iter().any(|row| row.case == "kill_adapter" && row.excluded.iter().any(|it| it.0 == subject.name()));
        assert_eq!(has_none, subject.between().is_empty(), "{} has something in between, or not", subject.name());
    }
}

#[test]
fn the_table_that_people_read_is_this_one() {
    let shown = PAGE.split_once(BEGIN).and_then(|(_, rest)| Some(rest.split_once(END)?.0));
    let table = rendered();
    assert!(shown == Some(table.as_str()), "put this between the marks in docs/reference/agents/sessions.md:\n{table}");
}

fn rendered() -> String {
    let names = Subject::ALL.map(|subject| format!("`{}`", subject.name()));
    let mut table = format!("| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    let mut notes: Vec<&str> = Vec::new();
    for row in TABLE {
        let cells = Subject::ALL.map(|subject| cell(row, subject, &mut notes));
        table.push_str(&format!("| `{}` | {} |\n", row.case, cells.join(" | ")));
    }
    for (number, why) in (1..).zip(notes) {
        table.push_str(&format!("\n({number}) Not tested: {why}.\n"));
    }
    table
}

fn cell(row: &Row, subject: Subject, notes: &mut Vec<&'static str>) -> String {
    let Some((_, why)) = row.excluded.iter().find(|(name, _)| *name == subject.name()) else { return "✓".to_owned() };
    let number = notes.iter().position(|note| note == why).unwrap_or_else(|| {
        notes.push(why);
        notes.len() - 1
    });
    format!("({})", number + 1)
}
