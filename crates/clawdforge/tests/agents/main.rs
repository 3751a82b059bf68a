//! Whole-system tests with the real Claude Code: the binary, spoken to over HTTP, starts it, and it speaks to our
//! mock model.
//!
//! Without an installed Claude Code each test says so and passes; see [`clawdforge_testkit::agents`].

mod acpx;
mod acpx_claude;
mod answers;
mod at_once;
mod attacks;
mod battery;
mod bench;
mod commands;
mod dialects;
mod endings;
mod failures;
mod files;
mod forks;
mod given;
mod homes;
mod isolation;
mod leave;
mod network;
mod outputs;
mod prompts;
mod sessions;
mod streams;
mod surroundings;
mod tools;
mod whole;
mod work;
