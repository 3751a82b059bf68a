//! Runs a command line as the binary would, with everything of the process replaced.

use std::future::Future;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use clawdforge_client::commands::{ClientCommand, Exit, Interrupts, Io, execute};
use futures_util::Stream;
use serde_json::Value;

use crate::stub::{ADMIN_TOKEN, APP_TOKEN, Stub};

#[derive(Debug, Parser)]
#[command(name = "clawdforge")]
struct Binary {
    #[command(subcommand)]
    command: ClientCommand,
}

/// What came of a command line.
#[derive(Debug)]
pub struct Ended {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A command line about to be run.
pub struct Cli {
    io: Io,
    pub stdout: Shared,
    pub stderr: Shared,
}

impl Cli {
    /// An empty environment.
    pub fn bare() -> Self {
        let (stdout, stderr) = (Shared::default(), Shared::default());
        let io = Io {
            stdin: Some(Box::new(io::empty())),
            stdout: Box::new(stdout.clone()),
            stderr: Box::new(stderr.clone()),
            env: std::collections::BTreeMap::new(),
            stdin_is_terminal: false,
            stdout_is_terminal: false,
            stderr_is_terminal: false,
            interrupts: Interrupts::never(),
        };
        Self { io, stdout, stderr }
    }

    /// Address and both tokens by environment.
    pub fn of(stub: &Stub) -> Self {
        Self::bare()
            .env("CLAWDFORGE_URL", &stub.url)
            .env("CLAWDFORGE_TOKEN", APP_TOKEN)
            .env("CLAWDFORGE_ADMIN_TOKEN", ADMIN_TOKEN)
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.io.env.insert(name.into(), value.into());
        self
    }

    pub fn home(mut self, home: &Path) -> Self {
        self.io.env.insert("HOME".into(), home.into());
        self
    }

    pub fn stdin(mut self, stdin: impl Read + Send + 'static) -> Self {
        self.io.stdin = Some(Box::new(stdin));
        self
    }

    pub fn stdout(mut self, stdout: impl Write + Send + 'static) -> Self {
        self.io.stdout = Box::new(stdout);
        self
    }

    pub fn terminal(mut self) -> Self {
        self.io.stdin_is_terminal = true;
        self.io.stdout_is_terminal = true;
        self.io.stderr_is_terminal = true;
        self
    }

    pub fn interrupt(mut self, interrupt: impl Future<Output = ()> + Send + 'static) -> Self {
        self.io.interrupts = Interrupts::once(interrupt);
        self
    }

    /// A terminal that both streams are, as for a person.
    pub fn one_terminal(mut self) -> Self {
        self.io.stderr = Box::new(self.stdout.clone());
        self.terminal()
    }

    /// An interrupt for each item.
    pub fn interrupts(mut self, interrupts: impl Stream<Item = ()> + Send + 'static) -> Self {
        self.io.interrupts = Interrupts::from_stream(interrupts);
        self
    }

    pub async fn run(mut self, args: &[&str]) -> Ended {
        let binary = Binary::try_parse_from(std::iter::once(&"clawdforge").chain(args)).expect("a valid command line");
        let exit = execute(binary.command, &mut self.io).await;
        Ended { exit, stdout: self.stdout.text(), stderr: self.stderr.text() }
    }
}

/// Whether clap refuses a command line, and with which words.
pub fn usage_error(args: &[&str]) -> Option<String> {
    Binary::try_parse_from(std::iter::once(&"clawdforge").chain(args)).err().map(|error| error.to_string())
}

/// A stream a test can read while it is written.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Waits until `text` was written.
    pub async fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.text().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} was never written: {:?}", self.text());
            tokio::task::yield_now().await;
        }
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream whose reader has gone.
pub struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
