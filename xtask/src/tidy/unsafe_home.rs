//! Only `clawdforge-process` contains `unsafe` (I4); everywhere else the lint of the workspace stands.

use toml::{Table, Value};

use super::finding::Finding;
use super::lex::Token;
use super::tree::{File, Tree};

const HOME: &str = "crates/clawdforge-process/";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let code = tree.rust().filter(|file| !file.path.starts_with(HOME)).flat_map(check_code);
    let manifests = tree.manifests().filter_map(check_manifest);
    code.chain(manifests).collect()
}

fn check_code(file: &File) -> Vec<Finding> {
    let offends = |index: usize| match file.code[index].text.as_str() {
        "unsafe" => true,
        "unsafe_code" => permits(&file.code[..index]),
        _ => false,
    };
    (0..file.code.len())
        .filter(|index| offends(*index))
        .map(|index| {
            Finding::offence(
                &file.path,
                file.code[index].line,
                "unsafe code lives in `clawdforge-process` alone: move it there behind a safe function",
            )
        })
        .collect()
}

/// Whether the list of lints that ends here is one of `allow(…)` or its like.
fn permits(before: &[Token]) -> bool {
    let opens = before.iter().rposition(|token| token.text == "(");
    let level = opens.and_then(|opens| before.get(opens.checked_sub(1)?));
    level.is_some_and(|level| ["allow", "expect", "warn"].contains(&level.text.as_str()))
}

/// A crate that does not take the lints of the workspace has no ban on unsafe code at all.
fn check_manifest(file: &File) -> Option<Finding> {
    // A manifest that is not TOML is the business of `edges`.
    let manifest: Table = file.text.parse().unwrap_or_default();
    let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
    (inherits != Some(true)).then(|| {
        Finding::offence(
            &file.path,
            file.line_of("[lints"),
            "add `[lints]` with `workspace = true`: without it the bans of the workspace do not hold",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    fn found(path: &str, source: &str) -> Vec<String> {
        places(&check(&Tree::of(&[(path, source)])))
    }

    #[test]
    fn unsafe_code_outside_its_home_is_found() {
        let path = "crates/clawdforge-agent/src/a.rs";
        assert_eq!(found(path, "//! A.\nfn a() { unsafe { b() } }\n"), [format!("{path}:2")]);
        assert_eq!(found(path, "#[expect(unsafe_code, reason = \"r\")]\n").len(), 1);
        assert_eq!(found(path, "#![allow(dead_code, unsafe_code)]\n").len(), 1);
    }

    #[test]
    fn its_home_a_ban_and_the_word_in_a_text_are_fine() {
        assert!(found("crates/clawdforge-process/src/a.rs", "fn a() { unsafe { b() } }\n").is_empty());
        assert!(
            found("crates/x/src/a.rs", "//! No unsafe code.\n#![forbid(unsafe_code)]\nconst A: &str = \"unsafe\";\n")
                .is_empty()
        );
    }

    #[test]
    fn a_crate_that_goes_without_the_lints_is_found() {
        assert_eq!(
            found("crates/x/Cargo.toml", "[package]\nname = \"x\"\n[lints.rust]\nunsafe_code = \"allow\"\n"),
            ["crates/x/Cargo.toml:3"]
        );
        assert!(found("crates/x/Cargo.toml", "[lints]\nworkspace = true\n").is_empty());
    }
}
