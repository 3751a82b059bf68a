//! `clawdforge healthz`

use clap::Args;

use super::connection::ConnectionArgs;
use super::failure::CommandError;
use super::io::Io;
use super::settings;

/// Options of `healthz`.
#[derive(Debug, Args)]
pub struct HealthzArgs {
    /// Where the service is.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

pub(super) async fn healthz(args: &HealthzArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::anonymous(&args.connection, io)?;
    let reply = client.perform(client.healthz_call()?).await?;
    Ok(io.print_json(&reply.bytes)?)
}
