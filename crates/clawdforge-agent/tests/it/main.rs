//! The driver battery: every way an agent behaves, well or badly, with real processes.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]

mod acp;
mod acpx;
mod answers;
mod endings;
mod failures;
mod forgetting;
mod input;
mod recordings;
mod shared;
mod support;
mod surroundings;
mod versions;
