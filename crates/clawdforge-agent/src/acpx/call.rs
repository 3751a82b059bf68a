//! Calls of the command line, all for one conversation.
//!
//! Every call says the same about the agent, the workspace, permissions and tool servers, so that no
//! configuration file decides any of it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clawdforge_core::agent::{Failure, FailureKind};
use clawdforge_process::lines::{Line, LineReader};
use clawdforge_process::{Sandbox, SpawnSpec, Spawner, StdinMode, Tree, TreeMark};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::failures::Refusal;
use crate::acp::ACPX_ANSWERS;
use crate::network::Passage;
use crate::oneshot::not_started;

/// How long a call may take to end once its output has ended, and when it is told to.
const CALL_GRACE: Duration = Duration::from_millis(500);

/// How long a call waits for processes that have ended to be reaped. acpx would take an owner's zombie for alive, wait for
/// it in vain and refuse the call. The threads of a killed program are gone in milliseconds, on a busy machine later.
const REAPING_WAIT_MAX: Duration = Duration::from_secs(2);

/// Pause between two looks for such processes while a call runs: an owner may end then as well.
const REAPING_PAUSE: Duration = Duration::from_millis(200);

/// Bytes of an answer that are read; the longest known one (a choice of models) has 2 KiB.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Lines of an answer that are looked at.
const ANSWER_LINES_MAX: usize = 1_000;

/// What a workspace may hold to change what acpx does.
const PROJECT_CONFIG: &str = ".acpxrc.json";

/// How acpx is called for one conversation. Not `Debug`: the environment holds the agent's keys.
#[derive(Clone)]
pub(super) struct Caller {
    pub spawner: Spawner,
    pub program: PathBuf,
    /// The agent behind it.
    pub agent: String,
    /// The agent's program and arguments, quoted.
    pub command: OsString,
    pub env: BTreeMap<OsString, OsString>,
    pub workspace: PathBuf,
    /// A file that names the tool servers there are: those of the conversation. Out of the agent's reach to change.
    pub mcp_config: PathBuf,
    pub mark: TreeMark,
    /// Around every call, and so around the owner and the agent that a call leaves behind.
    pub sandbox: Option<Sandbox>,
    /// The way to the network of all of them. Kept, and not looked at.
    pub _passage: Arc<Passage>,
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum CallError {
    /// acpx answered with an error.
    Refused(Refusal),
    /// It could not be called, said nothing, or took too long.
    Failed(Failure),
}

impl CallError {
    pub(super) fn into_failure(self, agent: &str) -> Failure {
        match self {
            Self::Refused(refusal) => {
                tracing::warn!(agent.name = agent, error = refusal.message(), "acpx refused a call");
                refusal.failure(agent)
            }
            Self::Failed(failure) => failure,
        }
    }
}

impl Caller {
    /// The name of the conversation among those of acpx.
    pub(super) fn name(&self) -> &str {
        self.mark.as_str()
    }

    /// Starts a call. `first` are options that stand in front of the verb.
    pub(super) async fn start(&self, first: &[&str], verb: &[&str], stdin: StdinMode) -> Result<Tree, Failure> {
        let mut args: Vec<OsString> = vec!["--agent".into(), self.command.clone()];
        args.extend(["--cwd".into(), self.workspace.clone().into_os_string()]);
        args.extend(["--format", "json", "--json-strict"].map(OsString::from));
        args.extend(ACPX_ANSWERS.map(OsString::from));
        args.extend(["--mcp-config".into(), self.mcp_config.clone().into_os_string()]);
        args.extend(first.iter().chain(verb).map(OsString::from));
        let spec = SpawnSpec {
            program: self.program.clone(),
            args,
            env: self.env.clone(),
            cwd: self.workspace.clone(),
            mark: self.mark.clone(),
            stdin,
            sandbox: self.sandbox.clone(),
        };
        if !self.spawner.orphans_reaped(REAPING_WAIT_MAX).await {
            tracing::warn!(
                agent.name = self.agent,
                "a process that has ended could not be reaped; acpx may refuse to go on"
            );
        }
        // As late as can be: what an agent left running may write in the workspace.
        let workspace = self.workspace.clone();
        let removed = tokio::task::spawn_blocking(move || remove_project_config(&workspace)).await;
        if let Err(error) = removed.map_err(io::Error::other).flatten() {
            tracing::warn!(agent.name = self.agent, %error, "a {PROJECT_CONFIG} in a workspace could not be removed");
            let message =
                format!("the workspace holds a {PROJECT_CONFIG} that could not be removed; acpx would obey it");
            return Err(Failure::new(FailureKind::StartFailed, message));
        }
        self.spawner.errand(spec).await.map_err(|error| not_started("acpx", &error))
    }

