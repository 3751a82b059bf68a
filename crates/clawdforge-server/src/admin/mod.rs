//! What only the operator reads.

pub(crate) mod ledger;
