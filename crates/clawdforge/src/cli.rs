//! The command line: which sub-command does what.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgMatches, Command, FromArgMatches, Subcommand};
use clawdforge_client::commands::{ClientCommand, Io, execute};
use clawdforge_engine::Ids;
use clawdforge_process::sandbox::{attack_main, launcher_main};
use clawdforge_process::secrets::hide_this_process;

use crate::config::{self, ConfigErrors, Inputs};
use crate::{agents, clock, doctor, isolation, serve};

/// The hidden sub-command that makes this binary the demo agent.
pub const DEMO_AGENT: &str = "__demo-agent";

/// What the whole program is for.
const ABOUT: &str = "Lets many apps use coding agents over HTTP, with one login in one place";

/// What stands below the list of sub-commands.
const AFTER_HELP: &str = "\
Try it without any agent: clawdforge serve --demo, then clawdforge session chat

run, runs, session, events, upload, token, ledger and healthz speak to CLAWDFORGE_URL (http://127.0.0.1:8800) with
CLAWDFORGE_TOKEN or CLAWDFORGE_ADMIN_TOKEN; ~/.config/clawdforge/cf.env (mode 0600) may hold them as KEY=VALUE lines.
Their exit codes: 0 done, 1 no connection or a local fault, 2 wrong usage, 3 no token, 4 refused by the service, 5 failed
there, 130 interrupted.";

/// Exit code of a wrong configuration, as clap's of a wrong command line.
const USAGE: u8 = 2;

/// Runs the sub-command that the arguments name.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // These two restrict or attack from a process that has done nothing yet.
    match args.get(1).and_then(|first| first.to_str()) {
        Some(isolation::LAUNCHER) => return launcher_main(args.into_iter().skip(2)),
        Some(isolation::ATTACKER) => return attack_main(args.into_iter().skip(2)),
        _ => {}
    }
    // Before anything else: a demo agent is started for every run and must not wait for a parser of
    // options that are not its own.
    if args.get(1).is_some_and(|first| first == DEMO_AGENT) {
        return clawdforge_agent::demo::main(args.into_iter().skip(2));
    }
    // It holds the operator's secrets from here on, whichever sub-command it is.
    if let Err(error) = hide_this_process() {
        complain(&anyhow::Error::new(error).context("this process cannot be hidden from its neighbours"));
        return ExitCode::FAILURE;
    }
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => error.exit(),
    };
    match run(&matches) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            if error.is::<ConfigErrors>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn command() -> Command {
    let serve = config::serve_args(Command::new("serve").about("Run the service"));
    let command = Command::new("clawdforge")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(AFTER_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve)
        .subcommand(agents::agents_command())
        .subcommand(doctor::doctor_command())
        .subcommand(serve::admin_token_command())
        .subcommand(config::config_command());
    // Last, because the client's verbs bring a description of their own.
    ClientCommand::augment_subcommands(command).about(ABOUT)
}

fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    match matches.subcommand() {
        Some(("serve", matches)) => {
            let inputs = Inputs::of_process()?.with_flags(matches);
            config::forget_environment();
            serve::serve(&inputs)
        }
        Some(("config", matches)) => {
            config::run_config_command(matches, Inputs::of_process()?, &mut io::stdout(), &mut io::stderr())?;
            Ok(ExitCode::SUCCESS)
        }
        Some(("agents", matches)) => tool(async |inputs, io| agents::run_agents_command(matches, inputs, io).await),
        Some(("admin-token", matches)) => {
            let ids = Ids::new(Arc::new(clock::SystemClock));
            serve::run_admin_token_command(matches, Inputs::of_process()?, &ids, &mut io::stdout())
        }
        Some(("doctor", matches)) => {
            tool(async |inputs, io| doctor::run_doctor_command(matches, inputs, &clock::SystemClock, io).await)
        }
        _ => {
            let command = ClientCommand::from_arg_matches(matches)?;
            tool(async |_, io| Ok(execute(command, io).await.into()))
        }
    }
}

/// Runs a verb that is no service: one thread is enough.
fn tool(verb: impl AsyncFnOnce(Inputs, &mut Io) -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let inputs = Inputs::of_process()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        let mut io = Io::of_process(inputs.env.clone());
        verb(inputs, &mut io).await
    });
    // A read of standard input or of a pipe that nobody writes to would hold up a plain drop for ever.
    runtime.shutdown_background();
    code
}

/// Tells of an error on standard error; there is nowhere to tell that it could not be told.
fn complain(error: &anyhow::Error) {
    drop(writeln!(io::stderr(), "clawdforge: {error:#}"));
}
