//! `cargo xtask attack`: the attack suite as a table (docs/security/attack-suite.md). The same rows are tests.
//!
//! As with `crash`, this half builds the service and this program anew, with the feature `attack`, and hands over to
//! [`suite`], which only that build has.

use anyhow::Result;

use crate::paths::built;
use crate::program::{program, run};
use crate::say;

#[cfg(feature = "attack")]
pub mod suite;

/// What is done with what came of it.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Options {
    /// Put the table into docs/security/attack-suite.md
    #[arg(long)]
    write: bool,
}

/// Builds everything, then runs the suite.
///
/// # Errors
/// A build failed, or an attack did not come out as expected.
pub fn build_and_run(options: Options) -> Result<()> {
    say::line("==> building the service and this program");
    // Two builds: in one, the features that only this program needs would get into the service.
    run(&mut program("cargo", &["build", "--package", "clawdforge"]))?;
    run(&mut program("cargo", &["build", "--package", "xtask", "--features", "attack"]))?;

    say::line("==> the attacks");
    let mut arguments = vec!["attack-suite"];
    arguments.extend(options.write.then_some("--write"));
    run(&mut program(&built("xtask")?.to_string_lossy(), &arguments))
}
