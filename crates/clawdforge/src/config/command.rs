//! `clawdforge config`: show, example, reference.

use std::io::{ErrorKind, Write};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::flags::serve_args;
use super::{Inputs, load, reference, show};

/// The sub-command with its own sub-commands.
pub fn config_command() -> Command {
    let show = Command::new("show")
        .about("Print every option with its value and where it comes from")
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print one JSON object"));
    Command::new("config")
        .about("Look at the configuration")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve_args(show))
        .subcommand(Command::new("example").about("Print a configuration file with every option and its default"))
        .subcommand(Command::new("reference").about("Print the reference page of all options"))
}

/// Runs what was asked of [`config_command`]. `inputs` are those of the process; flags are taken
/// from the matches. Answers go to `out`, warnings to `err`.
///
/// # Errors
/// When the configuration is wrong ([`ConfigErrors`](super::ConfigErrors)) or writing fails.
pub fn run_config_command(
    matches: &ArgMatches,
    inputs: Inputs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut text = Vec::new();
    match matches.subcommand() {
        Some(("show", matches)) => {
            let loaded = load(&inputs.with_flags(matches))?;
            if matches.get_flag("json") {
                show::json(&loaded, &mut text)?;
            } else {
                show::table(&loaded, &mut text)?;
                for warning in &loaded.warnings {
                    writeln!(err, "warning: {warning}")?;
                }
            }
        }
        Some(("example", _)) => reference::example(&mut text)?,
        Some(("reference", _)) => reference::page(&mut text)?,
        Some((other, _)) => anyhow::bail!("`config {other}` does not exist"),
        None => anyhow::bail!("`config` needs one of: show, example, reference"),
    }
    match out.write_all(&text).and_then(|()| out.flush()) {
        // Whoever reads the answer has seen enough of it (`… | head`).
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
