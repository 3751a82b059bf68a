//! The engine over a real store, with agents that play a script inside the test.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod cancelling;
mod conversations;
mod doubtful;
mod erasing;
mod faults;
mod following;
mod forking;
mod owner;
mod quota;
mod resting;
mod retrying;
mod scene;
mod stage;
mod survivors;
mod talker;
mod tokens;
