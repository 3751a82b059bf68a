//! Running npm: with which settings, in which environment, and what its failures mean.
//!
//! npm gets an empty environment plus what it needs to reach a registry as the operator set it up: the
//! base list of agents (PATH, HOME with its `.npmrc`, proxies, certificates) and npm's own variables.
//! It never runs a package's scripts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clawdforge_agent::environment;
use clawdforge_process::{ExitReport, Sandbox, SpawnError, SpawnSpec, Spawner, StdinMode, Tree, TreeMark};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::catalogue::Entry;
use super::install::Interrupted;
use super::platform::Platform;
use super::probe;
use crate::config::Environment;

/// How long npm may take: 460 MB on a line of 2 Mbit/s.
const INSTALL_WAIT_MAX: Duration = Duration::from_secs(3_600);

/// How long npm may take to end when it is told to.
const GRACE: Duration = Duration::from_secs(2);

/// How long `node --version` may take on a cold disk.
const NODE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Lines of npm's complaint that are shown, from its end.
const COMPLAINT_LINES_MAX: usize = 12;

/// npm's settings, and the names under which `.npmrc` files usually look for a registry's token.
const NPM_VARIABLES: &[&str] = &["npm_config_*", "NPM_CONFIG_*", "NPM_TOKEN", "NODE_AUTH_TOKEN"];

const NPM_MISSING: &str = "npm is not on the PATH; install Node.js 22, which brings it: \
     https://nodejs.org/en/download, or your system's package (`apt install npm`, `apk add npm`)";

