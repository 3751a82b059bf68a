//! Dying by a signal and not dying by one.

use std::io;

use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// Sends itself the signal of a name (`KILL`) or number (`9`); returns only where that did not end it.
pub(super) fn die_by(name: &str) -> io::Result<()> {
    let signal = named(name).ok_or_else(|| io::Error::other(format!("no signal is called {name}")))?;
    // Twice: for some signals the runtime has a handler, which gives way after the first.
    kill_process(getpid(), signal)?;
    kill_process(getpid(), signal)?;
    Ok(())
}

fn named(name: &str) -> Option<Signal> {
    Some(match name.trim_start_matches("SIG") {
        "HUP" | "1" => Signal::HUP,
        "INT" | "2" => Signal::INT,
        "ABRT" | "6" => Signal::ABORT,
        "KILL" | "9" => Signal::KILL,
        "SEGV" | "11" => Signal::SEGV,
        "TERM" | "15" => Signal::TERM,
        _ => return None,
    })
}

/// Lives on when asked to terminate. Tokio's handler stays in place for the life of the process, and
/// installing one of our own would need unsafe code.
pub(super) fn ignore_terminate() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { signal(SignalKind::terminate()).map(drop) })
}
