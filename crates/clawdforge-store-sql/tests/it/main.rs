//! The SQLite store on real files: everything a caller of the door and the windows relies on.

mod atomicity;
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
