//! There are no global mutable statics (I10): what changes has an owner, and is handed to who needs it.

use super::finding::Finding;
use super::tree::{File, Tree};

/// Types that make a static change, and macros that make such statics.
const CHANGING: [&str; 9] =
    ["Cell", "RefCell", "UnsafeCell", "Mutex", "RwLock", "OnceCell", "OnceLock", "LazyCell", "LazyLock"];
const MACROS: [&str; 2] = ["lazy_static", "thread_local"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|file| !file.is_test() && !file.path.starts_with("crates/clawdforge-testkit/"))
        .flat_map(check_file)
        .collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    (0..file.code.len())
        .filter(|index| !file.code[*index].test && changes(file, *index))
        .map(|index| {
            Finding::offence(
                &file.path,
                file.code[index].line,
                "a static that changes: give it an owner and hand it in",
            )
        })
        .collect()
}

/// Whether a static that changes is declared here.
fn changes(file: &File, index: usize) -> bool {
    let follows = |offset: usize, text: &str| file.code.get(index + offset).is_some_and(|token| token.text == text);
    let word = file.code[index].text.as_str();
    if MACROS.contains(&word) {
        return follows(1, "!");
    }
    word == "static"
        && (follows(1, "mut")
            || file.code[index..]
                .iter()
                .take_while(|token| token.text != "=" && token.text != ";" && token.text != "{")
                .any(|token| CHANGING.contains(&token.text.as_str()) || token.text.starts_with("Atomic")))
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    fn found(path: &str, source: &str) -> Vec<String> {
        places(&check(&Tree::of(&[(path, source)])))
    }

    #[test]
    fn every_kind_of_changing_static_is_found() {
        let path = "crates/x/src/a.rs";
        for source in [
            "static mut A: u8 = 0;",
            "static A: OnceLock<u8> = OnceLock::new();",
            "pub static A: std::sync::LazyLock<Vec<u8>> = LazyLock::new(Vec::new);",
            "fn f() { static COUNT: AtomicU64 = AtomicU64::new(0); }",
            "static A: Mutex<()> = Mutex::new(());",
            "lazy_static! { static ref A: u8 = 1; }",
            "thread_local! { static A: Cell<u8> = const { Cell::new(0) } }",
        ] {
            assert!(!found(path, source).is_empty(), "{source}");
        }
    }

    #[test]
    fn constants_fields_and_tests_are_fine() {
        let path = "crates/x/src/a.rs";
        assert!(
            found(path, "static A: &[&str] = &[\"a\"]; struct B { c: OnceLock<&'static str>, d: &'static mut u8 }")
                .is_empty()
        );
        assert!(found(path, "#[cfg(test)] mod tests { static A: OnceLock<u8> = OnceLock::new(); }").is_empty());
        assert!(found("crates/x/tests/it/main.rs", "static A: OnceLock<u8> = OnceLock::new();").is_empty());
    }
}
