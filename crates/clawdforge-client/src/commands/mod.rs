//! The client verbs of the command line, one file each, on the public [`crate::Client`].
//!
//! The binary flattens [`ClientCommand`] into its own sub-commands, makes one [`Io`] and calls
//! [`execute`]. Nothing here touches the process's environment, streams or arguments: all of it
//! comes through [`Io`], so that tests need no globals.
//!
//! Results are JSON on standard output as the service sent it, everything else goes to standard
//! error. Options, configuration file and exit codes are those of the first versions' `cf` tool.

mod connection;
mod env_file;
mod exit;
mod failure;
mod healthz;
mod io;
mod ledger;
mod ledger_table;
mod progress;
mod run;
mod settings;
mod text;
mod token;
mod upload;

use std::future::{Future, pending};
use std::pin::Pin;

use clap::Subcommand;

pub use connection::ConnectionArgs;
pub use exit::Exit;
pub use healthz::HealthzArgs;
pub use io::Io;
pub use ledger::{LedgerArgs, LedgerExportArgs, LedgerFilter, LedgerFormat, LedgerListArgs, LedgerVerb};
pub use run::RunArgs;
pub use token::{AdminArgs, AdminVerb, MintArgs, RevokeArgs, TokenArgs, TokenVerb};
pub use upload::UploadArgs;

use failure::CommandError;

/// The verbs that talk to a running service.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Ask the service whether it is up
    Healthz(HealthzArgs),
    /// Run one prompt and print the answer
    Run(RunArgs),
    /// Upload a file, to attach to runs by its token
    Upload(UploadArgs),
    /// Mint, list and revoke app tokens (needs the admin token)
    Token(TokenArgs),
    /// Read what happened and what it cost (needs the admin token)
    Ledger(LedgerArgs),
    /// The older spelling of `token`
    #[command(hide = true)]
    Admin(AdminArgs),
}

/// Does what a command says and reports on `io`; the caller only passes on the exit code.
///
/// On an interrupt (Ctrl-C) the connection is dropped; a run the service has accepted goes on there
/// and is recorded.
pub async fn execute(command: ClientCommand, io: &mut Io) -> Exit {
    let interrupt = std::mem::replace(&mut io.interrupt, Box::pin(pending()));
    // Both branches may be dropped half-way: a verb then closes its connection, the interrupt is
    // not waited for again.
    let outcome = tokio::select! {
        outcome = verb(&command, io) => Some(outcome),
        () = interrupt => None,
    };
    match outcome {
        Some(Ok(())) => Exit::Done,
        Some(Err(error)) => failure::report(&error, io),
        None => {
            progress::clear(io);
            io.say("interrupted; a run the service has accepted goes on and is recorded");
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
        ClientCommand::Upload(args) => Box::pin(upload::upload(args, io)),
        ClientCommand::Token(args) => Box::pin(token::token(args, io)),
        ClientCommand::Ledger(args) => Box::pin(ledger::ledger(args, io)),
        ClientCommand::Admin(args) => Box::pin(token::admin(args, io)),
    }
}
