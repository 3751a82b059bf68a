//! `clawdforge run PROMPT|-`

use clap::Args;
use clap::builder::PossibleValuesParser;
use std::path::{Path, PathBuf};

use clawdforge_api::legacy::{RunReply, RunRequest};
use clawdforge_core::event::{EventSeq, TurnOutcome};
use serde_json::Value;

use super::connection::ConnectionArgs;
use super::failure::CommandError;
use super::interrupts::Interrupts;
use super::io::Io;
use super::screen::Thinking;
use super::telling::{self, Told};
use super::{progress, prompt, settings};
use crate::client::Client;
use crate::error::ClientError;
use crate::events::EventSource;
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
    /// File with a JSON Schema that the answer must fit; with --raw the data is printed, in the reply it is `result`,
    /// and --stream prints the words it was given in
    #[arg(long, value_name = "FILE")]
    pub output_schema: Option<PathBuf>,
    /// Print only the answer: text as it is, anything else as JSON
    #[arg(long)]
    pub raw: bool,
    /// Print the answer's text as it comes; thinking and tools go to standard error. Ctrl-C leaves the run going
    #[arg(long, conflicts_with = "raw")]
    pub stream: bool,
    /// Where the service is.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

pub(super) async fn run(args: &RunArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_app(&args.connection, io)?;
    let output_schema = args.output_schema.as_deref().map(read_schema).transpose()?;
    let prompt = match args.stream {
        false => prompt::read(&args.prompt, io).await?,
        true => {
            let mut interrupts = std::mem::replace(&mut io.interrupts, Interrupts::never());
            let prompt = interrupts.or(prompt::read(&args.prompt, io)).await;
            io.interrupts = interrupts;
            prompt.ok_or(CommandError::Interrupted)??
        }
    };
    let request = RunRequest {
        prompt,
        model: args.model.clone(),
        system: args.system.clone(),
        system_mode: args.system_mode.clone(),
        effort: args.effort.clone(),
        files: prompt::files(&args.files),
        timeout_secs: args.timeout,
        isolation: args.isolation.clone(),
        output_schema,
    };
    if args.stream {
        return stream(&client, &request, io).await;
    }
    let text = |time| format!("running… {}", progress::elapsed(time));
    let (reply, bytes) = if request.output_schema.is_some() {
        let outcome = progress::watch(io, text, ended(&client, &request)).await?;
        let reply = data(outcome)?;
        let bytes = serde_json::to_vec(&reply).map_err(|error| CommandError::Output(error.into()))?;
        (reply, bytes)
    } else {
        let call = client.run_call(&request)?;
        let reply = progress::watch(io, text, client.perform(call)).await?;
        (reply.value, reply.bytes.to_vec())
    };
    if args.raw {
        io.stdout.write_all(reply.as_text().as_bytes())?;
        io.stdout.write_all(b"\n")?;
        return Ok(io.stdout.flush()?);
    }
    Ok(io.print_json(&bytes)?)
}

fn read_schema(path: &Path) -> Result<Value, CommandError> {
    let wrong = |why: String| CommandError::Usage(format!("--output-schema {}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))
}

/// Runs it through `/v1`, which alone knows schemas, to its end.
async fn ended(client: &Client, request: &RunRequest) -> Result<TurnOutcome, ClientError> {
    let mut events = client.stream_run(request, None).await?;
    let mut outcome = None;
    while let Some(event) = events.next().await? {
        outcome = event.outcome().cloned().or(outcome);
    }
    outcome.ok_or_else(|| ClientError::BadReply("how it ended is told in words of a newer version".to_owned()))
}

/// The data of a run in the form of a run's answer.
fn data(outcome: TurnOutcome) -> Result<RunReply, CommandError> {
    let (result, stop_reason) = (outcome.output.clone(), outcome.stop_reason.clone());
    let duration_ms = outcome.duration_ms;
    if let Some(failure) = telling::failure(outcome) {
        return Err(ClientError::RunFailed(Box::new(failure)).into());
    }
    let result = result.ok_or_else(|| ClientError::BadReply("the service does not know output_schema".to_owned()))?;
    Ok(RunReply { ok: true, result, duration_ms, stop_reason })
}

/// Prints the answer as it comes. It minds the interrupts itself, to say how to go on.
async fn stream(client: &Client, request: &RunRequest, io: &mut Io) -> Result<(), CommandError> {
    let mut interrupts = std::mem::replace(&mut io.interrupts, Interrupts::never());
    let Some(begun) = telling::begin(client.stream_run(request, None), &mut interrupts, io).await else {
        io.say("interrupted; the run may have begun, and then goes on and is recorded: see `clawdforge runs list`");
        return Err(CommandError::Interrupted);
    };
    let mut events = begun?;
    let EventSource::Run(run) = events.source().clone() else {
        return Err(ClientError::BadReply("it does not name a run".to_owned()).into());
    };
    let told = telling::tell(&mut events, Thinking::Always, &mut interrupts, io).await;
    match told {
        Ok(Told::Ended(outcome)) => match telling::failure(*outcome) {
            Some(failure) => Err(ClientError::RunFailed(Box::new(failure)).into()),
            None => Ok(()),
        },
        Ok(Told::Interrupted) => {
            say_how_to_go_on(&run, events.seen(), io);
            Err(CommandError::Interrupted)
        }
        Err(error) => {
            say_how_to_go_on(&run, events.seen(), io);
            Err(error)
        }
    }
}

fn say_how_to_go_on(run: &str, seen: EventSeq, io: &mut Io) {
    io.say(&format!(
        "the run {run} goes on at the service\n\
         follow it from here: clawdforge events {run} --follow --after {seen}\n\
         what came of it:     clawdforge runs get {run}\n\
         stop it:             clawdforge runs cancel {run}"
    ));
}
