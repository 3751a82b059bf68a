//! What the tests share: the mock model, the test server, the crash harness.

pub mod agents;
pub mod app;
pub mod container;
#[cfg(feature = "crash")]
pub mod crash;
pub mod mock_model;
