//! The demo agent as a program of its own, for this crate's tests. Operators get it as a hidden
//! sub-command of `clawdforge`.

use std::process::ExitCode;

fn main() -> ExitCode {
    clawdforge_agent::demo::main(std::env::args_os().skip(1))
}
