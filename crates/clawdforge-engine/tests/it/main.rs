//! The engine over a real store, with agents that play a script inside the test.

mod faults;
mod owner;
mod stage;
