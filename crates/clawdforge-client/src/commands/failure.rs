//! Why a verb failed, and what a person or a script gets to see of it.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::exit::Exit;
use super::io::Io;
use super::settings::SettingsError;
use crate::builder::BuildError;
use crate::error::{ClientError, TokenKind};

/// Everything that can end a verb early.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot read the prompt from standard input: {0}")]
    Stdin(#[source] io::Error),
    /// An interrupt that was heard by the verb itself, which has said what there is to say.
    #[error("interrupted")]
    Interrupted,
    #[error("cannot write the trace {}: {source}", path.display())]
    Trace { path: PathBuf, source: io::Error },
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

/// Says what happened on standard error and names the exit code.
pub(super) fn report(error: &CommandError, io: &mut Io) -> Exit {
    match error {
        CommandError::Client(ClientError::RunFailed(failure)) => json(failure, error, io),
        CommandError::Client(ClientError::TurnFailed(failure)) => json(failure, error, io),
        CommandError::Client(ClientError::TokenMissing(kind)) => io.say(&format!("{error}. {}", how_to_get(*kind))),
        CommandError::Interrupted => {}
        // Whoever closed the pipe has seen enough.
        CommandError::Output(broken) if broken.kind() == io::ErrorKind::BrokenPipe => {}
        _ => io.say(&error.to_string()),
    }
    exit(error)
}

/// A failure of the agent with all its companions, for whoever reads them by program.
fn json(failure: &impl Serialize, error: &CommandError, io: &mut Io) {
    match serde_json::to_string(failure) {
        Ok(json) => {
            // There is nowhere left to report that standard error is gone.
            let _ = writeln!(io.stderr, "{json}").and_then(|()| io.stderr.flush());
        }
        Err(_) => io.say(&error.to_string()),
    }
}

fn exit(error: &CommandError) -> Exit {
    match error {
        CommandError::Usage(_) | CommandError::Build(BuildError::Url(_)) => Exit::Usage,
        CommandError::Client(ClientError::Invalid(_)) => Exit::Usage,
        CommandError::Interrupted => Exit::Interrupted,
        CommandError::Client(ClientError::TokenMissing(_)) => Exit::TokenMissing,
        CommandError::Client(error) => match error.status() {
            Some(400..=499) => Exit::Refused,
            Some(500..) => Exit::ServiceFailed,
            _ => Exit::Failed,
        },
        CommandError::Settings(_)
        | CommandError::Build(_)
        | CommandError::Stdin(_)
        | CommandError::Trace { .. }
        | CommandError::Output(_) => Exit::Failed,
    }
}

fn how_to_get(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::App => {
            "Set CLAWDFORGE_TOKEN, name a file with --token-file, or write CLAWDFORGE_TOKEN=… into \
             ~/.config/clawdforge/cf.env (mode 0600). The operator mints one with `clawdforge token mint NAME`."
        }
        TokenKind::Admin => {
            "Set CLAWDFORGE_ADMIN_TOKEN, or name a file with --admin-token-file: the service keeps its own in its \
             data directory and says where when it starts."
        }
    }
}
