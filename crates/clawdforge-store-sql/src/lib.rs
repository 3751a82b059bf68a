//! The SQL store: SQLite in WAL with full sync and group commit.
//!
//! Invariants:
//! - What was acknowledged is on disk: the writer answers only after `COMMIT` returned, and SQLite
//!   syncs its log at every commit (`synchronous = FULL`).
//! - There is one writer. [`open()`] holds an exclusive lock beside the database until the last handle
//!   is gone, and inside the process one task owns the only connection that writes (`writer`).
//! - A commit happens whole or not at all, though many share a transaction.
//! - Nobody but the owner can read the files: database, log and lock are created 0600.
//!
//! Reading order: `open.rs` puts everything together, `writer.rs`, `batch.rs` and `writes.rs` are the way in,
//! `readers.rs` and `rows.rs` the way out.

mod batch;
mod check;
mod connect;
mod expects;
mod fault;
mod ledger_lines;
mod open;
mod private;
mod readers;
mod rows;
mod schema;
mod tool_servers;
mod writer;
mod writes;

pub use check::{Check, inspect};
pub use open::{Claim, CloseError, OpenError, Opened, SqliteOptions, open};
