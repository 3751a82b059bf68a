//! The crash campaign: a real service under busy sessions is killed at hundreds of moments, and nothing that it
//! accepted may be lost, nothing done twice, and nothing of it left behind.
//!
//! Three sides are compared: what callers were told, what the service recorded (the ledger by page while it goes
//! on, the event logs at the end), and what agents did (the demo agent notes each prompt's word in a file). The
//! judge ([`check`]) is pure and is shown broken campaigns in its own tests.

pub mod check;
pub mod evidence;

mod afterwards;
mod callers;
mod chance;
mod conductor;
mod lives;
mod moments;
mod report;

pub use chance::any_seed;
pub use conductor::run;
pub use report::Report;

/// How long and from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How often the service is killed, at least.
    pub kills: u64,
    /// How many turns are accepted, at least.
    pub turns: u64,
    /// What the moments and the kinds of turns are drawn from.
    pub seed: u64,
}
