//! The SDK and the command line against a stub of the service on loopback.
//!
//! `stub` answers as told and remembers what it was asked; `cli` runs a command line with streams,
//! environment and interrupt of its own. The real service is met in the binary's tests.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper that cannot go on fails its test")]

mod cli;
mod cli_chat;
mod cli_ledger;
mod cli_output;
mod cli_run;
mod cli_session;
mod cli_settings;
mod cli_stream;
mod cli_token;
mod cli_upload;
mod sdk_calls;
mod sdk_errors;
mod sdk_limits;
mod sdk_sessions;
mod sdk_sessions_close;
mod sdk_streams;
mod sdk_tokens;
mod sdk_upload;
mod sdk_v1;
mod streams;
mod stub;
