//! `cargo xtask tidy`: the rules of the house that a compiler cannot know, one file each.
//!
//! A rule is a function from the [`Tree`] of sources to [`Finding`]s and does no input or output, so each
//! proves in its unit tests that it catches a bad sample. The whole tree is checked by `cargo xtask
//! test` and by an ordinary test below.

mod decisions;
mod derives;
mod edges;
mod file_length;
mod finding;
mod lex;
mod links;
mod machine_paths;
mod module_docs;
mod protocol_home;
mod pure_core;
mod registries;
mod sleeping_tests;
mod statics;
mod tree;
mod unfinished;
mod unsafe_home;

use std::time::Instant;

use anyhow::{Result, bail};

use self::finding::{Finding, Weight};
use self::tree::Tree;
use crate::paths::root;
use crate::say;

/// One rule: its name, and what looks for offences.
struct Rule {
    /// The name in the output and in STYLE.md.
    name: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

const RULES: [Rule; 14] = [
    Rule { name: "edges", check: edges::check },
    Rule { name: "pure-core", check: pure_core::check },
    Rule { name: "unsafe-home", check: unsafe_home::check },
    Rule { name: "protocol-home", check: protocol_home::check },
    Rule { name: "statics", check: statics::check },
    Rule { name: "derives", check: derives::check },
    Rule { name: "file-length", check: file_length::check },
    Rule { name: "module-docs", check: module_docs::check },
    Rule { name: "unfinished", check: unfinished::check },
    Rule { name: "sleeping-tests", check: sleeping_tests::check },
    Rule { name: "machine-paths", check: machine_paths::check },
    Rule { name: "registries", check: registries::check },
    Rule { name: "links", check: links::check },
    Rule { name: "decisions", check: decisions::check },
];

/// Checks the tree and prints what was found.
///
/// # Errors
/// At least one finding that is more than a note, or the sources could not be read.
pub fn run() -> Result<()> {
    let started = Instant::now();
    let tree = Tree::read(&root())?;
    let offences = report(&tree);
    if offences > 0 {
        bail!("tidy found {offences} offence(s); each line above says what to do");
    }
    say::line(format_args!(
        "    tidy: {} rules kept by {} files ({} ms)",
        RULES.len(),
        tree.files().len(),
        started.elapsed().as_millis()
    ));
    Ok(())
}

/// Prints all findings; returns how many are more than a note.
fn report(tree: &Tree) -> usize {
    let mut offences = 0;
    for rule in &RULES {
        for finding in (rule.check)(tree) {
            say::line(finding.show(rule.name));
            offences += usize::from(finding.weight == Weight::Offence);
        }
    }
    offences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_keep_the_rules_of_the_house() {
        let tree = Tree::read(&root()).unwrap();
        assert!(tree.file("crates/clawdforge-core/src/lib.rs").is_some(), "the sources were not found");
        assert_eq!(report(&tree), 0, "offences, see above");
    }

    #[test]
    fn one_offence_is_counted_and_a_note_is_not() {
        let long = format!("//! Long.\n{}", "// line\n".repeat(500));
        let tree = Tree::of(&[("crates/x/src/a.rs", &long), ("crates/x/src/b.rs", "fn undocumented() {}\n")]);
        assert_eq!(report(&tree), 1);
    }

    #[test]
    fn the_style_guide_names_every_rule() {
        let style = Tree::read(&root()).unwrap().file("STYLE.md").unwrap().text.clone();
        let missing: Vec<_> =
            RULES.iter().filter(|rule| !style.contains(&format!("`{}`", rule.name))).map(|rule| rule.name).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }
}
