//! The same agent behind acpx, a command-line program that keeps agents in processes of its own.
//!
//! Every call is a process; the agent and the process that owns it stay between calls, until the session is closed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::report::Table;
use super::super::samples::{Samples, millis};
use super::super::service::{self, SEARCH_PATH};
use super::{Effort, PROMPT};
use crate::agents;
use crate::bench::measure::{DEMO_AGENT, Scene};
use crate::bench::{ACPX_VERSIONS, acpx_pins};

/// Seconds after which an owner that nobody closed ends by itself.
const OWNER_SECS_MAX: &str = "60";

/// Where acpx puts its sockets, whatever `TMPDIR` says.
const SOCKETS: &str = "/tmp";

/// One version of acpx with a home of its own.
struct Acpx {
    program: PathBuf,
    home: PathBuf,
    place: PathBuf,
}

/// What the calls of a version took.
#[derive(Default)]
struct Times {
    opened: Vec<Duration>,
    cold: Vec<Took>,
    warm: Vec<Took>,
}

/// How long a prompt took, from just before the process was started.
struct Took {
    /// To the line with the agent's answer.
    result: Duration,
    /// To the end of the process.
    end: Duration,
}

/// A session with an owner. Closed when dropped, which ends the owner.
struct Session<'a> {
    acpx: &'a Acpx,
    name: String,
    is_closed: bool,
}

/// Opens sessions and prompts in them, version by version in turns.
///
/// # Errors
/// When a call fails.
pub fn measure(scene: &Scene, effort: &Effort) -> Result<Table> {
    let mut contestants = Vec::new();
    for version in ACPX_VERSIONS {
        contestants.push((Acpx::new(scene, version)?, Times::default()));
    }
    for round in 0..effort.acpx_sessions {
        for (acpx, times) in &mut contestants {
            let (session, took) = acpx.open(&format!("bench-{round}"))?;
            times.opened.push(took);
            times.cold.push(session.prompt()?);
            for _ in 0..effort.acpx_prompts {
                times.warm.push(session.prompt()?);
            }
            session.close()?;
        }
    }

    let mut table = Table::new("The same agent behind acpx", &["version", "what", "median", "min", "max", "times"]);
    for (version, (_, times)) in ACPX_VERSIONS.iter().zip(contestants) {
        let moments = |took: &[Took], moment: fn(&Took) -> Duration| took.iter().map(moment).collect();
        for (what, times) in [
            ("`sessions new`", times.opened),
            ("`prompt` without an owner, to its result", moments(&times.cold, |took| took.result)),
            ("`prompt` without an owner, to its end", moments(&times.cold, |took| took.end)),
            ("warm `prompt`, to its result", moments(&times.warm, |took| took.result)),
            ("warm `prompt`, to its end", moments(&times.warm, |took| took.end)),
        ] {
            let samples = Samples::new(times);
            let times = [samples.median(), samples.min(), samples.max()].map(millis);
            let what = [(*version).to_owned(), what.to_owned()];
            table.row(what.into_iter().chain(times).chain([samples.count().to_string()]));
        }
    }
    Ok(table)
}

impl Acpx {
    fn new(scene: &Scene, version: &str) -> Result<Self> {
        let program = agents::install_pinned(&acpx_pins(version))?.node_modules.join(".bin/acpx");
        let home = scene.folder(&format!("acpx-{version}/home"))?;
        Ok(Self { program, home, place: scene.folder(&format!("acpx-{version}/work"))? })
    }

    /// A call in the place, with the agent and JSON for output.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let agent = format!("{} {DEMO_AGENT} --acp", service::program().display());
        command.arg("--agent").arg(agent).arg("--cwd").arg(&self.place).current_dir(&self.place);
        command.args(["--format", "json", "--json-strict", "--approve-all", "--ttl", OWNER_SECS_MAX]);
        command.env_clear().env("PATH", SEARCH_PATH).env("HOME", &self.home).env("TMPDIR", &self.home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn open(&self, name: &str) -> Result<(Session<'_>, Duration)> {
        let began = Instant::now();
        self.call(&["sessions", "new", "--name", name])?;
        Ok((Session { acpx: self, name: name.to_owned(), is_closed: false }, began.elapsed()))
    }

    fn call(&self, arguments: &[&str]) -> Result<()> {
        let output = self.command().args(arguments).stdin(Stdio::null()).output().context("could not start acpx")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "`acpx {}`: {}: {said}", arguments.join(" "), output.status);
        Ok(())
    }
}

impl Session<'_> {
    fn prompt(&self) -> Result<Took> {
        let mut command = self.acpx.command();
        command.args(["prompt", "-s", &self.name, "-f", "-"]);
        let prompt = json!([{ "type": "text", "text": PROMPT }]).to_string();
        let began = Instant::now();
        #[expect(clippy::disallowed_methods, reason = "acpx as a person calls it, and waited for")]
        let mut child = command.spawn().context("could not start acpx")?;
        // Small enough for the pipe; closed behind the prompt.
        child.stdin.take().context("standard input is a pipe")?.write_all(prompt.as_bytes())?;
        let mut result = None;
        for line in BufReader::new(child.stdout.take().context("standard output is a pipe")?).lines() {
            let message: Value = serde_json::from_str(&line?)?;
            if message["result"]["stopReason"] == "end_turn" {
                result = Some(began.elapsed());
            }
        }
        let output = child.wait_with_output()?;
        let end = began.elapsed();
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`acpx prompt`: {}: {stderr}", output.status);
        Ok(Took { result: result.with_context(|| format!("acpx gave no result: {stderr}"))?, end })
    }

    /// Closes it; the owner and the agent are gone then.
    fn close(mut self) -> Result<()> {
        self.is_closed = true;
        self.acpx.call(&["sessions", "close", &self.name])
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !self.is_closed {
            // Something failed before, which is told; what is not closed ends by itself later.
            let _ = self.acpx.call(&["sessions", "close", &self.name]);
        }
    }
}

impl Drop for Acpx {
    fn drop(&mut self) {
        // Where a session could not be closed its owner's socket is still there, and removes the folder with it.
        let _ = fs::remove_dir(sockets_of(&self.home));
    }
}

/// The folder that acpx makes for a home, named after its hash.
fn sockets_of(home: &Path) -> PathBuf {
    let hash: String = Sha256::digest(home.to_string_lossy().as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    Path::new(SOCKETS).join(format!("acpx-{}", &hash[..10]))
}
