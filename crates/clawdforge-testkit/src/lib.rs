//! What the tests share: the mock model, the test server, the crash harness.

pub mod agents;
pub mod app;
pub mod mock_model;
