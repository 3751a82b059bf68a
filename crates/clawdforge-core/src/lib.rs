//! The vocabulary and the decision core of clawdforge.
//!
//! Everything here is data and pure functions: no input or output, no clock, no random number, no
//! task (invariant I1). Times and randomness are handed in, so that every story of a run can be
//! told in a unit test. The modules are listed in reading order.

pub mod id;
pub mod secret;
pub mod time;

pub mod limits;

pub mod app;
pub mod principal;

pub mod agent;
pub mod answer;
pub mod file;
pub mod idempotency;
pub mod isolation;
pub mod network;
pub mod output;

pub mod event;
pub mod run;
pub mod session;
pub mod tools;
pub mod turn;

pub mod commit;
pub mod ledger;

pub mod machine;
