//! The SQLite store on real files: everything a caller of the door and the windows relies on.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test, too; clippy exempts only its own function")]

mod atomicity;
mod conversations;
mod events;
mod files;
mod full_disk;
mod health;
mod ledger;
mod many_callers;
mod opening;
mod support;
mod tokens;
mod turns;