    /// A call that answers with one line. It is gone when this returns.
    pub(super) async fn ask(
        &self,
        first: &[&str],
        verb: &[&str],
        wait_max: Duration,
        given_up: &CancellationToken,
    ) -> Result<Value, CallError> {
        let mut tree = self.start(first, verb, StdinMode::Null).await.map_err(CallError::Failed)?;
        let heard = tokio::select! {
            heard = hear(&mut tree) => heard,
            () = sleep(wait_max) => {
                let (verb, secs) = (verb.join(" "), wait_max.as_secs());
                Err(Failure::new(FailureKind::StartFailed, format!("`acpx {verb}` did not end within {secs} s")))
            }
            () = given_up.cancelled() => {
                Err(Failure::new(FailureKind::Interrupted, "the agent was given up before it was ready"))
            }
            never = keep_reaping(&self.spawner) => match never {},
        };
        let stderr = tree.stderr_tail();
        // Whatever it left behind has an owner.
        tree.end(if heard.is_ok() { CALL_GRACE } else { Duration::ZERO }).await;
        let answer = heard.map_err(CallError::Failed)?;
        match answer {
            Some(mut answer) if answer["error"].is_object() => Err(CallError::Refused(Refusal(answer["error"].take()))),
            Some(answer) if is_answer(&answer) => Ok(answer),
            _ => {
                tracing::warn!(agent.name = self.agent, verb = verb.join(" "), stderr, "acpx gave no answer");
                let message = format!("`acpx {}` gave no answer", verb.join(" "));
                Err(CallError::Failed(Failure::new(FailureKind::StartFailed, message)))
            }
        }
    }
}

async fn keep_reaping(spawner: &Spawner) -> Infallible {
    loop {
        sleep(REAPING_PAUSE).await;
        spawner.reap_orphans();
    }
}

/// The last message that a call wrote.
async fn hear(tree: &mut Tree) -> Result<Option<Value>, Failure> {
    let Some(stdout) = tree.take_stdout() else { return Ok(None) };
    let mut lines = LineReader::new(stdout, ANSWER_BYTES_MAX);
    let mut answer = None;
    for _ in 0..ANSWER_LINES_MAX {
        match lines.next_line().await {
            Ok(Some(Line::Whole(line))) => {
                let message = serde_json::from_slice::<Value>(&line).ok();
                answer = message.filter(|message| is_answer(message) || message["error"].is_object()).or(answer);
            }
            Ok(Some(Line::Oversized { .. })) => {}
            Ok(None) => break,
            Err(error) => {
                let message = format!("what acpx said could not be read: {error}");
                return Err(Failure::new(FailureKind::StartFailed, message));
            }
        }
    }
    // Its exit code says nothing that its answer does not.
    let _ = timeout(CALL_GRACE, tree.wait()).await;
    Ok(answer)
}

/// What a call did, or the record of a conversation that it shows.
fn is_answer(message: &Value) -> bool {
    message["action"].is_string() || message["acpxRecordId"].is_string()
}

/// Removes what would configure acpx from inside of a workspace, whatever it is.
fn remove_project_config(workspace: &Path) -> io::Result<()> {
    let path = workspace.join(PROJECT_CONFIG);
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) => {
            tracing::warn!(path = %path.display(), "a file that would configure acpx is removed from a workspace");
            if found.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }
        }
    }
}

/// A command line as acpx takes it apart again: words, single quotes, and a backslash outside of them.
pub(super) fn command_line(program: &Path, args: &[String]) -> OsString {
    let words = [program.as_os_str()].into_iter().chain(args.iter().map(OsStr::new));
    let mut line = Vec::new();
    for word in words {
        if !line.is_empty() {
            line.push(b' ');
        }
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
        if !word.is_empty() && word.as_bytes().iter().all(is_plain) {
            line.extend_from_slice(word.as_bytes());
            continue;
        }
        line.push(b'\'');
        for byte in word.as_bytes() {
            match byte {
                b'\'' => line.extend_from_slice(br"'\''"),
                other => line.push(*other),
            }
        }
        line.push(b'\'');
    }
    OsString::from_vec(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_quoted_where_it_must_be() {
        let args = ["--acp", "a b", "it's", "", r"back\slash", "a;b$(c)\n"].map(String::from);
        let line = command_line(Path::new("/opt/agents/.bin/claude-agent-acp"), &args);
        let wanted = "/opt/agents/.bin/claude-agent-acp --acp 'a b' 'it'\\''s' '' 'back\\slash' 'a;b$(c)\n'";
        assert_eq!(line, wanted);
    }

    #[test]
    fn whatever_would_configure_acpx_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(PROJECT_CONFIG);
        let other = folder.path().join("kept.json");
        std::fs::write(&other, "{}").unwrap();
        remove_project_config(folder.path()).unwrap();
        std::fs::write(&path, "{").unwrap();
        remove_project_config(folder.path()).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("x"), "").unwrap();
        remove_project_config(folder.path()).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        remove_project_config(folder.path()).unwrap();
        assert!(std::fs::symlink_metadata(&path).is_err() && other.exists());
    }
}
