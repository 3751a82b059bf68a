//! Lines from a program as bounded bytes.
//!
//! Memory is bounded by one buffer and one line, whatever the program writes: a longer line is skipped
//! to its end, counted, and shown by its beginning only. Bytes are not interpreted here.

use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// Bytes read at once: a pipe's usual capacity, so that a flood costs few system calls.
const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes of an oversized line that are kept, enough to tell in a log what it was.
pub const OVERSIZED_HEAD_BYTES_MAX: usize = 256;

/// One line, without its line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The line, without `\n` or `\r\n`.
    Whole(Vec<u8>),
    /// A line over the bound; its rest was skipped.
    Oversized {
        /// How many bytes it had before its `\n`.
        bytes: u64,
        /// How it began, at most [`OVERSIZED_HEAD_BYTES_MAX`] bytes.
        head: Vec<u8>,
    },
}

/// Reads lines of at most a given length.
#[derive(Debug)]
pub struct LineReader<R> {
    source: BufReader<R>,
    line_bytes_max: usize,
    /// What of the current line is kept. It lives here rather than in the future, which may be dropped.
    kept: Vec<u8>,
    /// Bytes of the current line so far.
    bytes: u64,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Reads from `source`; a line may have `line_bytes_max` bytes before its `\n`.
    pub fn new(source: R, line_bytes_max: usize) -> Self {
        Self { source: BufReader::with_capacity(BUFFER_BYTES, source), line_bytes_max, kept: Vec::new(), bytes: 0 }
    }

    /// The next line, or nothing at the end. A last line without a break counts. Cancel safe: a line
    /// that was begun is continued by the next call.
    ///
    /// # Errors
    /// What the source answered; the line that was begun is kept.
    pub async fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            let available = self.source.fill_buf().await?;
            if available.is_empty() {
                return Ok((self.bytes > 0).then(|| self.finish()));
            }
            // No await from here to the end of the round, so what is consumed is also kept.
            let end = available.iter().position(|byte| *byte == b'\n');
            let piece = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
            let consumed = piece.len() + usize::from(end.is_some());
            let was_oversized = self.bytes > self.line_bytes_max as u64;
            self.bytes += piece.len() as u64;
            if self.bytes <= self.line_bytes_max as u64 {
                self.kept.extend_from_slice(piece);
            } else if !was_oversized {
                // Nobody gets the rest to see, so it shall not occupy memory while the line goes on.
                let head: Vec<u8> = self.kept.iter().chain(piece).take(OVERSIZED_HEAD_BYTES_MAX).copied().collect();
                self.kept = head;
            }
            self.source.consume(consumed);
            if end.is_some() {
                return Ok(Some(self.finish()));
            }
        }
    }

    fn finish(&mut self) -> Line {
        let mut kept = std::mem::take(&mut self.kept);
        let bytes = std::mem::take(&mut self.bytes);
        if bytes > self.line_bytes_max as u64 {
            return Line::Oversized { bytes, head: kept };
        }
        if kept.last() == Some(&b'\r') {
            kept.pop();
        }
        Line::Whole(kept)
    }
}

#[cfg(test)]
mod tests;
