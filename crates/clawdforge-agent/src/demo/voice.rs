//! What the demo agent can express, whichever protocol it speaks.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// One turn's way out.
pub(super) trait Voice {
    /// The turn begins.
    fn begin(&mut self) -> io::Result<()>;
    fn text(&mut self, text: &str) -> io::Result<()>;
    fn thinking(&mut self, thought: &str) -> io::Result<()>;
    fn tool_use(&mut self, call: &str, name: &str, input: &Value) -> io::Result<()>;
    fn tool_result(&mut self, call: &str, content: &str, failed: bool) -> io::Result<()>;
    /// A sign of life with nothing in it.
    fn tick(&mut self) -> io::Result<()>;
    /// The model is tried again.
    fn retry(&mut self, status: u16, word: &str) -> io::Result<()>;
    /// The error in place of an answer.
    fn failed(&mut self, word: &str, text: &str, stop_reason: &str, status: Option<u16>) -> io::Result<()>;
    /// The answer and the end.
    fn answered(&mut self, answer: &str, prompt_chars: usize) -> io::Result<()>;
    /// Bytes as they are.
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Passes time, for ever without a duration. False when the turn was cancelled meanwhile.
    fn pause(&mut self, time: Option<Duration>) -> bool;
    /// From now on, being cancelled changes nothing.
    fn ignore_cancel(&mut self);
    /// The turn was cancelled and is over.
    fn cancelled(&mut self) -> io::Result<()>;
    /// Asks whether a tool may be used; gives the answer in the protocol's words.
    fn ask(&mut self, tool: &str) -> io::Result<String>;
    /// What it remembers of the turns before.
    fn memory(&self) -> Vec<String>;
    /// Loses the record by which the conversation could be resumed.
    fn forget(&mut self) -> io::Result<()>;
    /// Keeps a line for the next prompt of the conversation, which is then played in its place.
    fn keep_for_later(&mut self, line: &str);
    /// The links that came with the prompt.
    fn attachments(&self) -> Vec<String>;
    /// The tool servers that it was given.
    fn tool_servers(&self) -> &[Value] {
        &[]
    }
    /// The directory the turn works in.
    fn folder(&self) -> io::Result<PathBuf> {
        std::env::current_dir()
    }
}
