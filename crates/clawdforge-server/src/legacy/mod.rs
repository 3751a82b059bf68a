//! The surface of the first versions, exactly: render only.
//!
//! The engine does the same here as everywhere; these handlers only read and write the old shapes,
//! which golden files hold.

pub(crate) mod files;
mod form_body;
pub(crate) mod health;
pub(crate) mod run;
pub(crate) mod sessions;
pub(crate) mod tokens;
pub(crate) mod turns;
