//! Whole-system tests: the real binary, spoken to over HTTP, with the demo agent as a real process.
//!
//! One binary for all of them; the file names mirror the routes and commands.

const BINARY: &str = env!("CARGO_BIN_EXE_clawdforge");

fn setup() -> clawdforge_testkit::app::Setup {
    clawdforge_testkit::app::Setup::new(BINARY)
}

mod agents_install;
mod attack_suite;
mod cgroups;
mod client_sessions;
mod client_v1;
mod container;
mod crash;
mod crash_campaign;
mod demo;
mod doctor;
mod drain;
mod gates;
mod homes;
mod hostile;
mod hostile_bodies;
mod isolation;
mod ledger;
mod legacy_files;
mod legacy_health;
mod legacy_run;
mod legacy_run_endings;
mod legacy_run_reach;
mod legacy_session_endings;
mod legacy_sessions;
mod legacy_tokens;
mod limits;
mod network;
mod ownership;
mod problems;
mod quota;
mod safe_start;
mod sandbox;
mod session_crash;
mod session_processes;
mod sign_ins;
mod support;
mod v1;
mod v1_followers;
mod v1_forks;
mod v1_output;
mod v1_session_mode;
mod v1_session_system;
mod v1_session_tool_servers;
mod v1_tokens;
mod v1_uploads;
