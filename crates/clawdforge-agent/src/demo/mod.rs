//! The bundled demo agent: a program that speaks as `claude -p` does and needs no model.
//!
//! It answers the same to the same prompt, and a prompt may tell it line by line how to behave, well
//! or badly (`docs/reference/agents/demo.md`). It exists so that a service, a client and every way in
//! which an agent can fail can be tried without a provider. Synchronous: it starts in a millisecond.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::ExitCode;

mod acp;
mod chosen;
mod flags;
mod grandchild;
mod leave;
mod player;
mod reach;
mod script;
mod signals;
mod tool_server;
mod voice;
mod wire;

use flags::{Flags, Wanted};
use player::{Played, Player};
use wire::Wire;

/// The sub-command of the service's own program that becomes the demo agent.
pub const SUBCOMMAND: &str = "__demo-agent";

/// What the demo agent says its version is.
pub const VERSION: &str = "clawdforge-demo 1";

/// Name of the file in its workspace that the step `note` adds lines to: what the agent was made to do, whatever
/// became of the record of it.
pub const NOTES_FILE: &str = "notes.txt";

/// Name of the file in its workspace that the step `leave` adds a line to for each kind of process it has left. Each of
/// them keeps the file open and locked, so whoever gets the lock knows that all of them are gone.
pub const LEFT_FILE: &str = "left.txt";

/// Bytes of a prompt, as many as `claude` 2.1.330 takes on standard input.
const PROMPT_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// Exit code of a failed turn and of a wrong command line, as with `claude -p`.
const FAILED: u8 = 1;

/// Runs the demo agent on the process's own streams. `args` come without the program's name (and
/// without [`SUBCOMMAND`]).
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Where even the error stream is gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "Error: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(args: Vec<OsString>) -> io::Result<u8> {
    let flags = match flags::parse(&args) {
        Ok(Wanted::Version) => {
            writeln!(io::stdout(), "{VERSION}")?;
            return Ok(0);
        }
        Ok(Wanted::Acp(speaking)) => return acp::serve(args, speaking),
        Ok(Wanted::Turn(flags)) => flags,
        Err(refusal) => {
            writeln!(io::stderr(), "error: {refusal}")?;
            return Ok(FAILED);
        }
    };
    let system = read_system(&flags)?;
    let prompt = read_prompt()?;
    let wire = Wire::new(io::stdout().lock(), flags.model.clone().unwrap_or_else(|| "demo".to_owned()));
    let wire = wire.with_schema(flags.has_schema);
    let (Played::Done(code) | Played::Gone(code)) = Player::new(args, flags, system, wire).play(&prompt)?;
    Ok(code)
}

fn read_system(flags: &Flags) -> io::Result<Option<String>> {
    let Some(file) = &flags.system_file else { return Ok(None) };
    let text = std::fs::read_to_string(file)
        .map_err(|error| io::Error::new(error.kind(), format!("System prompt file not found: {}", file.display())))?;
    Ok(Some(text))
}

fn read_prompt() -> io::Result<String> {
    let mut prompt = Vec::new();
    io::stdin().lock().take(PROMPT_BYTES_MAX + 1).read_to_end(&mut prompt)?;
    if prompt.len() as u64 > PROMPT_BYTES_MAX {
        return Err(io::Error::other("the prompt on standard input is larger than 10 MB"));
    }
    if prompt.trim_ascii().is_empty() {
        return Err(io::Error::other("Input must be provided through stdin when using --print"));
    }
    Ok(String::from_utf8_lossy(&prompt).into_owned())
}
