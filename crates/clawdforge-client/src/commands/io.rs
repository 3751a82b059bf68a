//! Everything a verb may touch of the process it runs in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;

use super::interrupts::Interrupts;
use super::text::{printable, printable_lines};

/// Streams, environment and interrupt of a process, or a test's stand-ins for them.
pub struct Io {
    /// Where prompts come from; taken by the verb that reads it.
    pub stdin: Option<Box<dyn Read + Send>>,
    /// Where results go.
    pub stdout: Box<dyn Write + Send>,
    /// Where everything else goes.
    pub stderr: Box<dyn Write + Send>,
    /// The environment.
    pub env: BTreeMap<OsString, OsString>,
    /// A person types at standard input: a chat shows its prompt.
    pub stdin_is_terminal: bool,
    /// A person reads standard output: the ledger becomes a table.
    pub stdout_is_terminal: bool,
    /// A person watches standard error: waiting shows a progress line.
    pub stderr_is_terminal: bool,
    /// Asks the command to stop, or to stop waiting; first waited for inside [`super::execute`].
    pub interrupts: Interrupts,
}

impl Io {
    /// The streams of this process and its Ctrl-C, with the environment the binary read.
    #[must_use]
    pub fn of_process(env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self {
            stdin: Some(Box::new(io::stdin())),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
            env: env.into_iter().collect(),
            stdin_is_terminal: io::stdin().is_terminal(),
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            interrupts: Interrupts::of_process(),
        }
    }

    /// A variable that is set to something; an empty one counts as unset, as in the `cf` tool.
    pub(super) fn var(&self, name: &str) -> Option<&OsString> {
        self.env.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty())
    }

    pub(super) fn home(&self) -> Option<PathBuf> {
        self.var("HOME").map(PathBuf::from)
    }

    /// One line for the person at the other end of standard error.
    pub(super) fn say(&mut self, message: &str) {
        let mut line = String::new();
        for part in message.lines() {
            // Writing into a string cannot fail.
            let _ = writeln!(line, "clawdforge: {}", printable(part));
        }
        // There is nowhere left to report that standard error is gone.
        let _ = self.stderr.write_all(line.as_bytes()).and_then(|()| self.stderr.flush());
    }

    /// What an agent says, and the end of its line: as it is, but where a person reads it, it steers no terminal.
    pub(super) fn print_text(&mut self, text: &str) -> io::Result<()> {
        self.write_text(text)?;
        self.stdout.write_all(b"\n")?;
        self.stdout.flush()
    }

    /// A piece of it.
    pub(super) fn write_text(&mut self, text: &str) -> io::Result<()> {
        if self.stdout_is_terminal {
            return self.stdout.write_all(printable_lines(text).as_bytes());
        }
        self.stdout.write_all(text.as_bytes())
    }

    /// A JSON text as it came, and the end of its line.
    pub(super) fn print_json(&mut self, json: &[u8]) -> io::Result<()> {
        self.stdout.write_all(json.trim_ascii())?;
        self.stdout.write_all(b"\n")?;
        self.stdout.flush()
    }
}

impl fmt::Debug for Io {
    /// Names no variable: tokens are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("stdin_is_terminal", &self.stdin_is_terminal)
            .field("stdout_is_terminal", &self.stdout_is_terminal)
            .field("stderr_is_terminal", &self.stderr_is_terminal)
            .finish_non_exhaustive()
    }
}
