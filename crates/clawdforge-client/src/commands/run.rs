//! `clawdforge run PROMPT|-`

use clap::Args;
use clap::builder::PossibleValuesParser;
use clawdforge_api::legacy::RunRequest;

use super::connection::ConnectionArgs;
use super::failure::CommandError;
use super::io::Io;
use super::{progress, prompt, settings};
use crate::run::RunReplyExt;

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The prompt, or `-` to read it from standard input
    pub prompt: String,
    /// Model of the agent [default: the service's]
    #[arg(long)]
    pub model: Option<String>,
    /// System text
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Whether the system text comes after the agent's own or in its place
    #[arg(long, value_name = "MODE", requires = "system", value_parser = PossibleValuesParser::new(["append", "replace"]))]
    pub system_mode: Option<String>,
    /// How hard the model thinks
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(["low", "medium", "high", "xhigh", "max"]))]
    pub effort: Option<String>,
    /// Longest time for the agent, in seconds [default: the service's, 120]
    #[arg(long, value_name = "SECS")]
    pub timeout: Option<u64>,
    /// The weakest isolation the agent may run at; the service refuses below [default: what it has]
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(["landlock", "uid", "namespaces"]))]
    pub isolation: Option<String>,
    /// Tokens of uploads to attach (`ff_…`), separated by commas
    #[arg(long, value_name = "TOKENS", value_delimiter = ',')]
    pub files: Vec<String>,
    /// Print only the answer: text as it is, anything else as JSON
    #[arg(long)]
    pub raw: bool,
    /// Where the service is.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

pub(super) async fn run(args: &RunArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_app(&args.connection, io)?;
    let prompt = prompt::read(&args.prompt, io).await?;
    let request = RunRequest {
        prompt,
        model: args.model.clone(),
        system: args.system.clone(),
        system_mode: args.system_mode.clone(),
        effort: args.effort.clone(),
        files: prompt::files(&args.files),
        timeout_secs: args.timeout,
        isolation: args.isolation.clone(),
    };
    let call = client.run_call(&request)?;
    let text = |time| format!("running… {}", progress::elapsed(time));
    let reply = progress::watch(io, text, client.perform(call)).await?;
    if args.raw {
        io.stdout.write_all(reply.value.as_text().as_bytes())?;
        io.stdout.write_all(b"\n")?;
        return Ok(io.stdout.flush()?);
    }
    Ok(io.print_json(&reply.bytes)?)
}
