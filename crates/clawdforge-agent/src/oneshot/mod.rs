//! One-shot agents that speak as `claude -p` does: one process per turn, the prompt on standard input,
//! JSON lines on standard output, the last of which is the result.
//!
//! [`command`] says what to start, [`output`] turns lines into signals, [`failures`] turns a bad result
//! into a sentence, the link owns the process, and [`OneShotDriver`] opens links. The facts about Claude
//! Code were measured with 2.1.330; recordings of it are this crate's test fixtures.

pub mod command;
mod driver;
pub mod failures;
mod link;
pub mod output;
mod running;

pub use driver::OneShotDriver;
pub(crate) use link::not_started;
