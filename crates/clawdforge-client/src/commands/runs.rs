//! `clawdforge runs list|get|cancel`

use clap::{Args, Subcommand};

use super::connection::ConnectionArgs;
use super::failure::CommandError;
use super::io::Io;
use super::settings;
use super::text::whole_number;
use crate::v1::PageQuery;

/// Options of `runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: RunsVerb,
    /// Where the service is.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// What can be done with runs.
#[derive(Debug, Subcommand)]
pub enum RunsVerb {
    /// List the app's runs, newest first
    List(RunsListArgs),
    /// Look at one run, with what came of it
    Get(RunsGetArgs),
    /// Have a run stopped; `events ID --follow` tells when it has
    Cancel(RunsCancelArgs),
}

/// Options of listing.
#[derive(Debug, Args)]
pub struct RunsListArgs {
    /// Runs on a page at most, 1 to 1,000 [default: the service's]
    #[arg(long, value_parser = whole_number::<usize>)]
    pub limit: Option<usize>,
    /// The `next_cursor` of the page before
    #[arg(long)]
    pub cursor: Option<String>,
}

/// Options of looking.
#[derive(Debug, Args)]
pub struct RunsGetArgs {
    /// Id of the run (`run_…`)
    pub id: String,
}

/// Options of stopping.
#[derive(Debug, Args)]
pub struct RunsCancelArgs {
    /// Id of the run (`run_…`)
    pub id: String,
}

pub(super) async fn runs(args: &RunsArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_app(&args.connection, io)?;
    let json = match &args.verb {
        RunsVerb::List(RunsListArgs { limit, cursor }) => {
            let page = PageQuery { cursor: cursor.clone(), limit: *limit };
            client.perform(client.runs_call(&page)?).await?.bytes
        }
        RunsVerb::Get(RunsGetArgs { id }) => client.perform(client.run_get_call(id)?).await?.bytes,
        RunsVerb::Cancel(RunsCancelArgs { id }) => client.perform(client.run_cancel_call(id)?).await?.bytes,
    };
    Ok(io.print_json(&json)?)
}
