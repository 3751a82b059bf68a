//! Installing one agent: build it beside, prove that it runs, then put it in place.
//!
//! Whatever fails or is interrupted, an agent that was installed before stays as it was.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clawdforge_agent::confine;
use clawdforge_agent::profile::{Dialect, Profile};
use clawdforge_agent::version::Versions;
use clawdforge_client::commands::Io;
use clawdforge_process::{Sandbox, Spawner};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::catalogue::Entry;
use super::place::Place;
use super::platform::Platform;
use super::{npm, probe, progress};
use crate::config::Config;

const MANIFEST: &str = "package.json";

/// What npm is called where an agent's name is asked for.
const NPM: &str = "npm";

/// How an installation ended well.
#[derive(Debug)]
pub enum Outcome {
    /// This version was there already, and runs.
    AlreadyThere {
        /// Its program.
        program: PathBuf,
    },
    /// It was installed.
    Installed {
        /// Its program.
        program: PathBuf,
        /// Size on the disk.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
}

/// The operator stopped it; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted; nothing was changed")
    }
}

impl std::error::Error for Interrupted {}

/// What one call of the command works with.
pub struct Installer<'a> {
    config: &'a Config,
    spawner: &'a Spawner,
    platform: Platform,
    env: BTreeMap<OsString, OsString>,
    force: bool,
}

impl<'a> Installer<'a> {
    /// # Errors
    /// On a machine there are no packages for.
    pub fn new(config: &'a Config, spawner: &'a Spawner, force: bool) -> anyhow::Result<Self> {
        let platform = Platform::detect()?;
        Ok(Self { config, spawner, platform, env: npm::environment(&config.environment), force })
    }

    /// Installs an agent. When `stop` is cancelled, ends npm and removes what it had written.
    ///
    /// # Errors
    /// [`Interrupted`] after `stop`; else with a sentence for the operator.
    pub async fn install(&self, entry: &Entry, io: &mut Io, stop: &CancellationToken) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let folder = entry.folder(&self.config.data_dir);
        let waiting = || progress::write(io, "waiting for another installation to finish\n");
        let lock = Place::lock(&self.config.data_dir, waiting);
        let place = stop.run_until_cancelled(lock).await.ok_or(Interrupted)??;
        let left = place.clean()?;
        if left > 0 {
            progress::write(io, &format!("removed {left} unfinished installation(s)\n"));
        }
        if !self.force && self.is_there(entry, &folder).await {
            return Ok(Outcome::AlreadyThere { program: self.program(entry, &folder)? });
        }
        check_space(entry, place.dir())?;
        self.warn_of_old_node(entry, io).await;

