//! `session fork`

use clap::Args;
use clap::builder::PossibleValuesParser;
use clawdforge_api::v1::ForkRequest;
use serde_json::Value;

use super::object;
use crate::commands::connection::ConnectionArgs;
use crate::commands::failure::CommandError;
use crate::commands::io::Io;
use crate::commands::settings;

/// Options of forking.
#[derive(Debug, Args)]
pub struct SessionForkArgs {
    /// Id of the session, which stays as it is
    pub id: String,
    /// Model of the fork [default: the session's]
    #[arg(long)]
    pub model: Option<String>,
    /// How hard the model of the fork should think [default: the session's]
    #[arg(long, value_parser = PossibleValuesParser::new(["low", "medium", "high", "xhigh", "max"]))]
    pub effort: Option<String>,
    /// How the agent of the fork asks for permission, by its own name for it [default: the session's]
    #[arg(long)]
    pub mode: Option<String>,
    /// Notes to keep with the fork, a JSON object [default: the session's]
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub meta: Option<Value>,
    /// Print the whole reply instead of the id alone
    #[arg(long)]
    pub json: bool,
}

pub(super) async fn fork(args: &SessionForkArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_app(connection, io)?;
    let changes = ForkRequest {
        model: args.model.clone().map(Some),
        effort: args.effort.clone().map(Some),
        mode: args.mode.clone().map(Some),
        meta: args.meta.clone().map(Some),
    };
    let reply = client.perform(client.session_fork_call(&args.id, &changes, None)?).await?;
    if args.json {
        return Ok(io.print_json(&reply.bytes)?);
    }
    Ok(io.print_text(&reply.value.id)?)
}
