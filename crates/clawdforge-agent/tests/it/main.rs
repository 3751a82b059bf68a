//! Every way an agent behaves towards a driver, well or badly, with real processes; whole subjects are in the battery of the crate `clawdforge`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]

mod acp;
mod acpx;
mod answers;
mod endings;
mod failures;
mod forgetting;
mod input;
mod modes;
mod recordings;
mod shared;
mod support;
mod surroundings;
mod system_prompts;
mod tool_servers;
mod versions;
