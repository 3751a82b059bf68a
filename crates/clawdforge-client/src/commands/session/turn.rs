//! `clawdforge session turn ID PROMPT|-`

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clawdforge_api::legacy::TurnRequest;

use super::super::connection::ConnectionArgs;
use super::super::failure::CommandError;
use super::super::io::Io;
use super::super::{progress, prompt, settings};
use crate::session::SessionKey;

/// Who may read a trace: it holds what the agent was shown.
const TRACE_MODE: u32 = 0o600;

/// Options of a turn.
#[derive(Debug, Args)]
pub struct SessionTurnArgs {
    /// Id of the session
    pub id: String,
    /// The prompt, or `-` to read it from standard input
    pub prompt: String,
    /// Tokens of uploads to attach (`ff_…`), separated by commas
    #[arg(long, value_name = "TOKENS", value_delimiter = ',')]
    pub files: Vec<String>,
    /// Longest time for the turn, in seconds [default: the service's, 120]
    #[arg(long, value_name = "SECS")]
    pub timeout: Option<u64>,
    /// Print the whole reply instead of the answer alone
    #[arg(long)]
    pub json: bool,
    /// Write the whole reply to this file as well, which only you may read
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

pub(super) async fn turn(args: &SessionTurnArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_app(connection, io)?;
    let session = SessionKey::parse(&args.id)?;
    let request = TurnRequest {
        prompt: prompt::read(&args.prompt, io).await?,
        files: prompt::files(&args.files),
        timeout_secs: args.timeout,
        output_schema: None,
    };
    let call = client.turn_call(&session, &request, Duration::ZERO)?;
    // Before anything is sent: a turn whose trace has no place is better not made.
    let trace = args.trace.as_deref().map(Trace::open).transpose()?;
    let text = |time| format!("running… {}", progress::elapsed(time));
    let reply = progress::watch(io, text, client.perform(call)).await?;
    if let Some(trace) = trace {
        trace.write(&reply.bytes)?;
    }
    if reply.value.events_truncated {
        io.say("there was more than fits into a reply; the rest was left out");
    }
    if args.json {
        return Ok(io.print_json(&reply.bytes)?);
    }
    Ok(io.print_text(&reply.value.text())?)
}

/// A file that a reply can be written to. It keeps what it holds until then.
struct Trace<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> Trace<'a> {
    fn open(path: &'a Path) -> Result<Self, CommandError> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(TRACE_MODE).open(path);
        Ok(Self { path, file: file.map_err(|source| failed(path, source))? })
    }

    fn write(self, json: &[u8]) -> Result<(), CommandError> {
        self.fill(json).map_err(|source| failed(self.path, source))
    }

    fn fill(&self, json: &[u8]) -> io::Result<()> {
        // A device or a pipe has its mode from elsewhere, and no length.
        if self.file.metadata()?.is_file() {
            self.file.set_permissions(Permissions::from_mode(TRACE_MODE))?;
            self.file.set_len(0)?;
        }
        (&self.file).write_all(json.trim_ascii())?;
        (&self.file).write_all(b"\n")
    }
}

fn failed(path: &Path, source: io::Error) -> CommandError {
    CommandError::Trace { path: path.to_owned(), source }
}
