//! `cargo xtask schemathesis`: the service is asked by its own description. Schemathesis reads `/openapi.json` of a
//! service with the demo agent, makes requests of every operation, good ones, bad ones and sequences of them, and
//! compares the answers with what is described.
//!
//! The tool comes from PyPI into a folder of its own below `target/`, named after the hash of its pins. Which of its
//! checks do not hold here, and why, stands in `xtask/schemathesis/schemathesis.toml`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::paths::{built, root};
use crate::program::{program, run, version};
use crate::say;

const PINS: &str = "xtask/schemathesis/requirements.txt";
const SETTINGS: &str = "xtask/schemathesis/schemathesis.toml";
/// What requests are drawn from: the same in every run, so that a failure is not one of luck.
const SEED: &str = "1";
/// Cases of each operation and phase.
const EXAMPLES: &str = "40";
/// Where the settings look for the app's token.
const TOKEN_VARIABLE: &str = "CLAWDFORGE_TOKEN";
/// Where they look for the operator's.
const ADMIN_TOKEN_VARIABLE: &str = "CLAWDFORGE_ADMIN_TOKEN";
/// Where the service looks for programs of agents; none is needed.
const AGENTS_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Hexadecimal digits of the hash in the name of the folder: enough not to meet by chance.
const KEY_DIGITS: usize = 16;

/// How it went when nothing was found.
pub enum Went {
    /// Nothing was found.
    Well,
    /// It could not be tried, and why.
    NotTried(String),
}

/// Installs the tool, starts the service, and has the one try the other.
///
/// # Errors
/// The service answered otherwise than described, or something could not be started.
pub fn build_and_run() -> Result<Went> {
    let python = ["python3", "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))"];
    if version(&mut program(python[0], &python[1..]))?.is_none() {
        return Ok(Went::NotTried("no Python 3.10 or newer with venv".to_owned()));
    }
    let tool = install()?;
    run(&mut program("cargo", &["build", "--package", "clawdforge"]))?;
    let scratch = scratch()?;
    let tried = Service::start(&scratch).and_then(|service| attempt(&tool, &service, &scratch));
    if tried.is_ok() {
        fs::remove_dir_all(&scratch).with_context(|| format!("could not remove {}", scratch.display()))?;
    } else {
        say::line(format_args!("    what the service logged is in {}", scratch.display()));
    }
    tried.map(|()| Went::Well)
}

fn attempt(tool: &Path, service: &Service, scratch: &Path) -> Result<()> {
    let kept = |name: &str| {
        let place = scratch.join("data").join(name);
        let token = fs::read_to_string(&place).with_context(|| format!("could not read {}", place.display()))?;
        anyhow::Ok(token.trim().to_owned())
    };
    let document = format!("{}/openapi.json", service.address);
    let mut command = program(&tool.to_string_lossy(), &["-m", "schemathesis.cli", "--config-file"]);
    command.arg(root().join(SETTINGS)).args(["run", &document]);
    command.args(["--seed", SEED, "--max-examples", EXAMPLES, "--continue-on-failure", "--no-color"]);
    // The settings name the variables: a command line is shown. Its own folders must not get into the repository.
    command.env(TOKEN_VARIABLE, kept("demo-token")?).env(ADMIN_TOKEN_VARIABLE, kept("admin-token")?);
    command.current_dir(scratch);
    run(&mut command)
}

/// The interpreter of a folder that has the tool.
fn install() -> Result<PathBuf> {
    let pins = root().join(PINS);
    let text = fs::read(&pins).with_context(|| format!("could not read {}", pins.display()))?;
    let digits: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    let place = root().join("target/schemathesis").join(&digits[..KEY_DIGITS]);
    let python = |folder: &Path| folder.join("bin/python");
    if place.is_dir() {
        return Ok(python(&place));
    }
    let making = place.with_extension(format!("making-{}", std::process::id()));
    fs::create_dir_all(&making).with_context(|| format!("could not create {}", making.display()))?;
    let made = run(program("python3", &["-m", "venv"]).arg(&making)).and_then(|()| {
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"];
        run(program(&python(&making).to_string_lossy(), &pip).arg(&pins))
    });
    // The interpreter finds its packages by where it is, so the folder may move; its scripts may not, and are not used.
    let made = made.and_then(|()| {
        fs::rename(&making, &place).with_context(|| format!("could not move {} into place", making.display()))
    });
    if let Err(error) = made {
        // Half an install helps nobody; what is left when even this fails has a name of its own and harms nobody.
        let _ = fs::remove_dir_all(&making);
        // Another run may have been faster: its folder holds the same packages.
        if !place.is_dir() {
            return Err(error.context(format!("what {PINS} pins could not be installed")));
        }
    }
    Ok(python(&place))
}

/// A folder for one run of the service.
fn scratch() -> Result<PathBuf> {
    let folder = root().join("target/schemathesis").join(format!("run-{}", std::process::id()));
    fs::create_dir_all(folder.join("home")).with_context(|| format!("could not create {}", folder.display()))?;
    Ok(folder)
}

/// A service with the demo agent; stopped when it is dropped.
struct Service {
    process: Child,
    address: String,
}

impl Service {
    #[expect(clippy::disallowed_methods, reason = "the service is started as an operator starts it")]
    fn start(scratch: &Path) -> Result<Self> {
        let log = scratch.join("log");
        let log = fs::File::create(&log).with_context(|| format!("could not create {}", log.display()))?;
        let binary = built("clawdforge")?;
        let mut command =
            program(&binary.to_string_lossy(), &["serve", "--demo", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(scratch.join("data")).env_clear().env("PATH", AGENTS_PATH);
        command.env("HOME", scratch.join("home")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().with_context(|| format!("could not start {}", binary.display()))?;
        let lines = process.stdout.take().map(BufReader::new);
        let mut service = Self { process, address: String::new() };
        // The start block ends with a command to paste. Nothing is printed after it.
        for line in lines.into_iter().flat_map(BufRead::lines) {
            let line = line.context("the service's output broke off")?;
            if let Some(address) = line.trim().strip_prefix("address") {
                address.trim().clone_into(&mut service.address);
            }
            if line.trim_start().starts_with("curl") {
                return Ok(service);
            }
        }
        bail!("the service did not start; it says why in {}", scratch.join("log").display())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // In good order, so that none of its agents is left; should that fail, by force. Nobody is there to be told.
        let id = self.process.id().to_string();
        if run(&mut program("kill", &["-TERM", &id])).is_err() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned_and_the_tool_is_among_them() {
        let text = fs::read_to_string(root().join(PINS)).unwrap();
        let pins: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(pins.iter().any(|line| line.starts_with("schemathesis==")), "{pins:?}");
        for pin in pins {
            assert_eq!(pin.matches("==").count(), 1, "{pin}");
        }
    }
}