/// What npm's complaint contains, and what the operator can do about it.
const REMEDIES: &[(&[&str], &str)] = &[
    (&["ENOSPC"], "the disk is full: make room in the data directory and in npm's cache (~/.npm)"),
    (
        &["ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "ERR_SOCKET_TIMEOUT"],
        "the registry was not reached: check the network; HTTPS_PROXY, NODE_EXTRA_CA_CERTS and \
         npm_config_registry are passed on to npm, and so is the .npmrc of HOME",
    ),
    (&["CERT", "SSL"], "the registry's certificate is not trusted: name your proxy's authority in NODE_EXTRA_CA_CERTS"),
    (&["E401", "E403", "ENEEDAUTH"], "the registry wants a token: put it into the .npmrc of HOME"),
    (&["E404", "ETARGET"], "the registry does not have this version: use one that mirrors registry.npmjs.org whole"),
    (&["EACCES", "EPERM"], "npm may not write: run this as the user the data directory and HOME belong to"),
];

/// The environment of npm and of the programs it installs.
pub fn environment(service: &Environment) -> BTreeMap<OsString, OsString> {
    environment::compose(service.select(["*"]), NPM_VARIABLES, &[], &BTreeMap::new())
}

/// The `package.json` that asks for exactly an agent's packages.
pub fn manifest(entry: &Entry, platform: Platform) -> serde_json::Value {
    let wanted = entry.packages.iter().map(|package| {
        let version = platform.fill(package.published_as.unwrap_or(package.version));
        (platform.fill(package.name), version.into())
    });
    let dependencies: serde_json::Map<_, _> = wanted.collect();
    serde_json::json!({
        "name": format!("clawdforge-agent-{}", entry.name),
        "private": true,
        "dependencies": dependencies,
    })
}

/// Installs what the `package.json` in `folder` asks for. Nothing writes to the folder any more when
/// this returns, after `stop` was cancelled as well.
///
/// # Errors
/// [`Interrupted`] after `stop`; else a sentence for the operator and the end of npm's own complaint.
pub async fn install(
    spawner: &Spawner,
    folder: &Path,
    env: BTreeMap<OsString, OsString>,
    sandbox: Option<Sandbox>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut prefix = OsString::from("--prefix=");
    prefix.push(folder);
    let settings = [
        "--ignore-scripts",
        "--omit=optional",
        "--no-audit",
        "--no-fund",
        // A setting of the operator's that is meant for other uses of npm must not change this one.
        "--global=false",
        "--engine-strict=false",
        "--update-notifier=false",
        "--progress=false",
        "--loglevel=error",
    ];
    let args = ["install".into(), prefix].into_iter().chain(settings.map(OsString::from));
    let spec = SpawnSpec {
        program: PathBuf::from("npm"),
        args: args.collect(),
        env,
        cwd: folder.to_owned(),
        mark: TreeMark::new(format!("install.{}", std::process::id()))?,
        stdin: StdinMode::Null,
        sandbox,
    };
    let mut tree = match spawner.spawn(spec).await {
        Ok(tree) => tree,
        Err(SpawnError::NotFound { .. }) => bail!(NPM_MISSING),
        Err(error) => return Err(error).context("npm could not be started"),
    };
    let ended = stop.run_until_cancelled(timeout(INSTALL_WAIT_MAX, finish(&mut tree))).await;
    let complaint = tree.stderr_tail();
    // What npm left behind is ended here; the process crate logs what it took.
    let _ = tree.end(GRACE).await;
    match ended.ok_or(Interrupted)? {
        Ok(Ok(ExitReport { code: Some(0), .. })) => Ok(()),
        Ok(Ok(exit)) => bail!(explain(exit, &complaint)),
        Ok(Err(error)) => Err(error).context("what npm says cannot be read"),
        Err(_) => bail!("npm did not finish within {} minutes", INSTALL_WAIT_MAX.as_secs() / 60),
    }
}

/// The major version of the Node on the PATH; `None` where there is none or it does not say.
pub async fn node_major(spawner: &Spawner, env: BTreeMap<OsString, OsString>, sandbox: Option<Sandbox>) -> Option<u32> {
    let question = probe::Question { purpose: "node", args: vec!["--version".into()], env, sandbox };
    let asked = probe::ask(spawner, Path::new("node"), question, NODE_WAIT_MAX).await;
    major(&asked.ok()?.stdout)
}

fn major(said: &str) -> Option<u32> {
    said.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Drains what npm prints, which nobody reads, until it has ended.
async fn finish(tree: &mut Tree) -> std::io::Result<ExitReport> {
    if let Some(mut stdout) = tree.take_stdout() {
        tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await?;
    }
    Ok(tree.wait().await)
}

fn explain(exit: ExitReport, complaint: &str) -> String {
    let how = match (exit.code, exit.signal) {
        (Some(code), _) => format!("npm failed with exit code {code}"),
        (None, Some(signal)) => format!("npm was ended by signal {signal}"),
        (None, None) => "npm ended".to_owned(),
    };
    let known = REMEDIES.iter().find(|(words, _)| words.iter().any(|word| complaint.contains(word)));
    let lines: Vec<_> = complaint.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = lines.iter().skip(lines.len().saturating_sub(COMPLAINT_LINES_MAX));
    let remedy = known.map(|(_, remedy)| format!("; {remedy}")).unwrap_or_default();
    let said: String = shown.map(|line| format!("\n    {line}")).collect();
    format!("{how}{remedy}{said}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::catalogue;

    #[test]
    fn a_failure_says_what_to_do_and_ends_with_npms_own_words() {
        let exit = ExitReport { code: Some(1), signal: None };
        let text = explain(exit, "npm error code ENOTFOUND\n\nnpm error network request failed\n");
        assert!(text.starts_with("npm failed with exit code 1; the registry was not reached"), "{text}");
        assert!(text.ends_with("\n    npm error code ENOTFOUND\n    npm error network request failed"), "{text}");
        assert_eq!(explain(ExitReport { code: None, signal: Some(9) }, ""), "npm was ended by signal 9");
    }

    #[test]
    fn of_a_long_complaint_the_end_is_shown() {
        let complaint: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let text = explain(ExitReport { code: Some(1), signal: None }, &complaint);
        assert_eq!(text.lines().count(), 1 + COMPLAINT_LINES_MAX);
        assert!(text.ends_with("line 99"), "{text}");
    }

    #[test]
    fn the_manifest_pins_every_package() {
        let entry = catalogue::find("codex").unwrap();
        let manifest = manifest(entry, Platform::ALL[0]);
        assert_eq!(
            manifest["dependencies"],
            serde_json::json!({
                "@agentclientprotocol/codex-acp": "2.6.0",
                "@openai/codex-linux-x64": "npm:@openai/codex@0.166.0-linux-x64",
            })
        );
    }

    #[test]
    fn node_tells_its_major_version() {
        assert_eq!(major("v20.20.2\n"), Some(20));
        assert_eq!(major("20"), None);
    }
}
