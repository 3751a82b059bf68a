//! `clawdforge run PROMPT|-`

use std::io::{self, Read};

use clap::Args;
use clap::builder::PossibleValuesParser;
use clawdforge_api::legacy::RunRequest;
use tokio::sync::oneshot;

use super::connection::ConnectionArgs;
use super::failure::CommandError;
use super::io::Io;
use super::{progress, settings};
use crate::limits::PROMPT_BYTES_MAX;
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
    let prompt = match args.prompt.as_str() {
        "-" => from_stdin(io).await?,
        prompt => prompt.to_owned(),
    };
    let request = RunRequest {
        prompt,
        model: args.model.clone(),
        system: args.system.clone(),
        system_mode: args.system_mode.clone(),
        effort: args.effort.clone(),
        files: args.files.iter().filter(|file| !file.is_empty()).cloned().collect(),
        timeout_secs: args.timeout,
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

/// Reads the prompt on a thread of its own, so that Ctrl-C is heard while standard input waits. The
/// thread is then left behind: nothing but the end of the process ends a read of a terminal.
async fn from_stdin(io: &mut Io) -> Result<String, CommandError> {
    let mut stdin = io.stdin.take().ok_or_else(|| CommandError::Usage("standard input is already used".to_owned()))?;
    let (done, text) = oneshot::channel();
    let reader = std::thread::Builder::new()
        .name("prompt-reader".to_owned())
        .spawn(move || {
            let mut bytes = Vec::new();
            let read = stdin.by_ref().take(PROMPT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
            // Nobody waits for it any more after an interrupt.
            let _ = done.send(read.map(|_| bytes));
        })
        .map_err(CommandError::Stdin)?;
    let bytes = text.await.map_err(|_| CommandError::Stdin(io::Error::other("the reader stopped")))?;
    let bytes = bytes.map_err(CommandError::Stdin)?;
    // It has sent, so it is past its last read.
    drop(reader);
    if bytes.len() > PROMPT_BYTES_MAX {
        return Err(CommandError::Usage(format!("the prompt is longer than {PROMPT_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| CommandError::Usage("the prompt is not UTF-8".to_owned()))
}
