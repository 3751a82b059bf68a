//! `cargo xtask crash`: the long form of the crash campaign of sessions (docs/reliability.md). The short one is an
//! ordinary test.
//!
//! What is killed and what kills are built with the release profile. As with `bench`, this half builds itself anew,
//! with the feature `crash`, and hands over to [`campaign`], which only that build has.

use anyhow::Result;

use crate::paths::root;
use crate::program::{program, run};
use crate::say;

#[cfg(feature = "crash")]
pub mod campaign;

/// How long, and from which seed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Options {
    /// How often the service is killed, at least
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    kills: u64,
    /// How many turns are accepted, at least
    #[arg(long, default_value_t = 10_000)]
    turns: u64,
    /// What moments and turns are drawn from, as an earlier run printed it; by default a new one
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds everything, then runs the campaign.
///
/// # Errors
/// A build failed, or something that is promised did not hold.
pub fn build_and_run(options: Options) -> Result<()> {
    say::line("==> building the service and this program for release (the first time about 5 minutes on two cores)");
    // Two builds: in one, the features that only this program needs would get into the service.
    run(&mut program("cargo", &["build", "--release", "--package", "clawdforge"]))?;
    run(&mut program("cargo", &["build", "--release", "--package", "xtask", "--features", "crash"]))?;

    say::line("==> the campaign");
    let mut arguments =
        vec!["crash-campaign".to_owned(), format!("--kills={}", options.kills), format!("--turns={}", options.turns)];
    arguments.extend(options.seed.map(|seed| format!("--seed={seed}")));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(&mut program(&root().join("target/release/xtask").to_string_lossy(), &arguments))
}
