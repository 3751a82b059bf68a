//! Pinned packages from npm, installed into cache folders: the real agents that tests run, and what
//! `bench` compares with.
//!
//! A folder of pins (for the agents `xtask/agents/<platform>/`) holds a `package.json` and its lock file; the
//! folder in `target/agents/` is named after the hash of both, so a changed pin is a new folder and an old one
//! is never half right. An install is made beside its place and moved there when it is complete.
//!
//! To change a pin, edit the `package.json` of both platforms, and the Dockerfile where it names the same
//! package; then run `npm install --package-lock-only` in both folders, with `--force` in that of the other
//! platform. The tests below compare them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::paths::root;
use crate::program::{program, run, version};

/// Tells the tests where the agents are: a `node_modules` folder.
pub const FOLDER_VARIABLE: &str = "CLAWDFORGE_TEST_AGENTS";
/// Makes a missing agent a failure instead of a skipped test.
pub const REQUIRE_VARIABLE: &str = "CLAWDFORGE_TEST_REQUIRE_AGENTS";

/// What npm gets to see.
const MANIFESTS: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];
/// Hexadecimal digits of the hash in the name of a cache folder: enough not to meet by chance.
const KEY_DIGITS: usize = 16;

/// The installed agents.
pub struct Cache {
    /// The folder with the packages.
    pub node_modules: PathBuf,
    /// Bytes of all files in it.
    pub bytes: u64,
    /// How long the install took; `None` when it was there already.
    pub installed_in: Option<Duration>,
}

impl Cache {
    /// One line: how much, and whether it was there.
    pub fn describe(&self) -> String {
        let megabytes = self.bytes / 1_000_000;
        match self.installed_in {
            Some(time) => format!("installed {megabytes} MB in {:.1} s", time.as_secs_f64()),
            None => format!("already there, {megabytes} MB"),
        }
    }
}

/// Installs the agents of this platform, unless they are there.
///
/// # Errors
/// No pinned packages for this platform, no npm, or npm failed.
pub fn install() -> Result<Cache> {
    install_pinned(&root().join("xtask/agents").join(platform()?))
}

/// Installs what a folder pins, unless it is there. No script of a package runs.
///
/// # Errors
/// No npm, or npm failed.
pub fn install_pinned(manifests: &Path) -> Result<Cache> {
    let started = Instant::now();
    let place = root().join("target/agents").join(key(manifests)?);
    let node_modules = place.join("node_modules");
    if node_modules.is_dir() {
        return Ok(Cache { bytes: bytes_below(&node_modules)?, node_modules, installed_in: None });
    }

    if version(&mut program("npm", &["--version"]))?.is_none() {
        bail!(
            "npm is not installed, and the pinned packages come from it: install Node.js with npm, \
             or run `cargo xtask test --quick`, which leaves the tests that need it out"
        );
    }
    let making = place.with_extension(format!("making-{}", std::process::id()));
    fs::create_dir_all(&making).with_context(|| format!("could not create {}", making.display()))?;
    for name in MANIFESTS {
        let from = manifests.join(name);
        fs::copy(&from, making.join(name)).with_context(|| format!("could not copy {}", from.display()))?;
    }
    let arguments = ["ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"];
    let installed = run(program("npm", &arguments).current_dir(&making)).and_then(|()| {
        fs::rename(&making, &place).with_context(|| format!("could not move {} into place", making.display()))
    });
    if let Err(error) = installed {
        // Half an install helps nobody; what is left when even this fails has a name of its own and harms nobody.
        let _ = fs::remove_dir_all(&making);
        // Another run may have been faster: its folder holds the same packages.
        if !node_modules.is_dir() {
            return Err(error.context(format!("what {} pins could not be installed", manifests.display())));
        }
    }
    Ok(Cache { bytes: bytes_below(&node_modules)?, node_modules, installed_in: Some(started.elapsed()) })
}

