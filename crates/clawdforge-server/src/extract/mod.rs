//! Extractors: what a handler may take for granted once it runs.

mod body;
mod principal;
mod segments;

pub(crate) use body::{BodyRoom, JsonBody};
pub(crate) use principal::{ByApp, ByOperator};
pub(crate) use segments::Segments;
