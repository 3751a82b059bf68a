//! Which version an agent's program says it is, asked once and remembered by the file it is.
//!
//! A version is known for a path, size and time of change; a program that was replaced is asked anew.
//! The memory outlives the service in a small file, so that a restart needs to start no agent. That
//! file is a cache: losing it costs a process start, and failing to write it is a warning.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clawdforge_core::agent::Failure;
use clawdforge_process::{BadTreeMark, ExitReport, SpawnError, SpawnSpec, Spawner, StdinMode, Tree, TreeMark};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::confine;
use crate::files::write_private;
use crate::profile::Profile;

/// How long a program may take to say its version. Claude Code takes 20 ms, a Node program on a cold
/// disk some seconds.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long it may then take to end.
const GRACE: Duration = Duration::from_millis(200);

/// Bytes read of what it says, and characters kept of its first line.
const OUTPUT_BYTES_MAX: u64 = 4 * 1024;
const VERSION_CHARS_MAX: usize = 100;

/// What is known of the versions of programs. One for all agents of the service.
pub struct Versions {
    file: PathBuf,
    known: Mutex<BTreeMap<PathBuf, Entry>>,
    asked: AtomicU64,
}

/// Why a version could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// There is no program to ask.
    #[error("{}", .0.message)]
    Missing(Failure),
    /// The program could not be started.
    #[error(transparent)]
    NotStarted(#[from] SpawnError),
    /// It said nothing in time.
    #[error("it did not say its version within {} s", ANSWER_WAIT_MAX.as_secs())]
    TooSlow,
    /// It said nothing at all, or ended with an error.
    #[error("it did not say its version ({how}){}", said(.stderr))]
    NoAnswer {
        /// How it ended.
        how: String,
        /// What it wrote to its error stream.
        stderr: String,
    },
    /// The file system or a pipe refused.
    #[error("could not read what it says: {0}")]
    Io(#[from] io::Error),
    /// No mark can be made for the agent's name.
    #[error(transparent)]
    Mark(#[from] BadTreeMark),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    stamp: Stamp,
    version: String,
}

/// By what a replaced file is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size_bytes: u64,
    changed_secs: i64,
    changed_nanos: i64,
}

impl Versions {
    /// Reads what is remembered in `file`; a file that is missing or unreadable is an empty memory.
    /// Blocks for one small read; meant for the start of the service.
    #[must_use]
    pub fn load(file: PathBuf) -> Self {
        let known = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { file, known: Mutex::new(known.unwrap_or_default()), asked: AtomicU64::new(0) }
    }

    /// The version of a program, where it is known and the file is still the same.
    #[must_use]
    pub fn known(&self, program: &Path) -> Option<String> {
        let stamp = stamp(program).ok()?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(program).filter(|entry| entry.stamp == stamp).map(|entry| entry.version.clone())
    }

    /// The version of a program, asked of it (`--version`) unless it is known.
    ///
    /// # Errors
    /// [`VersionError`]; what was remembered before stays.
    pub async fn refresh(&self, spawner: &Spawner, profile: &Profile, program: &Path) -> Result<String, VersionError> {
        if let Some(version) = self.known(program) {
            return Ok(version);
        }
        // Before asking: a file that is replaced meanwhile shall be asked again.
        let stamp = stamp(program)?;
        let version = self.ask(spawner, profile, program).await?;
        let everything = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(program.to_owned(), Entry { stamp, version: version.clone() });
            known.clone()
        };
        if let Err(error) = self.save(&everything).await {
            tracing::warn!(path = %self.file.display(), error = %error, "could not remember an agent's version");
        }
        Ok(version)
    }

    async fn ask(&self, spawner: &Spawner, profile: &Profile, program: &Path) -> Result<String, VersionError> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let mark = TreeMark::new(format!("v.{}.{number}.{}", std::process::id(), profile.name))?;
        let mut args: Vec<OsString> = profile.args.iter().map(OsString::from).collect();
        args.push("--version".into());
        let spec = SpawnSpec {
            program: program.to_owned(),
            args,
            env: profile.env.clone(),
            cwd: PathBuf::from("/"),
            mark,
            stdin: StdinMode::Null,
            sandbox: confine::sandbox(profile, &profile.env, None, Vec::new()),
        };
        let mut tree = spawner.spawn(spec).await?;
        let heard = timeout(ANSWER_WAIT_MAX, hear(&mut tree)).await;
        let stderr = tree.stderr_tail();
        // Whatever it left behind is logged by the process crate.
        let _ = tree.end(GRACE).await;
        let (exit, output) = heard.map_err(|_| VersionError::TooSlow)??;
        match first_line(&output) {
            Some(version) if exit.code == Some(0) => Ok(version),
            _ => Err(VersionError::NoAnswer { how: ended(exit), stderr }),
        }
    }

    async fn save(&self, everything: &BTreeMap<PathBuf, Entry>) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(everything)?;
        let new = self.file.with_extension("new");
        write_private(&new, &bytes).await?;
        tokio::fs::rename(&new, &self.file).await
    }
}

async fn hear(tree: &mut Tree) -> io::Result<(ExitReport, Vec<u8>)> {
    let mut output = Vec::new();
    if let Some(stdout) = tree.take_stdout() {
        stdout.take(OUTPUT_BYTES_MAX).read_to_end(&mut output).await?;
    }
    Ok((tree.wait().await, output))
}

fn stamp(program: &Path) -> io::Result<Stamp> {
    let found = std::fs::metadata(program)?;
    Ok(Stamp { size_bytes: found.size(), changed_secs: found.mtime(), changed_nanos: found.mtime_nsec() })
}

/// The first line that says something, without control characters.
fn first_line(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|char| !char.is_control()).take(VERSION_CHARS_MAX).collect())
}

fn ended(exit: ExitReport) -> String {
    match (exit.code, exit.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

fn said(stderr: &str) -> String {
    match stderr.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => format!(": {line}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_one_clean_line() {
        assert_eq!(first_line(b"\n  2.1.330 (Claude Code)\r\nmore\n").unwrap(), "2.1.330 (Claude Code)");
        assert_eq!(first_line(b"\x1b[1m1.0\x1b[0m").unwrap(), "[1m1.0[0m");
        assert_eq!(first_line(&[b'x'; 4096]).unwrap().len(), VERSION_CHARS_MAX);
        assert_eq!(first_line(b" \n"), None);
    }

    #[test]
    fn a_version_counts_only_for_the_file_it_was_asked_of() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("agent");
        std::fs::write(&program, "one").unwrap();
        let versions = Versions::load(folder.path().join("versions.json"));
        assert_eq!(versions.known(&program), None);
        let entry = Entry { stamp: stamp(&program).unwrap(), version: "1".into() };
        versions.known.lock().unwrap().insert(program.clone(), entry);
        assert_eq!(versions.known(&program).as_deref(), Some("1"));
        std::fs::write(&program, "another").unwrap();
        assert_eq!(versions.known(&program), None);
    }

    #[test]
    fn a_damaged_memory_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("versions.json");
        std::fs::write(&file, "{\"/bin/x\": 3").unwrap();
        assert_eq!(Versions::load(file).known(Path::new("/bin/sh")), None);
    }
}
