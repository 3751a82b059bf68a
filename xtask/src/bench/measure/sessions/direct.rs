//! The agent without the service: the least of a host, over its pipes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::service::{self, SEARCH_PATH};
use crate::bench::measure::DEMO_AGENT;

/// A running agent with one conversation. Killed when dropped.
pub struct Direct {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: String,
    requests: u64,
    /// When the first line came that answers nothing, of the last request.
    first: Option<Instant>,
}

impl Direct {
    /// Starts the agent in a place of its own and opens a conversation; how long both took.
    ///
    /// # Errors
    /// When it does not start or speak.
    pub fn start(home: &Path, place: &Path) -> Result<(Self, Duration)> {
        fs::create_dir_all(place)?;
        let mut command = Command::new(service::program());
        command.args([DEMO_AGENT, "--acp"]).current_dir(place);
        command.env_clear().env("PATH", SEARCH_PATH).env("HOME", home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let began = Instant::now();
        #[expect(clippy::disallowed_methods, reason = "the agent as somebody without the service starts it")]
        let mut child = command.spawn().context("could not start the demo agent")?;
        let input = child.stdin.take().context("standard input is a pipe")?;
        let output = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        let mut direct = Self { child, input, output, session: String::new(), requests: 0, first: None };
        direct.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": {} }))?;
        let (opened, _) = direct.ask("session/new", json!({ "cwd": place, "mcpServers": [] }))?;
        direct.session = opened["sessionId"].as_str().context("a conversation has an id")?.to_owned();
        Ok((direct, began.elapsed()))
    }

    /// One prompt to its answer: how long it took, and how much the agent said meanwhile.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn turn(&mut self, prompt: &str) -> Result<(Duration, usize)> {
        let params = json!({ "sessionId": self.session, "prompt": [{ "type": "text", "text": prompt }] });
        let began = Instant::now();
        let (answer, updates) = self.ask("session/prompt", params)?;
        let took = began.elapsed();
        ensure!(answer["stopReason"] == "end_turn", "the demo agent ended a turn with {answer}");
        Ok((took, updates))
    }

    /// One prompt: how long it took to the first thing the agent said. Its answer is waited for as well.
    ///
    /// # Errors
    /// When there is no answer, or nothing was said.
    pub fn first_word(&mut self, prompt: &str) -> Result<Duration> {
        let began = Instant::now();
        self.turn(prompt)?;
        self.first.map(|at| at.duration_since(began)).context("the agent said nothing")
    }

    /// A request to its answer, and how many lines came before that.
    fn ask(&mut self, method: &str, params: Value) -> Result<(Value, usize)> {
        self.first = None;
        self.requests += 1;
        let request = json!({ "jsonrpc": "2.0", "id": self.requests, "method": method, "params": params });
        writeln!(self.input, "{request}")?;
        let (mut line, mut before) = (String::new(), 0);
        loop {
            line.clear();
            ensure!(self.output.read_line(&mut line)? > 0, "the demo agent is gone");
            let mut message: Value = serde_json::from_str(&line)?;
            if message["id"] == self.requests {
                ensure!(message["error"].is_null(), "the demo agent refused {method}: {message}");
                return Ok((message["result"].take(), before));
            }
            self.first.get_or_insert_with(Instant::now);
            before += 1;
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // Both refuse where it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
