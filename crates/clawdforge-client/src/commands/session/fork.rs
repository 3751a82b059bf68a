//! `session fork`

use clap::Args;

use super::changes::ChangeArgs;
use crate::commands::connection::ConnectionArgs;
use crate::commands::failure::CommandError;
use crate::commands::io::Io;
use crate::commands::settings;

/// Options of forking.
#[derive(Debug, Args)]
pub struct SessionForkArgs {
    /// Id of the session, which stays as it is
    pub id: String,
    /// What is to be different in the fork.
    #[command(flatten)]
    pub changes: ChangeArgs,
    /// Print the whole reply instead of the id alone
    #[arg(long)]
    pub json: bool,
}

pub(super) async fn fork(args: &SessionForkArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let changes = args.changes.changes()?;
    let client = settings::as_app(connection, io)?;
    let reply = client.perform(client.session_fork_call(&args.id, &changes, None)?).await?;
    if args.json {
        return Ok(io.print_json(&reply.bytes)?);
    }
    Ok(io.print_text(&reply.value.id)?)
}
