//! `clawdforge-core` does no input or output, reads no clock and draws no random number (I1).

use toml::{Table, Value};

use super::finding::Finding;
use super::lex::{closing, find};
use super::tree::{File, Tree};

const MANIFEST: &str = "crates/clawdforge-core/Cargo.toml";
const SOURCES: &str = "crates/clawdforge-core/src/";

/// Crates that only compute. A crate that can wait, open, ask or draw has no place here.
const PURE: [&str; 8] = ["ipnet", "secrecy", "serde", "serde_json", "sha2", "subtle", "thiserror", "uuid"];

/// Doors to the world, as code.
const DOORS: [&str; 9] = [
    "SystemTime::now",
    "Instant::now",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "getrandom",
    "tokio",
];

/// Modules of `std` that are doors, for `use std::{…}`.
const STD_DOORS: [&str; 5] = ["fs", "net", "env", "process", "thread"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let manifest = tree.file(MANIFEST).into_iter().flat_map(check_manifest);
    let sources = tree.rust().filter(|file| file.path.starts_with(SOURCES)).flat_map(check_source);
    manifest.chain(sources).collect()
}

fn check_manifest(file: &File) -> Vec<Finding> {
    // A manifest that is not TOML is the business of `edges`.
    let manifest: Table = file.text.parse().unwrap_or_default();
    let dependencies = manifest.get("dependencies").and_then(Value::as_table);
    dependencies
        .into_iter()
        .flat_map(Table::keys)
        .filter(|name| !PURE.contains(&name.as_str()))
        .map(|name| {
            let sentence = format!("`{name}` is not known to be pure: if all it does is compute, add it to PURE in xtask/src/tidy/pure_core.rs");
            Finding::offence(&file.path, file.line_of(name), sentence)
        })
        .collect()
}

fn check_source(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |index: usize, door: &str| {
        let sentence = format!("`{door}` is a door to the world: take a value, or the Clock that was handed in");
        findings.push(Finding::offence(&file.path, file.code[index].line, sentence));
    };
    for door in DOORS {
        for index in find(&file.code, door) {
            report(index, door);
        }
    }
    for index in find(&file.code, "std::{") {
        let group = index + 4..closing(&file.code, index + 3);
        for inside in group {
            if STD_DOORS.contains(&file.code[inside].text.as_str()) {
                report(inside, &format!("std::{}", file.code[inside].text));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    fn found(source: &str) -> Vec<String> {
        places(&check(&Tree::of(&[("crates/clawdforge-core/src/a.rs", source)])))
    }

    #[test]
    fn every_door_is_found() {
        for door in DOORS {
            assert_eq!(
                found(&format!("//! A.\nfn a() {{ {door}() }}\n")),
                ["crates/clawdforge-core/src/a.rs:2"],
                "{door}"
            );
        }
        assert_eq!(found("use std::{fmt,\n fs};\n"), ["crates/clawdforge-core/src/a.rs:2"]);
    }

    #[test]
    fn talking_about_a_door_is_fine() {
        assert!(
            found("//! Not `std::fs`.\nconst A: &str = \"Instant::now\";\nuse std::{fmt, time::Duration};\n")
                .is_empty()
        );
    }

    #[test]
    fn other_crates_may_use_doors() {
        assert!(check(&Tree::of(&[("crates/clawdforge-engine/src/a.rs", "use std::fs;")])).is_empty());
    }

    #[test]
    fn a_dependency_that_can_do_more_than_compute_is_found() {
        let manifest =
            "[dependencies]\nserde.workspace = true\ntokio.workspace = true\n[dev-dependencies]\nproptest = \"1\"\n";
        assert_eq!(places(&check(&Tree::of(&[(MANIFEST, manifest)]))), ["crates/clawdforge-core/Cargo.toml:3"]);
    }
}
