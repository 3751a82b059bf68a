//! Lines from standard input, one at a time.

use std::io::{self, BufRead, BufReader, Read};

use tokio::sync::mpsc;

use super::super::failure::CommandError;
use super::super::prompt;
use crate::limits::PROMPT_BYTES_MAX;

/// Lines that are read ahead: none but the one that is handed over, so that a person's terminal keeps the rest.
const LINES_AHEAD_MAX: usize = 1;

/// Reads on a thread of its own, so that Ctrl-C is heard while standard input waits. The thread is left behind at
/// the end: nothing but the end of the process ends a read of a terminal.
pub(super) struct Lines(mpsc::Receiver<io::Result<Vec<u8>>>);

impl Lines {
    pub(super) fn of(stdin: Box<dyn Read + Send>) -> Result<Self, CommandError> {
        let (sender, lines) = mpsc::channel(LINES_AHEAD_MAX);
        let thread = std::thread::Builder::new().name("chat-reader".to_owned()).spawn(move || {
            let mut stdin = BufReader::new(stdin);
            loop {
                let mut line = Vec::new();
                // One byte more than a prompt may have and the end of the line, to see that there are more.
                let read = stdin.by_ref().take(PROMPT_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line);
                let is_last = !matches!(read, Ok(count) if count > 0);
                let line = match read {
                    Ok(0) => return,
                    Ok(_) => Ok(line),
                    Err(error) => Err(error),
                };
                if sender.blocking_send(line).is_err() || is_last {
                    return;
                }
            }
        });
        // It ends by itself, see above.
        drop(thread.map_err(CommandError::Stdin)?);
        Ok(Self(lines))
    }

    /// The next line without its end; none at the end of the input. Cancel-safe.
    ///
    /// # Errors
    /// Whatever is no prompt: what follows in the input would be another one than was meant.
    pub(super) async fn next(&mut self) -> Result<Option<String>, CommandError> {
        let Some(line) = self.0.recv().await else { return Ok(None) };
        let mut line = line.map_err(CommandError::Stdin)?;
        if line.ends_with(b"\n") {
            line.pop();
        }
        if line.ends_with(b"\r") {
            line.pop();
        }
        if line.len() > PROMPT_BYTES_MAX {
            return Err(prompt::too_long());
        }
        String::from_utf8(line).map(Some).map_err(|_| prompt::not_text())
    }
}
