//! Asking a program one short question.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clawdforge_process::{Sandbox, SpawnSpec, Spawner, StdinMode, Tree, TreeMark};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// Bytes read of an answer; `claude auth status` says some hundred.
const OUTPUT_BYTES_MAX: u64 = 16 * 1024;

/// How long a program may take to end once it was heard, or not heard in time.
const GRACE: Duration = Duration::from_millis(300);

/// What a program answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output, as text.
    pub stdout: String,
    /// The end of what it wrote to standard error.
    pub stderr: String,
}

/// A temporary folder for what programs leave behind when they are asked, for this user alone.
///
/// # Errors
/// When it cannot be made.
pub fn scratch() -> anyhow::Result<TempDir> {
    let private = Permissions::from_mode(0o700);
    let made = tempfile::Builder::new().prefix("clawdforge-").permissions(private).tempdir();
    made.context("no temporary folder can be made")
}

/// What a program is asked, and as whom.
pub struct Question {
    /// Marks the process tree; no two probes of one purpose may run at the same time.
    pub purpose: &'static str,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: BTreeMap<OsString, OsString>,
    /// What it may reach.
    pub sandbox: Option<Sandbox>,
}

/// Starts a program, waits at most `wait_max` for its end, and ends whatever it started.
///
/// # Errors
/// When it cannot be started, does not end in time, or its output cannot be read.
pub async fn ask(
    spawner: &Spawner,
    program: &Path,
    Question { purpose, args, env, sandbox }: Question,
    wait_max: Duration,
) -> anyhow::Result<Answer> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let spec = SpawnSpec {
        program: program.to_owned(),
        args,
        env,
        cwd: PathBuf::from("/"),
        mark: TreeMark::new(format!("probe.{}.{purpose}", std::process::id()))?,
        stdin: StdinMode::Null,
        sandbox,
    };
    let mut tree = spawner.spawn(spec).await?;
    let heard = timeout(wait_max, hear(&mut tree)).await;
    let stderr = tree.stderr_tail();
    // What it left behind is of no interest here, and the process crate logs it.
    let _ = tree.end(GRACE).await;
    let heard = heard.with_context(|| format!("{name} did not answer within {} s", wait_max.as_secs()))?;
    let (code, stdout) = heard.with_context(|| format!("what {name} says cannot be read"))?;
    Ok(Answer { code, stdout: String::from_utf8_lossy(&stdout).into_owned(), stderr })
}

async fn hear(tree: &mut Tree) -> std::io::Result<(Option<i32>, Vec<u8>)> {
    let mut output = Vec::new();
    if let Some(stdout) = tree.take_stdout() {
        stdout.take(OUTPUT_BYTES_MAX).read_to_end(&mut output).await?;
    }
    Ok((tree.wait().await.code, output))
}
