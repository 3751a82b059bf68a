//! The campaign itself. Only in the build that `cargo xtask crash` makes.

use anyhow::{Result, ensure};
use clawdforge_testkit::app::Setup;
use clawdforge_testkit::crash;
use tokio::runtime::Builder;

use super::Options;
use crate::paths::root;
use crate::say;

/// Runs it against the release build of the service and prints what came of it.
///
/// # Errors
/// It could not be carried out, or something did not hold.
pub fn run(options: Options) -> Result<()> {
    let Options { kills, turns, seed } = options;
    let seed = seed.unwrap_or_else(crash::any_seed);
    say::line(format_args!(
        "seed {seed}: `cargo xtask crash --kills {kills} --turns {turns} --seed {seed}` draws the same"
    ));
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let setup = Setup::new(root().join("target/release/clawdforge"));
    let report = runtime.block_on(crash::run(setup, crash::Options { kills, turns, seed }, say::line))?;
    say::line(format_args!("\n{report}"));
    for fault in &report.faults {
        say::line(fault);
    }
    ensure!(report.faults.is_empty(), "{} things did not hold (seed {seed})", report.faults.len());
    ensure!(report.kills() >= kills && report.accepted >= turns, "the campaign fell short of what was asked for");
    say::line("everything held");
    Ok(())
}
