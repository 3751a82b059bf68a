//! `clawdforge agents`: installing agents and listing them.
//!
//! Reading order: `catalogue` says what can be installed, `install` tells the story, with `place` (the
//! folder), `npm` and `progress` as its parts; `list` looks for what is there, `sessions` for what sessions
//! can have; `probe` asks programs
//! short questions, for the doctor as well.

pub mod catalogue;
mod install;
pub mod list;
mod npm;
mod place;
mod platform;
pub mod probe;
mod progress;
mod sessions;

use std::io::Write;
use std::pin::pin;
use std::process::ExitCode;

use anyhow::bail;
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use clawdforge_agent::version::Versions;
use clawdforge_client::commands::{Exit, Interrupts, Io};
use clawdforge_engine::AgentHome;
use clawdforge_process::Spawner;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::catalogue::{CATALOGUE, Entry};
use self::install::{Installer, Interrupted, Outcome};
use crate::config::{self, Config, Inputs};

/// The sub-command with its own sub-commands.
pub fn agents_command() -> Command {
    let known = PossibleValuesParser::new(CATALOGUE.iter().map(|entry| entry.name));
    let names = Arg::new("name").value_name("NAME").required(true).num_args(1..).value_parser(known);
    let force = Arg::new("force").long("force").action(ArgAction::SetTrue);
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print one JSON object");
    let table: String = CATALOGUE
        .iter()
        .map(|entry| format!("  {:11} {:8} {}\n", entry.name, entry.version(), entry.purpose))
        .collect();
    let install = Command::new("install")
        .about("Install agents below the data directory, from npm, at the versions this release was tested with")
        .after_help(format!("Agents:\n{table}"))
        .arg(names.help("Which agents").hide_possible_values(true))
        .arg(force.help("Install anew what is there already"));
    let list = Command::new("list")
        .about("Show which agents are there, their versions, where they are and what they say they can do")
        .arg(json);
    Command::new("agents")
        .about("Install and list agents")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(place_args(install))
        .subcommand(place_args(list))
}

/// The options that say which installation is meant; read as those of `serve` are.
fn place_args(command: Command) -> Command {
    let option = |id: &'static str, long: &'static str, value: &'static str, help: &'static str| {
        Arg::new(id).long(long).value_name(value).help(help)
    };
    command
        .arg(option("data_dir", "data-dir", "DIR", "The data directory [default: ./data] [env: CLAWDFORGE_DATA_DIR]"))
        .arg(option("config", "config", "FILE", "The configuration file"))
}

/// Runs what was asked of [`agents_command`], inside a runtime. `inputs` are those of the process;
/// flags are taken from the matches.
///
/// # Errors
/// When the command line or the configuration is wrong; every other failure is told on `io` and is
/// in the exit code.
pub async fn run_agents_command(matches: &ArgMatches, inputs: Inputs, io: &mut Io) -> anyhow::Result<ExitCode> {
    match matches.subcommand() {
        Some(("install", matches)) => {
            let names = matches.get_many::<String>("name").unwrap_or_default();
            // The parser takes names of the catalogue only.
            let entries: Vec<_> = names.filter_map(|name| catalogue::find(name)).collect();
            let config = config::load(&inputs.with_flags(matches))?.config;
            let exit = install_all(&entries, &config, matches.get_flag("force"), io).await?;
            Ok(exit.into())
        }
        Some(("list", matches)) => {
            let config = config::load(&inputs.with_flags(matches))?.config;
            list_all(&config, matches.get_flag("json"), &mut io.stdout).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some((other, _)) => bail!("`agents {other}` does not exist"),
        None => bail!("`agents` needs one of: install, list"),
    }
}

async fn install_all(entries: &[&Entry], config: &Config, force: bool, io: &mut Io) -> anyhow::Result<Exit> {
    let spawner = Spawner::start()?;
    let installer = Installer::new(config, &spawner, force)?;
    // Taken out, because the work borrows the rest.
    let mut interrupts = std::mem::replace(&mut io.interrupts, Interrupts::never());
    let stop = CancellationToken::new();
    let mut exit = Exit::Done;
    for entry in entries {
        let outcome = {
            let mut work = pin!(installer.install(entry, io, &stop));
            // Both are cancel-safe: neither is dropped before it is done with.
            tokio::select! {
                outcome = &mut work => outcome,
                () = interrupts.next(), if !stop.is_cancelled() => {
                    stop.cancel();
                    work.await
                }
            }
        };
        match outcome {
            Ok(outcome) => writeln!(io.stdout, "{}", told(entry, &outcome))?,
            Err(error) => {
                progress::write(io, &format!("clawdforge: {}: {error:#}\n", entry.name));
                exit = if error.is::<Interrupted>() { Exit::Interrupted } else { Exit::Failed };
            }
        }
        if stop.is_cancelled() {
            return Ok(Exit::Interrupted);
        }
    }
    Ok(exit)
}

fn told(entry: &Entry, outcome: &Outcome) -> String {
    let (name, version) = (entry.name, entry.version());
    match outcome {
        Outcome::AlreadyThere { program } => {
            format!("{name} {version} is installed already: {}", program.display())
        }
        Outcome::Installed { program, bytes, took } => {
            let sign_in = entry.how_to_sign_in(program, AgentHome::default());
            let (size, took) = (progress::size(*bytes), progress::elapsed(*took));
            let program = program.display();
            format!(
                "{name} {version} is installed ({size} in {took}): {program}\nnext: {sign_in}; then `clawdforge doctor`"
            )
        }
    }
}

async fn list_all(config: &Config, json: bool, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let spawner = Spawner::start()?;
    // The service's own memory of versions is not touched: another user may be asking here.
    let memory = probe::scratch()?;
    let versions = Versions::load(memory.path().join("versions.json"));
    let mut agents = list::look(config)?;
    list::ask_versions(&mut agents, &spawner, &versions).await;
    let of_sessions = sessions::look(config, &spawner).await?;
    if json {
        let document = json!({ "agents": list::json(&agents), "session_agents": sessions::json(&of_sessions) });
        writeln!(out, "{document:#}")?;
    } else {
        list::table(&agents, out)?;
        writeln!(out)?;
        sessions::table(&of_sessions, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_agent_is_answered_with_the_nearest_and_all_names() {
        let refusal = agents_command().try_get_matches_from(["agents", "install", "cladue-acp"]).unwrap_err();
        let text = refusal.to_string();
        assert!(text.contains("[possible values: claude, claude-acp, acpx, codex, copilot]"), "{text}");
        assert!(text.contains("a similar value exists: 'claude-acp'"), "{text}");
        assert_eq!(refusal.exit_code(), 2);
    }

    #[test]
    fn the_commands_are_well_formed() {
        agents_command().debug_assert();
    }
}
