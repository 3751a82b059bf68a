//! The wire contract: what travels between callers and the service, and nothing about how anything
//! is done.
//!
//! Today this is the surface of the first versions ([`legacy`]), frozen, plus the operator's reads
//! ([`admin`]). No type here is used for storage or inside the engine (I5).

pub mod admin;
pub mod answer;
pub mod legacy;
pub mod problem;
pub mod schema;
pub mod v1;
