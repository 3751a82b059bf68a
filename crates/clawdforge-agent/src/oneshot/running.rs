//! The process of one turn: feeds it the prompt, hears its lines, and notices its end.
//!
//! Everything that is under way lives in [`Running`] and not in a future, so [`Running::hear`] may be
//! dropped at any time. The prompt is written while lines are read: an agent that writes before it
//! reads, or never reads, holds nothing up.

use std::future::pending;
use std::time::Duration;

use clawdforge_core::limits::AGENT_LINE_BYTES_MAX;
use clawdforge_process::lines::{Line, LineReader};
use clawdforge_process::{ExitReport, Tree};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::Instant;

use crate::waiting::until;

/// How long lines are still read after the agent's process ended. What it wrote itself is in the pipe
/// by then; only a process it left behind could write more, or hold the pipe open for ever.
const DRAIN_MAX: Duration = Duration::from_millis(500);

/// How long a process may live on after it closed its output without a result.
const EXIT_WAIT_MAX: Duration = Duration::from_secs(2);

/// One thing that was noticed.
#[derive(Debug)]
pub(super) enum Heard {
    /// A line of its output.
    Line(Line),
    /// Nothing more will come: how the process ended, or empty where it closed its output and lives on.
    End(ExitReport),
}

/// A started agent.
#[derive(Debug)]
pub(super) struct Running {
    tree: Tree,
    feed: Feed,
    lines: Option<LineReader<ChildStdout>>,
    exit: Option<ExitReport>,
    /// When to stop waiting for the half of the end that is missing.
    end_by: Option<Instant>,
}

/// The prompt on its way to standard input, which is closed behind it.
#[derive(Debug)]
struct Feed {
    stdin: Option<ChildStdin>,
    bytes: Vec<u8>,
    written: usize,
}

enum Noticed {
    Line(std::io::Result<Option<Line>>),
    Exit(ExitReport),
    Fed,
    TimeUp,
}

impl Running {
    pub(super) fn new(mut tree: Tree, prompt: Vec<u8>) -> Self {
        let feed = Feed { stdin: tree.take_stdin(), bytes: prompt, written: 0 };
        let lines = tree.take_stdout().map(|stdout| LineReader::new(stdout, AGENT_LINE_BYTES_MAX));
        Self { tree, feed, lines, exit: None, end_by: None }
    }

    pub(super) fn identity(&self) -> String {
        self.tree.identity().to_string()
    }

    pub(super) fn stderr(&self) -> String {
        self.tree.stderr_tail()
    }

    /// The next line, or the end. Cancel-safe.
    pub(super) async fn hear(&mut self) -> Heard {
        loop {
            if let (Some(exit), None) = (self.exit, &self.lines) {
                return Heard::End(exit);
            }
            match self.notice().await {
                Noticed::Line(Ok(Some(line))) => return Heard::Line(line),
                Noticed::Line(Ok(None)) => self.output_ended(),
                Noticed::Line(Err(error)) => {
                    tracing::debug!(process.pid = self.tree.pid(), error = %error, "could not read an agent's output");
                    self.output_ended();
                }
                Noticed::Exit(exit) => {
                    self.exit = Some(exit);
                    self.feed.stop();
                    self.end_by = Some(Instant::now() + DRAIN_MAX);
                }
                Noticed::Fed => {}
                Noticed::TimeUp => return Heard::End(self.exit.unwrap_or_default()),
            }
        }
    }

    /// Waits for the process to end by itself, for at most this long.
    pub(super) async fn settle(&mut self, time_max: Duration) {
        if self.exit.is_none() {
            // Passing the time is no failure: whoever asked ends the tree next.
            let _ = tokio::time::timeout(time_max, self.tree.wait()).await;
        }
    }

    pub(super) fn into_tree(self) -> Tree {
        self.tree
    }

    async fn notice(&mut self) -> Noticed {
        // Every branch is cancel-safe: lines, wait and sleep say so of themselves, and the feed counts
        // what a single write took before it returns.
        tokio::select! {
            line = next_line(&mut self.lines) => Noticed::Line(line),
            exit = self.tree.wait(), if self.exit.is_none() => Noticed::Exit(exit),
            () = self.feed.step() => Noticed::Fed,
            () = until(self.end_by) => Noticed::TimeUp,
        }
    }

    fn output_ended(&mut self) {
        self.lines = None;
        if self.exit.is_none() {
            self.end_by = Some(Instant::now() + EXIT_WAIT_MAX);
        }
    }
}

impl Feed {
    /// Writes one piece; waits for ever once there is nothing left to write.
    async fn step(&mut self) {
        let Some(stdin) = &mut self.stdin else { return pending().await };
        match stdin.write(self.bytes.get(self.written..).unwrap_or_default()).await {
            Ok(written) if written > 0 => self.written += written,
            // A broken pipe is the agent's choice: whether it needed the rest, its result will show.
            Ok(_) | Err(_) => self.stop(),
        }
        if self.written >= self.bytes.len() {
            self.stop();
        }
    }

    fn stop(&mut self) {
        self.stdin = None;
        self.bytes = Vec::new();
    }
}

async fn next_line(lines: &mut Option<LineReader<ChildStdout>>) -> std::io::Result<Option<Line>> {
    match lines {
        Some(lines) => lines.next_line().await,
        None => pending().await,
    }
}
