//! No file of ours knows the folders of the machine it was written on.

use super::finding::Finding;
use super::tree::{File, Tree};

/// First folders of absolute paths that mean somebody's machine.
const FIRST: [&str; 4] = ["work", "farm", "root", "Users"];

/// Folders of a container's superuser that programs expect there; deployment files name them.
const DEPLOYED: [&str; 4] = [".claude", ".config/claude", ".acpx", ".npm"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.files().iter().flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    let deploys = is_deployment(&file.path);
    file.lines()
        .filter(|(_, line)| FIRST.iter().any(|first| offends(line, first, deploys)))
        .map(|(number, _)| {
            Finding::offence(&file.path, number, "a path of one machine: make it relative, or a placeholder")
        })
        .collect()
}

fn is_deployment(path: &str) -> bool {
    ["Dockerfile", "compose.yml", ".env.example"].contains(&path)
        || path.starts_with("deploy/")
        || path.ends_with(".md")
}

fn offends(line: &str, first: &str, deploys: bool) -> bool {
    let prefix = format!("/{first}/");
    line.match_indices(&prefix).any(|(at, _)| {
        let absolute = !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-~}>)*".contains(before));
        let rest = &line[at + prefix.len()..];
        let expected = first == "root" && deploys && DEPLOYED.iter().any(|folder| rest.starts_with(folder));
        absolute && !expected
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    fn found(path: &str, line: &str) -> Vec<String> {
        places(&check(&Tree::of(&[(path, &format!("first\n{line}\n"))])))
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        for first in FIRST {
            assert_eq!(found("a.md", &format!("see `/{first}/thing/notes.md`")), ["a.md:2"], "{first}");
        }
        assert_eq!(found("a.toml", &format!("path = \"/{}/x\"", FIRST[0])).len(), 1);
    }

    #[test]
    fn the_same_word_further_down_a_path_is_fine() {
        assert!(found("a.md", "/run/work/notes.txt, $HOME/work/, ./work/a, https://host.example/work/a").is_empty());
    }

    #[test]
    fn deployment_files_may_name_the_homes_of_a_container() {
        let line = format!("- data:/{}/.claude", FIRST[2]);
        assert!(found("compose.yml", &line).is_empty());
        assert_eq!(found("crates/x/src/a.rs", &line).len(), 1);
        assert_eq!(found("compose.yml", &format!("- data:/{}/other", FIRST[2])).len(), 1);
    }
}
