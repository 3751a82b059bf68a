//! Secrets: unprintable by type, zeroed on drop.
//!
//! The `secrecy` crate does the work; this module only gives it the name the house uses.

pub use secrecy::{ExposeSecret, SecretString};
