//! Other programs that a chore runs, always in the root of the repository.
//!
//! Chores wait for each program on the spot and share its terminal, so `std::process` is enough here;
//! the product owns its processes through `clawdforge-process`.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::paths::root;

/// What cargo tells a program that it runs about its own package. Build scripts look at it, so another cargo that had it
/// handed down would build what depends on them anew, and so would the next one without it.
const OF_THIS_PACKAGE: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// A program with its arguments, to be run in the root of the repository.
pub fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(root());
    #[expect(
        clippy::disallowed_methods,
        reason = "this takes things out of what a program is handed, and reads nothing"
    )]
    let handed_down = std::env::vars_os();
    for (name, _) in handed_down {
        if OF_THIS_PACKAGE.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// Shows the command line, runs it with our own output streams, and waits.
///
/// # Errors
/// The program could not be started, or ended with anything but exit code 0.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    crate::say::line(format_args!("    $ {shown}"));
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("could not start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs the program and returns what it printed on standard output.
///
/// # Errors
/// The program could not be started, or ended with anything but exit code 0; then its standard error
/// is part of the message.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("could not start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(output.stdout)
}

/// The first line that a tool prints when asked for its version; `None` when the tool is not there.
///
/// # Errors
/// The tool is there and could not be started.
pub fn version(command: &mut Command) -> Result<Option<String>> {
    let shown = shown(command);
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned()))
        }
        // `cargo x` for a subcommand that is not installed ends with an exit code, not with an error.
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("could not start `{shown}`")),
    }
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_an_error_that_names_it() {
        let error = run(&mut program("sh", &["-c", "exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c exit 3") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_program_does_not_hear_of_this_package() {
        // Which cargo says to its tests.
        let handed_down = Command::new("env").output().unwrap().stdout;
        assert!(String::from_utf8(handed_down).unwrap().contains("CARGO_MANIFEST_DIR="));
        let said = output(&mut program("env", &[])).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("PATH=") && !said.contains("CARGO_PKG_") && !said.contains("CARGO_MANIFEST_"), "{said}");
    }

    #[test]
    fn what_a_failing_program_said_is_in_the_error() {
        let error = output(&mut program("sh", &["-c", "echo no such luck >&2; exit 1"])).unwrap_err().to_string();
        assert!(error.contains("no such luck"), "{error}");
    }

    #[test]
    fn a_missing_tool_has_no_version() {
        assert_eq!(version(&mut program("no-such-tool-anywhere", &["--version"])).unwrap(), None);
        assert_eq!(version(&mut program("sh", &["-c", "exit 101"])).unwrap(), None);
        assert_eq!(
            version(&mut program("sh", &["-c", "echo tool 1.2; echo more"])).unwrap().as_deref(),
            Some("tool 1.2")
        );
    }
}
