//! The command line: which sub-command does what.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{ArgMatches, Command, FromArgMatches, Subcommand};
use clawdforge_client::commands::{ClientCommand, Io, execute};

use crate::config::{self, Inputs};
use crate::serve;

/// The hidden sub-command that makes this binary the demo agent.
pub const DEMO_AGENT: &str = "__demo-agent";

/// Exit code of a wrong command line or configuration, as clap's.
const USAGE: u8 = 2;

/// Runs the sub-command that the arguments name.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // Before anything else: a demo agent is started for every run and must not wait for a parser of
    // options that are not its own.
    if args.get(1).is_some_and(|first| first == DEMO_AGENT) {
        return clawdforge_agent::demo::main(args.into_iter().skip(2));
    }
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => error.exit(),
    };
    match run(&matches) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::from(USAGE)
        }
    }
}

fn command() -> Command {
    let serve = config::serve_args(Command::new("serve").about("Run the service"));
    let command = Command::new("clawdforge")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Lets many apps use coding agents over HTTP, with one login in one place")
        .after_help("Try it without any agent: clawdforge serve --demo")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve)
        .subcommand(config::config_command());
    ClientCommand::augment_subcommands(command)
}

fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    match matches.subcommand() {
        Some(("serve", matches)) => serve::serve(&Inputs::of_process()?.with_flags(matches)),
        Some(("config", matches)) => {
            config::run_config_command(matches, Inputs::of_process()?, &mut io::stdout(), &mut io::stderr())?;
            Ok(ExitCode::SUCCESS)
        }
        _ => client(ClientCommand::from_arg_matches(matches)?),
    }
}

/// The client verbs: one thread is enough for one request.
fn client(command: ClientCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let environment = Inputs::of_process()?.env;
    Ok(runtime.block_on(async {
        let mut io = Io::of_process(environment);
        execute(command, &mut io).await.into()
    }))
}

/// Tells of an error on standard error; there is nowhere to tell that it could not be told.
fn complain(error: &anyhow::Error) {
    drop(writeln!(io::stderr(), "clawdforge: {error:#}"));
}
