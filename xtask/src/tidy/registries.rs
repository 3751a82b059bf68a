//! No file chooses a package registry: which one is asked is a setting of the machine.
//!
//! Lock files may name the public defaults, because the tools write those; any other host there is a
//! mirror that only its owner can reach.

use super::finding::Finding;
use super::tree::{File, Tree};

/// Files in which tools write down where packages come from.
const LOCKS: [&str; 5] = ["package-lock.json", "npm-shrinkwrap.json", ".npmrc", "Cargo.lock", ".cargo/config.toml"];

/// Words of a line in such a file that says so.
const ORIGINS: [&str; 4] = ["resolved", "registry", "source", "replace-with"];

/// The public defaults, without the scheme.
const PUBLIC: [&str; 2] = ["registry.npmjs.org/", "github.com/rust-lang/crates.io-index"];

/// How a registry is chosen in a file, in halves so that this file does not contain them. To mention one in
/// a sentence is fine.
const CHOICES: [&str; 3] = [concat!("://regis", "try."), concat!("://index", ".crates.io"), concat!("--regis", "try")];

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.files().iter().flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    let is_lock = LOCKS.iter().any(|name| file.path.ends_with(name));
    file.lines()
        .filter(|(_, line)| if is_lock { names_a_mirror(line) } else { CHOICES.iter().any(|choice| line.contains(choice)) })
        .map(|(number, _)| {
            let sentence = if is_lock {
                "a registry that is not the public default: make the lock file without it (`omit-lockfile-registry-resolved`)"
            } else {
                "a registry is chosen here: let the tool ask the one it is configured with"
            };
            Finding::offence(&file.path, number, sentence)
        })
        .collect()
}

fn names_a_mirror(line: &str) -> bool {
    ORIGINS.iter().any(|word| line.contains(word))
        && line.split("://").skip(1).any(|address| !PUBLIC.iter().any(|public| address.starts_with(public)))
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    fn found(path: &str, line: &str) -> Vec<String> {
        places(&check(&Tree::of(&[(path, &format!("first\n{line}\n"))])))
    }

    #[test]
    fn a_mirror_in_a_lock_file_is_found() {
        assert_eq!(
            found("a/package-lock.json", "\"resolved\": \"https://mirror.example/x.tgz\""),
            ["a/package-lock.json:2"]
        );
        assert_eq!(found("Cargo.lock", "source = \"registry+https://mirror.example/index\"").len(), 1);
        assert_eq!(found("a/.npmrc", "registry=http://127.0.0.1:4873/").len(), 1);
    }

    #[test]
    fn the_public_defaults_and_other_addresses_in_a_lock_file_are_fine() {
        let npm = format!("\"resolved\": \"https://{}x/-/x.tgz\"", PUBLIC[0]);
        assert!(found("a/package-lock.json", &npm).is_empty());
        assert!(found("Cargo.lock", &format!("source = \"registry+https://{}\"", PUBLIC[1])).is_empty());
        assert!(found("a/package-lock.json", "\"url\": \"https://funding.example\"").is_empty());
    }

    #[test]
    fn a_registry_chosen_in_any_other_file_is_found() {
        for choice in CHOICES {
            assert_eq!(found("Dockerfile", &format!("RUN npm ci {choice}")).len(), 1, "{choice}");
        }
        assert!(found("README.md", "packages come from registry.npmjs.org unless npm says otherwise").is_empty());
    }
}