/// The folder of pins for the machine we run on.
///
/// # Errors
/// When there is none.
pub fn platform() -> Result<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok("linux-x64"),
        ("linux", "aarch64") => Ok("linux-arm64"),
        (system, processor) => {
            bail!("no agents are pinned for {system} on {processor}; `cargo xtask test --quick` leaves them out")
        }
    }
}

fn key(manifests: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for name in MANIFESTS {
        let path = manifests.join(name);
        hash.update(fs::read(&path).with_context(|| format!("could not read {}", path.display()))?);
    }
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digits[..KEY_DIGITS].to_owned())
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("could not list {}", folder.display()))?;
        let about = entry.metadata().with_context(|| format!("could not look at {}", entry.path().display()))?;
        bytes += if about.is_dir() { bytes_below(&entry.path())? } else { about.len() };
    }
    Ok(bytes)
}

/// The packages that a folder pins, with their versions; the lock file must hold the same.
#[cfg(test)]
pub fn pins(folder: &str) -> Vec<(String, String)> {
    let read = |name: &str| -> serde_json::Value {
        let text = fs::read_to_string(root().join(folder).join(name)).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let (manifest, lock) = (read("package.json"), read("package-lock.json"));
    let wanted = manifest["dependencies"].as_object().unwrap().iter();
    let wanted = wanted.map(|(package, version)| (package.clone(), version.as_str().unwrap().to_owned()));
    wanted
        .inspect(|(package, version)| {
            // One is published under the name of another package: `npm:<package>@<version>`.
            let version = version.rsplit('@').next().unwrap();
            assert_eq!(lock["packages"][format!("node_modules/{package}")]["version"], version, "{folder}: {package}");
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The agents of a platform, named and versioned as on every other: native packages carry it in the name.
    fn agents(platform: &str) -> Vec<(String, String)> {
        let pinned = pins(&format!("xtask/agents/{platform}")).into_iter();
        pinned.map(|(package, version)| (package.replace(platform, ""), version.replace(platform, ""))).collect()
    }

    #[test]
    fn every_platform_pins_the_same_agents_at_the_same_versions() {
        assert!(!agents("linux-x64").is_empty());
        assert_eq!(agents("linux-x64"), agents("linux-arm64"));
    }

    #[test]
    fn the_tests_run_what_the_image_ships() {
        let dockerfile = fs::read_to_string(root().join("Dockerfile")).unwrap();
        for (package, argument) in [
            ("@anthropic-ai/claude-code-", "ARG CLAUDE_CODE_VERSION="),
            ("@agentclientprotocol/claude-agent-acp", "ARG CLAUDE_AGENT_ACP_VERSION="),
            ("acpx", "ARG ACPX_VERSION="),
        ] {
            let shipped = dockerfile.lines().find_map(|line| line.strip_prefix(argument)).unwrap();
            let tested = agents("linux-x64").into_iter().find(|(name, _)| name == package).unwrap().1;
            assert_eq!(tested, shipped, "{package}");
        }
    }

    #[test]
    fn another_lock_file_is_another_folder() {
        let scratch = tempfile::tempdir().unwrap();
        let write = |lock: &str| {
            for name in MANIFESTS {
                fs::write(scratch.path().join(name), if name == "package-lock.json" { lock } else { "same" }).unwrap();
            }
            key(scratch.path()).unwrap()
        };
        let (one, other, again) = (write("1"), write("2"), write("1"));
        assert_eq!(one.len(), KEY_DIGITS);
        assert_ne!(one, other);
        assert_eq!(one, again);
    }

    #[test]
    fn the_size_counts_the_files_of_all_folders() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("inner")).unwrap();
        fs::write(scratch.path().join("a"), "123").unwrap();
        fs::write(scratch.path().join("inner/b"), "45").unwrap();
        assert_eq!(bytes_below(scratch.path()).unwrap(), 5);
    }
}
