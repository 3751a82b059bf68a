//! A test waits for an event, a condition with a deadline, or moves the clock; it does not sleep.
//!
//! Where a sleep is meant (the pause of a loop that looks for a condition, a clock that tests hold still),
//! a comment above it with `why:` says so.

use super::finding::Finding;
use super::tree::{File, Tree};

const SLEEPS: [&str; 3] = ["sleep", "sleep_until", "sleep_ms"];
const REASON: &str = "why:";

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust().flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    let lines: Vec<_> = file.text.lines().collect();
    let calls = file.code.windows(2).enumerate().filter(|(index, pair)| {
        // `fn sleep(` declares, it does not wait.
        let declared = index.checked_sub(1).is_some_and(|before| file.code[before].text == "fn");
        (file.is_test() || pair[0].test) && !declared && SLEEPS.contains(&pair[0].text.as_str()) && pair[1].text == "("
    });
    calls
        .filter(|(_, pair)| !explained(&lines[..pair[0].line - 1]))
        .map(|(_, pair)| {
            Finding::offence(
                &file.path,
                pair[0].line,
                "a test that sleeps: wait for an event or a condition with a deadline, or say `// why:` above",
            )
        })
        .collect()
}

/// Whether the comment that ends these lines gives a reason.
fn explained(above: &[&str]) -> bool {
    above
        .iter()
        .rev()
        .map(|line| line.trim_start())
        .take_while(|line| line.starts_with("//"))
        .any(|line| line.contains(REASON))
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    fn found(path: &str, source: &str) -> Vec<String> {
        places(&check(&Tree::of(&[(path, source)])))
    }

    #[test]
    fn a_test_that_sleeps_is_found() {
        let source = "//! A.\nfn a() {\n    tokio::time::sleep(PAUSE).await;\n}\n";
        assert_eq!(found("crates/x/tests/it/a.rs", source), ["crates/x/tests/it/a.rs:3"]);
        assert_eq!(found("crates/x/src/tests.rs", source).len(), 1);
        assert_eq!(found("crates/x/src/a.rs", "#[cfg(test)] mod tests { fn a() { sleep(PAUSE); } }").len(), 1);
    }

    #[test]
    fn a_reason_directly_above_is_enough_and_one_further_up_is_not() {
        let meant = "fn a() {\n    // why: the pause between\n    // two looks.\n    sleep(PAUSE);\n}\n";
        assert!(found("crates/x/tests/it/a.rs", meant).is_empty());
        let apart = "fn a() {\n    // why: something else\n    b();\n    sleep(PAUSE);\n}\n";
        assert_eq!(found("crates/x/tests/it/a.rs", apart).len(), 1);
    }

    #[test]
    fn product_code_texts_and_declarations_are_left_alone() {
        assert!(found("crates/x/src/a.rs", "fn a() { sleep(PAUSE); }").is_empty());
        assert!(found("crates/x/tests/it/a.rs", "fn sleep() { run(\"sleep(1)\"); }").is_empty());
    }
}
