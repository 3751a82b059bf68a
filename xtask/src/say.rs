//! What a chore says: lines on standard output. Nothing else in this crate prints.

use std::fmt::Display;

/// Prints one line.
#[expect(clippy::print_stdout, reason = "telling the person at the terminal what is being done is the purpose")]
pub fn line(text: impl Display) {
    println!("{text}");
}
