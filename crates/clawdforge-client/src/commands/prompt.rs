//! A prompt: an argument, or the whole of standard input.

use std::io::{self, Read};

use tokio::sync::oneshot;

use super::failure::CommandError;
use super::io::Io;
use crate::limits::PROMPT_BYTES_MAX;

/// The argument itself, or standard input if it is `-`.
pub(super) async fn read(argument: &str, io: &mut Io) -> Result<String, CommandError> {
    match argument {
        "-" => from_stdin(io).await,
        prompt => Ok(prompt.to_owned()),
    }
}

/// The tokens of uploads that were given; nothing between two commas is none.
pub(super) fn files(given: &[String]) -> Vec<String> {
    given.iter().filter(|file| !file.is_empty()).cloned().collect()
}

/// Why a text longer than the service takes is not sent.
pub(super) fn too_long() -> CommandError {
    CommandError::Usage(format!("the prompt is longer than {PROMPT_BYTES_MAX} bytes"))
}

/// Why bytes that are no text are not sent.
pub(super) fn not_text() -> CommandError {
    CommandError::Usage("the prompt is not UTF-8".to_owned())
}

/// Standard input, if nobody has taken it yet.
pub(super) fn stdin(io: &mut Io) -> Result<Box<dyn Read + Send>, CommandError> {
    io.stdin.take().ok_or_else(|| CommandError::Usage("standard input is already used".to_owned()))
}

/// Reads the prompt on a thread of its own, so that Ctrl-C is heard while standard input waits. The
/// thread is then left behind: nothing but the end of the process ends a read of a terminal.
async fn from_stdin(io: &mut Io) -> Result<String, CommandError> {
    let mut stdin = stdin(io)?;
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
        return Err(too_long());
    }
    String::from_utf8(bytes).map_err(|_| not_text())
}