        let staged = place.stage(entry.name)?;
        let manifest = staged.path().join(MANIFEST);
        let text = format!("{:#}\n", npm::manifest(entry, self.platform));
        std::fs::write(&manifest, text).with_context(|| format!("{} cannot be written", manifest.display()))?;
        let what = format!("installing {} {}", entry.name, entry.version());
        progress::write(io, &format!("{what} (about {} MB)\n", entry.disk_mb));
        let npm = npm::install(
            self.spawner,
            staged.path(),
            self.env.clone(),
            self.sandbox(vec![staged.path().to_owned()])?,
            stop,
        );
        progress::watch(io, &what, staged.path(), npm).await?;
        self.verify(entry, staged.path()).await.context("npm finished, but what it installed is not usable")?;
        let bytes = progress::bytes_in(staged.path().to_owned());
        place.publish(staged, entry.name)?;
        Ok(Outcome::Installed { program: self.program(entry, &folder)?, bytes, took: began.elapsed() })
    }

    fn program(&self, entry: &Entry, folder: &Path) -> anyhow::Result<PathBuf> {
        let first = entry.programs_in(folder, self.platform).into_iter().next();
        first.map(|(path, _)| path).with_context(|| format!("{} has no program", entry.name))
    }

    /// Whether exactly these packages are installed and run.
    async fn is_there(&self, entry: &Entry, folder: &Path) -> bool {
        let wanted = npm::manifest(entry, self.platform);
        let installed = std::fs::read(folder.join(MANIFEST)).ok();
        let installed = installed.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        installed.is_some_and(|installed| installed["dependencies"] == wanted["dependencies"])
            && self.verify(entry, folder).await.is_ok()
    }

    /// Sees to it that every program is there and says the version it should have.
    async fn verify(&self, entry: &Entry, folder: &Path) -> anyhow::Result<()> {
        // A program that is only asked for its version shall leave nothing in anybody's home.
        let home = probe::scratch()?;
        let versions = Versions::load(home.path().join("versions.json"));
        let profile = self.asking_profile(entry.name, home.path())?;
        for (path, pinned) in entry.programs_in(folder, self.platform) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !path.is_file() {
                bail!("there is no program {}", path.strip_prefix(folder).unwrap_or(&path).display());
            }
            let said = versions.refresh(self.spawner, &profile, &path).await.with_context(|| name.to_string())?;
            if !names_version(&said, pinned) {
                bail!("{name} says it is `{said}`; {pinned} was asked for");
            }
        }
        Ok(())
    }

    /// What npm and Node may reach: their caches in the home, and the folder of an installation.
    fn sandbox(&self, write: Vec<PathBuf>) -> anyhow::Result<Option<Sandbox>> {
        let profile = self.asking_profile(NPM, Path::new("/"))?;
        Ok(confine::sandbox(&profile, &self.env, None, write))
    }

    fn asking_profile(&self, name: &str, home: &Path) -> anyhow::Result<Profile> {
        let mut env = self.env.clone();
        env.extend([("HOME".into(), home.into()), ("TMPDIR".into(), home.into())]);
        Ok(Profile {
            name: name.parse()?,
            // Nobody speaks to it here.
            dialect: Dialect::Claude,
            program: "claude".into(),
            command: None,
            own_program: None,
            search_path: None,
            args: Vec::new(),
            env,
            sign_in: clawdforge_agent::SignIn::default(),
            home_files: None,
            trusts_workspace: false,
            retries_max: 0,
            install_hint: String::new(),
            confinement: self.config.confinement.clone(),
            // Asked by the operator, not by an agent.
            network: None,
        })
    }

    async fn warn_of_old_node(&self, entry: &Entry, io: &mut Io) {
        let Some(wanted) = entry.node_major_min else { return };
        // A question that cannot be asked safely is not asked.
        let Ok(sandbox) = self.sandbox(Vec::new()) else { return };
        let warning = match npm::node_major(self.spawner, self.env.clone(), sandbox).await {
            Some(found) if found >= wanted => return,
            Some(found) => format!("its makers support Node {wanted} and newer; the one on the PATH is {found}"),
            None => format!("it needs Node {wanted} on the PATH of the service, and there is none"),
        };
        progress::write(io, &format!("warning: {}: {warning}\n", entry.name));
    }
}

fn check_space(entry: &Entry, dir: &Path) -> anyhow::Result<()> {
    let found =
        rustix::fs::statvfs(dir).with_context(|| format!("the disk of {} does not tell its size", dir.display()))?;
    let free_mb = found.f_bavail.saturating_mul(found.f_frsize) / 1_000_000;
    // npm's cache keeps the packages too, compressed to less than half.
    let wanted_mb = entry.disk_mb + entry.disk_mb / 2;
    if free_mb < wanted_mb {
        bail!("{} has {free_mb} MB free; {} takes {wanted_mb} MB with npm's cache", dir.display(), entry.name);
    }
    Ok(())
}

/// Whether one of the words a program says is this version (`codex-cli 0.166.0`, `… CLI 1.0.102.`).
fn names_version(said: &str, version: &str) -> bool {
    said.split_whitespace().any(|word| word.trim_end_matches(['.', ',']).trim_start_matches('v') == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_recognised_among_the_words_around_it() {
        for (said, version) in [
            ("2.1.330 (Claude Code)", "2.1.330"),
            ("codex-cli 0.166.0", "0.166.0"),
            ("@agentclientprotocol/codex-acp 2.6.0", "2.6.0"),
            ("GitHub Copilot CLI 1.0.102.", "1.0.102"),
        ] {
            assert!(names_version(said, version), "{said}");
        }
        assert!(!names_version("2.1.3301", "2.1.330"));
        assert!(!names_version("", "2.1.330"));
    }
}
