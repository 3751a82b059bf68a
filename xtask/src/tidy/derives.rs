//! No serialisable type is shared between wire, storage and domain, except ids and `EventBody` (I5).
//!
//! What `clawdforge-core` may serialise is the durable format of the event log and what that consists of;
//! a wire shape belongs to `clawdforge-api`, a row to the store.

use super::finding::Finding;
use super::lex::{Token, closing, find};
use super::tree::{File, Tree};

const SOURCES: &str = "crates/clawdforge-core/src/";

/// Types of the durable format, by file; no names: all of that file.
const DURABLE: &[(&str, &[&str])] = &[
    ("id.rs", &[]),
    ("event.rs", &[]),
    ("agent.rs", &["Usage", "Failure", "FailureKind"]),
    ("output/mod.rs", &["Violation"]),
    ("run.rs", &["SystemMode", "Effort"]),
    ("time.rs", &["Timestamp"]),
];

const TRAITS: [&str; 2] = ["Serialize", "Deserialize"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter_map(|file| Some((file, file.path.strip_prefix(SOURCES)?)))
        .flat_map(|(file, name)| check_file(file, name))
        .collect()
}

fn check_file(file: &File, name: &str) -> Vec<Finding> {
    let durable =
        |item: &str| DURABLE.iter().any(|(known, items)| *known == name && (items.is_empty() || items.contains(&item)));
    derived(&file.code)
        .into_iter()
        .chain(implemented(&file.code))
        .filter(|(item, token)| !token.test && !durable(item))
        .map(|(item, token)| {
            let sentence = format!(
                "`{item}` is no part of the durable format: give wire and storage types of their own and convert"
            );
            Finding::offence(&file.path, token.line, sentence)
        })
        .collect()
}

/// Items with `#[derive(…Serialize…)]`, by name.
fn derived(code: &[Token]) -> Vec<(&str, &Token)> {
    let mut found = Vec::new();
    for index in find(code, "derive(") {
        let end = closing(code, index + 1);
        if !code[index..end].iter().any(|token| TRAITS.contains(&token.text.as_str())) {
            continue;
        }
        let rest = &code[end..];
        let keyword = rest.iter().position(|token| ["struct", "enum", "union"].contains(&token.text.as_str()));
        let name = keyword.and_then(|keyword| rest[keyword + 1..].iter().find(|token| token.is_word()));
        found.push((name.map_or("?", |name| name.text.as_str()), &code[index]));
    }
    found
}

/// Types with `impl … Serialize for …`, by name.
fn implemented(code: &[Token]) -> Vec<(&str, &Token)> {
    let for_words = code.iter().enumerate().filter(|(_, token)| token.text == "for");
    for_words
        .filter(|(index, _)| {
            let header =
                code[..*index].iter().rev().take_while(|token| !["{", "}", ";"].contains(&token.text.as_str()));
            let header: Vec<_> = header.map(|token| token.text.as_str()).collect();
            header.contains(&"impl") && header.iter().any(|text| TRAITS.contains(text))
        })
        .filter_map(|(index, token)| {
            Some((code[index + 1..].iter().find(|token| token.is_word())?.text.as_str(), token))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    fn found(name: &str, source: &str) -> Vec<String> {
        places(&check(&Tree::of(&[(&format!("{SOURCES}{name}"), source)])))
    }

    #[test]
    fn a_serialisable_type_of_the_domain_is_found() {
        let source = "//! A.\n#[derive(Debug,\n    serde::Serialize)]\n#[serde(transparent)]\npub(crate) struct Token(String);\n";
        assert_eq!(found("app.rs", source), ["crates/clawdforge-core/src/app.rs:2"]);
        assert_eq!(found("agent.rs", "#[derive(Deserialize)] pub enum AgentSignal { A }").len(), 1);
        assert_eq!(found("app.rs", "impl<'de> Deserialize<'de> for Token { }").len(), 1);
        assert_eq!(found("app.rs", "impl serde::Serialize for Token { }").len(), 1);
    }

    #[test]
    fn the_durable_format_is_serialisable() {
        assert!(found("event.rs", "#[derive(Serialize, Deserialize)] pub enum EventBody { A }").is_empty());
        assert!(found("agent.rs", "#[derive(Serialize)] pub struct Usage { a: u8 }").is_empty());
        assert!(found("id.rs", "impl Serialize for $name { }").is_empty());
    }

    #[test]
    fn other_derives_and_other_crates_are_left_alone() {
        assert!(found("app.rs", "#[derive(Debug, Clone)] struct A; for serialize in Serialize::all() { }").is_empty());
        assert!(check(&Tree::of(&[("crates/clawdforge-api/src/a.rs", "#[derive(Serialize)] struct A;")])).is_empty());
    }
}
