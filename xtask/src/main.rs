//! The project's own chores, run as `cargo xtask …`.
//!
//! Chores are for people and for continuous integration alike: the same command, the same steps, each
//! printed before it is done.

mod agents;
mod attack;
mod bench;
mod crash;
mod paths;
mod program;
mod say;
mod schemathesis;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what the tests need, then check and test everything
    Test {
        /// Leave out clippy and the real agents
        #[arg(long)]
        quick: bool,
    },
    /// Compare the sources with the rules of the house
    Tidy,
    /// Install the pinned agents the tests run, and say where they are
    Agents,
    /// Try at every level of isolation what an agent must not be able to do, and print what came of it
    Attack(attack::Options),
    /// Measure the service and compare it with what it stands in front of
    Bench(bench::Options),
    /// Kill the service again and again under busy sessions, and look whether anything is lost, done twice or left
    Crash(crash::Options),
    /// Ask a service by its own description, and compare the answers with it
    Schemathesis,
    /// What `attack` hands over to once everything is built
    #[cfg(feature = "attack")]
    #[command(hide = true)]
    AttackSuite(attack::Options),
    /// What `crash` hands over to once everything is built
    #[cfg(feature = "crash")]
    #[command(hide = true)]
    CrashCampaign(crash::Options),
    /// What `bench` hands over to once everything is built
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    BenchMeasure(bench::Options),
    /// The server that `bench` compares the service with
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    BenchBaseline { address: std::net::SocketAddr },
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<()> {
    match chore {
        Chore::Test { quick } => test::run(quick),
        Chore::Tidy => tidy::run(),
        Chore::Agents => {
            let cache = agents::install()?;
            say::line(cache.describe());
            say::line(format_args!("{}={}", agents::FOLDER_VARIABLE, cache.node_modules.display()));
            Ok(())
        }
        Chore::Schemathesis => match schemathesis::build_and_run()? {
            schemathesis::Went::Well => Ok(()),
            schemathesis::Went::NotTried(why) => anyhow::bail!("not tried: {why}"),
        },
        Chore::Attack(options) => attack::build_and_run(options),
        #[cfg(feature = "attack")]
        Chore::AttackSuite(options) => attack::suite::run(options),
        Chore::Bench(options) => bench::build_and_run(options),
        Chore::Crash(options) => crash::build_and_run(options),
        #[cfg(feature = "crash")]
        Chore::CrashCampaign(options) => crash::campaign::run(options),
        #[cfg(feature = "bench")]
        Chore::BenchMeasure(options) => bench::measure::run(options),
        #[cfg(feature = "bench")]
        Chore::BenchBaseline { address } => bench::measure::baseline::serve(address),
    }
}
