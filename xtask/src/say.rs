//! What a chore says: lines on standard output, a failure on standard error. Nothing else in this crate prints.

use std::fmt::Display;

/// Prints one line.
#[expect(clippy::print_stdout, reason = "telling the person at the terminal what is being done is the purpose")]
pub fn line(text: impl Display) {
    println!("{text}");
}

/// Prints why a chore failed.
#[expect(clippy::print_stderr, reason = "a failure must be seen when standard output goes to a file")]
pub fn failure(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
