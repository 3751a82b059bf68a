//! `cargo xtask bench`: how fast the service starts, how little it holds, and what it costs in front of an
//! agent, measured in one run on one machine. No test asserts what comes out.
//!
//! What is measured and what measures are built with the release profile. The everyday `xtask` has neither
//! an HTTP server nor a client, so this half builds itself anew with the feature `bench` and hands over to
//! [`measure`], which only that build has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::agents::{self, FOLDER_VARIABLE};
use crate::paths::root;
use crate::program::{program, run};
use crate::say;

#[cfg(feature = "bench")]
pub mod measure;

/// What to measure and what to do with it.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Options {
    /// Put the numbers into docs/performance.md
    #[arg(long, conflicts_with = "quick")]
    write: bool,
    /// A few rounds only, to see that it works
    #[arg(long)]
    quick: bool,
}

/// The versions of acpx that a session's turns are compared with: the newest, and the one that was in use when
/// the service was conceived. The lock file of the newest names optional packages of other platforms without their
/// hashes: they are never installed, but `npm ci` wants them named.
const ACPX_VERSIONS: [&str; 2] = ["0.19.1", "0.6.1"];

/// Where a version of acpx is pinned.
fn acpx_pins(version: &str) -> PathBuf {
    root().join("xtask/bench/acpx").join(version)
}

/// The version of sandbox-agent that streams are compared with.
const SANDBOX_AGENT_VERSION: &str = "0.4.2";

/// Where it is pinned: its package for this platform, which is the program; the one that all platforms share starts it.
fn sandbox_agent_pins(platform: &str) -> String {
    format!("xtask/bench/sandbox-agent/{SANDBOX_AGENT_VERSION}/{platform}")
}

/// Installs sandbox-agent, unless it is there; its program.
///
/// # Errors
/// When it is not pinned for this machine, or could not be installed.
fn install_sandbox_agent() -> Result<PathBuf> {
    let platform = agents::platform()?;
    let installed = agents::install_pinned(&root().join(sandbox_agent_pins(platform)))?;
    let program = installed.node_modules.join(format!("@sandbox-agent/cli-{platform}/bin/sandbox-agent"));
    // What the package's own script would do, and no script of a package runs.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("could not make {} a program", program.display()))?;
    Ok(program)
}

/// Builds everything, then measures.
///
/// # Errors
/// A build, an install or a measurement failed.
pub fn build_and_run(options: Options) -> Result<()> {
    say::line("==> building the service and this program for release (the first time about 5 minutes on two cores)");
    // Two builds: in one, the features that only this program needs would get into the service.
    run(&mut program("cargo", &["build", "--release", "--package", "clawdforge"]))?;
    run(&mut program("cargo", &["build", "--release", "--package", "xtask", "--features", "bench"]))?;

    say::line("==> the agents");
    let folder = match named_folder() {
        Some(folder) => folder,
        None => agents::install()?.node_modules,
    };
    for version in ACPX_VERSIONS {
        agents::install_pinned(&acpx_pins(version))?;
    }
    install_sandbox_agent()?;
    let measure = root().join("target/release/xtask");
    let mut arguments = vec!["bench-measure"];
    arguments.extend(options.write.then_some("--write"));
    arguments.extend(options.quick.then_some("--quick"));
    run(program(&measure.to_string_lossy(), &arguments).env(FOLDER_VARIABLE, folder))
}

#[expect(clippy::disallowed_methods, reason = "the same variable that names the agents to the tests")]
fn named_folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_platforms_pin_the_sandbox_agent_that_the_numbers_name() {
        for platform in ["linux-x64", "linux-arm64"] {
            let pinned = agents::pins(&sandbox_agent_pins(platform));
            let package = format!("@sandbox-agent/cli-{platform}");
            assert_eq!(pinned, [(package, SANDBOX_AGENT_VERSION.to_owned())]);
        }
    }
}
