//! Decision records have a number of their own and say where they stand.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::tree::{File, Tree};

const FOLDER: &str = "docs/decisions/";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
    let mut findings = Vec::new();
    for record in tree.files() {
        let Some(name) = record.path.strip_prefix(FOLDER).filter(|name| name.ends_with(".md") && *name != "README.md")
        else {
            continue;
        };
        let mut offence = |sentence: String| findings.push(Finding::offence(&record.path, 1, sentence));
        match number(name) {
            None => offence("name it `NNNN-title.md`, with the next free number".to_owned()),
            Some(number) => {
                if let Some(other) = numbers.insert(number, &record.path) {
                    offence(format!("the number {number} is taken by {other}: take the next free one"));
                }
            }
        }
        if !has_status(record) {
            offence("add a line `Status: …` (proposed, accepted, superseded by NNNN)".to_owned());
        }
    }
    findings
}

/// The four digits before the first hyphen.
fn number(name: &str) -> Option<&str> {
    let (number, title) = name.split_once('-')?;
    (number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit()) && title.len() > ".md".len())
        .then_some(number)
}

fn has_status(record: &File) -> bool {
    record
        .lines()
        .any(|(_, line)| line.trim_start_matches(['*', '-', '#', '_', ' ']).to_lowercase().starts_with("status"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    #[test]
    fn a_record_without_status_number_or_its_own_number_is_found() {
        let tree = Tree::of(&[
            ("docs/decisions/0001-crates.md", "# Crates\n\n**Status:** accepted\n"),
            ("docs/decisions/0001-again.md", "# Again\n\nStatus: accepted\n"),
            ("docs/decisions/0002-silent.md", "# Silent\n"),
            ("docs/decisions/3-short.md", "# Short\n\n- Status: proposed\n"),
            ("docs/decisions/README.md", "# Decisions\n"),
        ]);
        let expected =
            ["docs/decisions/0001-again.md:1", "docs/decisions/0002-silent.md:1", "docs/decisions/3-short.md:1"];
        assert_eq!(places(&check(&tree)), expected);
    }

    #[test]
    fn pages_elsewhere_need_no_status() {
        assert!(check(&Tree::of(&[("docs/guides/install.md", "# Install\n")])).is_empty());
    }
}
