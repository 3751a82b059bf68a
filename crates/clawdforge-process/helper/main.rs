//! What the service's binary is to the sandbox, for tests of this crate: its launcher and its attacker.

use std::process::ExitCode;

use clawdforge_process::sandbox::{attack_main, launcher_main};

/// Exit code of a wrong word.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().and_then(|word| word.into_string().ok()).as_deref() {
        Some("launch") => launcher_main(args),
        Some("attack") => attack_main(args),
        _ => ExitCode::from(USAGE),
    }
}
