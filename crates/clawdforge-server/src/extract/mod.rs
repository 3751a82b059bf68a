//! Extractors: what a handler may take for granted once it runs.

mod body;
mod principal;

pub(crate) use body::{BodyRoom, JsonBody};
pub(crate) use principal::{ByApp, ByOperator};
