//! The project's own chores, run as `cargo xtask …`.
//!
//! Chores are for people and for continuous integration alike: the same command, the same steps, each
//! printed before it is done.

mod agents;
mod paths;
mod program;
mod say;
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
    }
}
