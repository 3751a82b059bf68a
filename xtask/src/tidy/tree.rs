//! The sources as the rules see them: every text file that git knows or would take.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use super::lex::{self, Token};
use crate::program::{output, program};

/// The text files of the repository, and the paths of all.
pub struct Tree {
    files: Vec<File>,
    /// Every file and folder, from the root, with `/` between.
    paths: BTreeSet<String>,
}

/// One text file.
pub struct File {
    /// Path from the root of the repository.
    pub path: String,
    /// The whole of it.
    pub text: String,
    /// Its code, when it is Rust; otherwise empty.
    pub code: Vec<Token>,
}

impl Tree {
    /// Reads what git knows or would take; ignored files and files that are no UTF-8 are left out.
    ///
    /// # Errors
    /// Git is not there or the folder is no repository; a file cannot be read.
    pub fn read(root: &Path) -> Result<Self> {
        let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed =
            output(program("git", &arguments).current_dir(root)).context("tidy asks git which files are sources")?;
        let mut tree = Self { files: Vec::new(), paths: BTreeSet::new() };
        for path in String::from_utf8_lossy(&listed).split_terminator('\0') {
            match fs::read(root.join(path)) {
                Ok(bytes) => tree.add(path, String::from_utf8(bytes).ok()),
                // Deleted and not yet committed, or gone while we look.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("could not read {path}")),
            }
        }
        Ok(tree)
    }

    /// A tree made up for a test.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self { files: Vec::new(), paths: BTreeSet::new() };
        for (path, text) in files {
            tree.add(path, Some((*text).to_owned()));
        }
        tree
    }

    fn add(&mut self, path: &str, text: Option<String>) {
        self.paths.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
        self.paths.insert(path.to_owned());
        let Some(text) = text else { return };
        let code = if path.ends_with(".rs") { lex::tokens(&text) } else { Vec::new() };
        self.files.push(File { path: path.to_owned(), text, code });
    }

    /// All text files.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The manifests of the crates, without the one of the workspace.
    pub fn manifests(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with("/Cargo.toml"))
    }

    /// One text file by its path.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether a file or a folder of that path is part of the sources.
    pub fn has(&self, path: &str) -> bool {
        path.is_empty() || self.paths.contains(path)
    }
}

impl File {
    /// Whether the whole file is test code: in a folder `tests`, or named `tests.rs`.
    pub fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.starts_with("tests/") || self.path.contains("/tests/")
    }

    /// The first line that contains a text, from 1; 1 when there is none.
    pub fn line_of(&self, wanted: &str) -> usize {
        self.text.lines().position(|line| line.contains(wanted)).map_or(1, |index| index + 1)
    }

    /// The lines, counted from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::run;

    #[test]
    fn the_tree_is_what_git_knows_or_would_take() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| {
            fs::create_dir_all(root.path().join(path).parent().unwrap()).unwrap();
            fs::write(root.path().join(path), bytes).unwrap();
        };
        write(".gitignore", b"/made\n");
        write("made/out.rs", b"fn made() {}");
        write("src/a.rs", b"fn a() {}");
        write("picture.png", &[0xff, 0xfe, 0x00]);
        run(program("git", &["init", "--quiet"]).current_dir(root.path())).unwrap();

        let tree = Tree::read(root.path()).unwrap();
        let paths: Vec<_> = tree.files().iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [".gitignore", "src/a.rs"]);
        assert!(tree.has("src") && tree.has("picture.png") && tree.has(""));
        assert!(!tree.has("made/out.rs"));
        assert_eq!(tree.file("src/a.rs").unwrap().code[0].text, "fn");
    }

    #[test]
    fn test_code_is_told_by_its_path() {
        let paths = [
            "crates/x/tests/it/main.rs",
            "crates/x/src/a/tests.rs",
            "crates/x/src/a/tests/b.rs",
            "crates/x/src/tests_of.rs",
        ];
        let tree = Tree::of(&paths.map(|path| (path, "")));
        assert_eq!(tree.rust().map(File::is_test).collect::<Vec<_>>(), [true, true, true, false]);
    }
}
