//! What the tests share: the mock model, the test server, the crash harness, the attack suite.

pub mod agents;
pub mod app;
#[cfg(feature = "attack")]
pub mod attack;
pub mod chaos_proxy;
pub mod container;
#[cfg(feature = "crash")]
pub mod crash;
pub mod mock_model;
pub mod sse;
