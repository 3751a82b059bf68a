//! The client verbs of the command line, one file each, on the public [`crate::Client`].
//!
//! The binary flattens [`ClientCommand`] into its own sub-commands, makes one [`Io`] and calls
//! [`execute`]. Nothing here touches the process's environment, streams or arguments: all of it
//! comes through [`Io`], so that tests need no globals.
//!
//! Results are JSON on standard output as the service sent it, everything else goes to standard
//! error. Options, configuration file and exit codes are those of the first versions' `cf` tool.

mod chat;
mod connection;
mod env_file;
mod events;
mod exit;
mod failure;
mod healthz;
mod interrupts;
mod io;
mod ledger;
mod ledger_table;
mod progress;
mod prompt;
mod run;
mod runs;
mod screen;
mod session;
mod settings;
mod telling;
mod text;
mod token;
mod upload;

use std::future::Future;
use std::pin::Pin;

use clap::Subcommand;

pub use chat::ChatArgs;
pub use connection::ConnectionArgs;
pub use events::EventsArgs;
pub use exit::Exit;
pub use healthz::HealthzArgs;
pub use interrupts::Interrupts;
pub use io::Io;
pub use ledger::{LedgerArgs, LedgerExportArgs, LedgerFilter, LedgerFormat, LedgerListArgs, LedgerVerb};
pub use run::RunArgs;
pub use runs::{RunsArgs, RunsCancelArgs, RunsGetArgs, RunsListArgs, RunsVerb};
pub use session::{
    ChangeArgs, Choice, SessionArgs, SessionCloseArgs, SessionForkArgs, SessionGetArgs, SessionListArgs,
    SessionNewArgs, SessionSetArgs, SessionTurnArgs, SessionVerb,
};
pub use token::{AdminArgs, AdminVerb, MintArgs, RevokeArgs, TokenArgs, TokenGetArgs, TokenListArgs, TokenVerb};
pub use upload::UploadArgs;

use failure::CommandError;

/// The verbs that talk to a running service.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Ask the service whether it is up
    Healthz(HealthzArgs),
    /// Run one prompt and print the answer
    Run(RunArgs),
    /// Look at runs and have them stopped
    Runs(RunsArgs),
    /// Hold a conversation: open a session, give it turns, look at it, change it, close it, or chat
    Session(SessionArgs),
    /// Print what happened in a session or run, or follow it, one JSON line per event
    Events(EventsArgs),
    /// Upload a file, to attach to runs and turns by its token
    Upload(UploadArgs),
    /// Mint, look at and revoke app tokens (needs the admin token)
    Token(TokenArgs),
    /// Read what happened and what it cost (needs the admin token)
    Ledger(LedgerArgs),
    /// The older spelling of `token`
    #[command(hide = true)]
    Admin(AdminArgs),
}

/// Does what a command says and reports on `io`; the caller only passes on the exit code.
///
/// On an interrupt (Ctrl-C) the connection is dropped; a run or turn the service has accepted goes on there
/// and is recorded. A chat stops only the waiting, and ends by an interrupt between two turns; a run whose answer is
/// printed as it comes says how to follow it.
pub async fn execute(command: ClientCommand, io: &mut Io) -> Exit {
    let mut interrupts = match &command {
        // They mind them themselves.
        ClientCommand::Session(SessionArgs { verb: SessionVerb::Chat(_), .. })
        | ClientCommand::Run(RunArgs { stream: true, .. }) => Interrupts::never(),
        _ => std::mem::replace(&mut io.interrupts, Interrupts::never()),
    };
    match interrupts.or(verb(&command, io)).await {
        Some(Ok(())) => Exit::Done,
        Some(Err(error)) => failure::report(&error, io),
        None => {
            progress::clear(io);
            io.say("interrupted; a run or turn the service has accepted goes on and is recorded");
            Exit::Interrupted
        }
    }
}

/// Boxed, since the future of the largest verb would otherwise sit in every caller's.
fn verb<'a>(
    command: &'a ClientCommand,
    io: &'a mut Io,
) -> Pin<Box<dyn Future<Output = Result<(), CommandError>> + Send + 'a>> {
    match command {
        ClientCommand::Healthz(args) => Box::pin(healthz::healthz(args, io)),
        ClientCommand::Run(args) => Box::pin(run::run(args, io)),
        ClientCommand::Runs(args) => Box::pin(runs::runs(args, io)),
        ClientCommand::Session(args) => Box::pin(session::session(args, io)),
        ClientCommand::Events(args) => Box::pin(events::events(args, io)),
        ClientCommand::Upload(args) => Box::pin(upload::upload(args, io)),
        ClientCommand::Token(args) => Box::pin(token::token(args, io)),
        ClientCommand::Ledger(args) => Box::pin(ledger::ledger(args, io)),
        ClientCommand::Admin(args) => Box::pin(token::admin(args, io)),
    }
}
