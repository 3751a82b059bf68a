//! What is in the tree is finished: no stubs, no marks for later, no ignored tests.

use super::finding::Finding;
use super::lex::find;
use super::tree::{File, Tree};

/// Endings of files that are read for marks.
const SOURCES: [&str; 7] = [".rs", ".toml", ".sh", ".py", ".sql", ".yml", "Dockerfile"];

/// Marks for later, in two halves so that this file does not contain them.
const MARKS: [&str; 3] = [concat!("FIX", "ME"), concat!("XX", "X"), concat!("TO", "DO")];

const STUBS: [(&str, &str); 3] = [
    ("todo!", "a stub: build it, or leave it out and open an issue"),
    ("unimplemented!", "a stub: build it, or leave it out and open an issue"),
    ("#[ignore", "an ignored test says nothing: assert what is, with a note on what should be"),
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let read = tree.files().iter().filter(|file| SOURCES.iter().any(|ending| file.path.ends_with(ending)));
    read.flat_map(|file| stubs(file).chain(marks(file))).collect()
}

fn stubs(file: &File) -> impl Iterator<Item = Finding> {
    STUBS.iter().flat_map(|(code, sentence)| {
        find(&file.code, code).into_iter().map(|index| Finding::offence(&file.path, file.code[index].line, *sentence))
    })
}

fn marks(file: &File) -> impl Iterator<Item = Finding> {
    file.lines().filter_map(|(number, line)| {
        let mut words = line.split(|character: char| !character.is_alphanumeric());
        let mark = words.find(|word| MARKS.contains(word))?;
        Some(Finding::offence(
            &file.path,
            number,
            format!("`{mark}`: do it now, or open an issue and say here what is"),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    #[test]
    fn stubs_and_ignored_tests_are_found() {
        let source = "//! A.\nfn a() { todo!() }\nfn b() { unimplemented!(\"b\") }\n#[ignore = \"slow\"]\n";
        assert_eq!(places(&check(&Tree::of(&[("a.rs", source)]))), ["a.rs:2", "a.rs:3", "a.rs:4"]);
    }

    #[test]
    fn marks_for_later_are_found_in_every_kind_of_source() {
        for mark in MARKS {
            let text = format!("first\n# {mark}: later\n");
            let tree = Tree::of(&[("a.rs", &text), ("b.sh", &text), ("deploy/Dockerfile", &text), ("c.md", &text)]);
            assert_eq!(places(&check(&tree)), ["a.rs:2", "b.sh:2", "deploy/Dockerfile:2"], "{mark}");
        }
    }

    #[test]
    fn words_that_only_look_alike_are_fine() {
        let text = format!("mktemp {0}{0}\nlet todo = ignore;\n", MARKS[1]);
        assert!(check(&Tree::of(&[("a.sh", &text), ("b.rs", "fn todo() { ignore(\"todo!\") }")])).is_empty());
    }
}
