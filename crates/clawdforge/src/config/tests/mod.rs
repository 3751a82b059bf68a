//! The configuration through its front door: `load` with made-up surroundings.

mod agents;
mod errors;
mod layers;
mod pages;
mod secrets;
mod warnings;

use std::path::PathBuf;

use tempfile::TempDir;

use super::origin::Origin;
use super::{Flags, Inputs, Loaded, load, serve_args};

/// A working directory of its own, an empty environment, no flags, no system file.
struct World {
    dir: TempDir,
    inputs: Inputs,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inputs = Inputs {
            env: [].into(),
            cwd: dir.path().to_owned(),
            system_file: dir.path().join("etc/clawdforge.toml"),
            flags: Flags::default(),
        };
        Self { dir, inputs }
    }

    fn with_file(self, text: &str) -> Self {
        self.with_file_at("clawdforge.toml", text)
    }

    fn with_file_at(self, path: &str, text: &str) -> Self {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn with_env(mut self, name: &str, value: &str) -> Self {
        self.inputs.env.insert(name.into(), value.into());
        self
    }

    fn with_flags(mut self, flags: &[&str]) -> Self {
        let command = serve_args(clap::Command::new("serve"));
        let matches = command.try_get_matches_from([&["serve"], flags].concat()).unwrap();
        self.inputs = self.inputs.with_flags(&matches);
        self
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn load(&self) -> Loaded {
        load(&self.inputs).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// The errors without the heading, one a line.
    fn errors(&self) -> Vec<String> {
        let text = load(&self.inputs).expect_err("an error").to_string();
        match text.strip_prefix("the configuration has an error: ") {
            Some(only) => vec![only.to_owned()],
            None => text.lines().skip(1).map(|line| line.trim().to_owned()).collect(),
        }
    }
}

/// The shown value and the origin of an option.
fn shown(loaded: &Loaded, key: &str) -> (String, String) {
    let row = loaded.rows.iter().find(|row| row.key == key).unwrap_or_else(|| panic!("no row `{key}`"));
    (row.value.clone(), row.origin.to_string())
}

fn pair(value: &str, origin: &str) -> (String, String) {
    (value.to_owned(), origin.to_owned())
}

#[test]
fn an_origin_reads_as_the_place_to_change() {
    let path = PathBuf::from("a.toml");
    assert_eq!(Origin::File { path: path.clone(), line: 7 }.to_string(), "a.toml:7");
    assert_eq!(Origin::File { path, line: 0 }.to_string(), "a.toml");
}
