//! Which agents are there: the configured ones, and those that can be installed.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clawdforge_agent::environment;
use clawdforge_agent::locate::{Found, Source, locate};
use clawdforge_agent::profile::{Dialect, Profile};
use clawdforge_agent::version::Versions;
use clawdforge_core::agent::Failure;
use clawdforge_process::Spawner;
use serde_json::json;

use super::catalogue::{CATALOGUE, Driver, Entry, find as in_catalogue, own_program};
use crate::config::Config;
use crate::profiles;

/// An agent and what was found of it.
pub struct FoundAgent {
    /// Everything that is configured about it.
    pub profile: Profile,
    /// What the service can do with it.
    pub driver: Driver,
    /// What we could install for it; `None` for the demo agent.
    pub entry: Option<&'static Entry>,
    /// Where its program is, or why it is not.
    pub program: Result<Found, Failure>,
    /// What it says its version is, or why it does not; `None` while nobody asked.
    pub version: Option<Result<String, String>>,
}

impl FoundAgent {
    /// Its name.
    pub fn name(&self) -> &str {
        self.profile.name.as_str()
    }

    /// What to know beside the version: what keeps it from being used, or that another is meant.
    pub fn note(&self) -> Option<String> {
        if let Err(failure) = &self.program {
            return Some(failure.message.clone());
        }
        if let Some(Err(reason)) = &self.version {
            return Some(format!("does not run: {reason}"));
        }
        let own = matches!(&self.program, Ok(Found { source: Source::Own, .. }));
        let entry = self.entry.filter(|_| own)?;
        let said = self.version.as_ref()?.as_ref().ok()?;
        (!said.contains(entry.version()))
            .then(|| format!("this release pins {}: run `clawdforge agents install {}`", entry.version(), entry.name))
    }
}

/// Looks for every agent: the configured ones by name, then what can be installed beside them. Starts
/// nothing.
///
/// # Errors
/// As [`profiles::profiles`].
pub fn look(config: &Config) -> anyhow::Result<Vec<FoundAgent>> {
    let configured = profiles::profiles(config)?.into_iter().map(|profile| {
        let entry = in_catalogue(profile.dialect.as_str());
        FoundAgent { program: locate(&profile), profile, driver: Driver::OneShot, entry, version: None }
    });
    let mut agents: Vec<_> = configured.collect();
    for entry in CATALOGUE {
        if !agents.iter().any(|agent| agent.name() == entry.name) {
            agents.push(look_for(entry, config)?);
        }
    }
    Ok(agents)
}

/// Asks every agent that is there for its version.
pub async fn ask_versions(agents: &mut [FoundAgent], spawner: &Spawner, versions: &Versions) {
    for agent in agents {
        if let Ok(found) = &agent.program {
            let asked = versions.refresh(spawner, &agent.profile, &found.path).await;
            agent.version = Some(asked.map_err(|error| error.to_string()));
        }
    }
}

/// An agent that no driver of this version speaks to: our own installation, else the search path.
fn look_for(entry: &'static Entry, config: &Config) -> anyhow::Result<FoundAgent> {
    let mut env = environment::compose(
        config.environment.select(["*"]),
        environment::documented(entry.family),
        &[],
        &BTreeMap::new(),
    );
    let config_entry = config.agents.iter().find(|(name, _)| name.as_str() == entry.name).map(|(_, entry)| entry);
    let mut profile = Profile {
        name: entry.name.parse()?,
        // Nothing is said to it but flags that the catalogue lists.
        dialect: Dialect::Claude,
        program: "claude".into(),
        command: None,
        own_program: own_program(&config.data_dir, entry.name),
        search_path: None,
        args: Vec::new(),
        sign_in: profiles::sign_in_of(&mut env, config_entry),
        home_files: config_entry.and_then(|entry| entry.home_files.clone()),
        trusts_workspace: false,
        env,
        retries_max: 0,
        install_hint: format!("run `clawdforge agents install {}`", entry.name),
        confinement: config.confinement.clone(),
        // Asked by the operator, not by an agent.
        network: None,
    };
    // Without a search path only our own installation counts.
    let mut program = locate(&profile);
    if program.is_err() {
        profile.search_path = config.environment.get("PATH").map(Into::into);
        let by_name = Profile { command: Some(entry.command.to_owned()), ..profile.clone() };
        if let Ok(found) = locate(&by_name) {
            program = Ok(Found { source: Source::Path, ..found });
        }
    }
    Ok(FoundAgent { profile, driver: entry.driver, entry: Some(entry), program, version: None })
}

/// Writes an aligned table; agents that are missing say how to get them.
pub fn table(agents: &[FoundAgent], out: &mut dyn Write) -> io::Result<()> {
    let headings = ["AGENT", "VERSION", "FOUND", "WHERE"].map(String::from);
    let rows: Vec<[String; 4]> = std::iter::once(headings).chain(agents.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (names, versions, sources) = (width(0), width(1), width(2));
    for [name, version, source, place] in &rows {
        writeln!(out, "{name:names$}  {version:versions$}  {source:sources$}  {place}")?;
    }
    Ok(())
}

fn row(agent: &FoundAgent) -> [String; 4] {
    let version = agent.version.as_ref().and_then(|version| version.as_ref().ok());
    let (source, path) = match &agent.program {
        Ok(found) => (found.source.as_str(), Some(found.path.display().to_string())),
        Err(_) => ("-", None),
    };
    let place = match (path, agent.note()) {
        (Some(path), Some(note)) => format!("{path} ({note})"),
        (path, note) => path.or(note).unwrap_or_default(),
    };
    [agent.name().to_owned(), version.cloned().unwrap_or_else(|| "-".to_owned()), source.to_owned(), place]
}

/// One JSON value for each agent.
pub fn json(agents: &[FoundAgent]) -> Vec<serde_json::Value> {
    agents
        .iter()
        .map(|agent| {
            let found = agent.program.as_ref().ok();
            json!({
                "name": agent.name(),
                "present": found.is_some(),
                "version": agent.version.as_ref().and_then(|version| version.as_ref().ok()),
                "path": found.map(|found| found.path.display().to_string()),
                "source": found.map(|found| found.source.as_str()),
                "driver": match agent.driver {
                    Driver::OneShot => "oneshot",
                    Driver::Sessions => "sessions",
                },
                "usable": matches!(agent.version, Some(Ok(_))),
                "pinned_version": agent.entry.map(Entry::version),
                "note": agent.note(),
            })
        })
        .collect()
}
