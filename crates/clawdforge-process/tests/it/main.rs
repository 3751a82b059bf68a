//! Process trees, made of real programs and looked at through `/proc`. Each test needs a process of its
//! own (nextest gives it one), because orphans fall to the process and not to a test.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod attacks;
mod cgroups;
mod chains;
mod end;
mod kin;
mod leftovers;
mod namespaces;
mod ports;
mod sandbox;
mod server;
mod spawn;
mod support;
mod wait;
