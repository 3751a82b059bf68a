//! clawdforge: one self-hosted service that lets many apps use coding agents over HTTP.
//!
//! This crate is wiring: configuration, sub-commands, and the choice of implementations. The one
//! binary is the server, its tools for the operator, and the client.

mod address;
mod agents;
mod cgroups;
mod cli;
mod clock;
mod config;
mod doctor;
mod homes;
mod isolation;
mod logs;
mod network;
mod profiles;
mod serve;
mod session_agents;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
