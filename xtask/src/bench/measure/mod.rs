//! The measurements, one after the other in one run. Only in the build that `cargo xtask bench` makes.

pub mod baseline;

mod bare;
mod fill;
mod http;
mod isolation;
mod load;
mod machine;
mod memory;
mod process;
mod report;
mod runs;
mod samples;
mod sandbox_agent;
mod service;
mod sessions;
mod start;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clawdforge_testkit::agents;
use clawdforge_testkit::mock_model::MockModel;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use self::bare::Bare;
use self::report::{Goal, Table};
use self::runs::{Contest, MODEL};
use self::service::Setup;
use super::Options;
use crate::say;

/// The sub-command of the service's own program that becomes the demo agent.
const DEMO_AGENT: &str = "__demo-agent";

/// Where data directories lie: on a disk, as an operator's do, where the usual folder for temporary files may
/// be memory; and short, because agents put sockets below them.
const SCRATCH: &str = "/var/tmp";

/// How often and how long.
struct Effort {
    starts: usize,
    stored_runs: usize,
    load: Duration,
    claude_rounds: usize,
    demo_rounds: usize,
    isolation: isolation::Effort,
    sessions: sessions::Effort,
}

const FULL: Effort = Effort {
    starts: 20,
    stored_runs: 1_000,
    load: Duration::from_secs(6),
    claude_rounds: 20,
    demo_rounds: 100,
    isolation: isolation::Effort { runs: 100, turns: 500 },
    sessions: sessions::FULL,
};

const QUICK: Effort = Effort {
    starts: 3,
    stored_runs: 20,
    load: Duration::from_millis(600),
    claude_rounds: 3,
    demo_rounds: 10,
    isolation: isolation::Effort { runs: 10, turns: 20 },
    sessions: sessions::QUICK,
};

/// Everything that services and agents of this run share.
struct Scene {
    scratch: TempDir,
    claude: PathBuf,
    /// What the operator configured for claude.
    claude_env: BTreeMap<String, String>,
    /// Host and port of the model, on loopback, which is closed to agents unless the operator names it.
    model: String,
}

/// Measures everything, prints it, and writes it down if asked to.
///
/// # Errors
/// When something does not work; nothing is written then.
pub fn run(options: Options) -> Result<()> {
    let effort = if options.quick { QUICK } else { FULL };
    // The mock model has a thread of its own: what asks must not wait for what answers.
    let model_runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let model = model_runtime.block_on(MockModel::start())?;
    let client = Builder::new_current_thread().enable_all().build()?;
    let claude = agents::claude()?.context("`cargo xtask bench` says where the agents are; run that")?;
    let scene = Scene {
        scratch: tempfile::Builder::new().prefix("cf").tempdir_in(SCRATCH)?,
        claude_env: BTreeMap::from([
            ("ANTHROPIC_BASE_URL".to_owned(), model.base_url()),
            ("ANTHROPIC_API_KEY".to_owned(), "sk-of-a-model-that-is-none".to_owned()),
        ]),
        model: model.endpoint(),
        claude,
    };
    let machine = machine::describe(scene.scratch.path(), &agents::claude_version(&scene.claude)?)?;
    say::line(format_args!("\n{machine}"));

    let (tables, goals) = tables(&scene, &client, &effort)?;
    let goals = Table::of_goals(&goals);
    say::line(&goals);
    if options.write {
        let tables: Vec<String> = tables.iter().map(ToString::to_string).collect();
        report::write(&format!("{machine}\n{goals}\n{}", tables.join("\n")))?;
        say::line(format_args!("written to {}", report::DOCUMENT));
    }
    Ok(())
}

fn tables(scene: &Scene, client: &Runtime, effort: &Effort) -> Result<(Vec<Table>, Vec<Goal>)> {
    let mut tables = Vec::new();
    let mut goals = Vec::new();
    let mut tell = |table: Table| {
        say::line(&table);
        tables.push(table);
    };

    let stored = fill::fill(scene, client, effort.stored_runs)?;
    let (table, reached) = start::measure(scene, client, &stored, effort.starts)?;
    tell(table);
    goals.extend(reached);

    let ([held, served], reached) = memory::measure(scene, client, &stored, effort.load)?;
    tell(held);
    tell(served);
    goals.extend(reached);

    for (contest, rounds) in [(claude(scene)?, effort.claude_rounds), (demo(scene)?, effort.demo_rounds)] {
        let (table, reached) = runs::measure(scene, &contest, client, rounds)?;
        tell(table);
        goals.extend(reached);
    }
    let (table, reached) = isolation::measure(scene, client, &effort.isolation)?;
    tell(table);
    goals.extend(reached);

    goals.extend(sessions::measure(scene, client, &effort.sessions, tell)?);
    Ok((tables, goals))
}

fn claude(scene: &Scene) -> Result<Contest> {
    let driven = scene.bare("claude", &scene.claude, &[], &scene.claude_env)?;
    let plain =
        driven.with_args("`claude -p --output-format json`", &["-p", "--output-format", "json", "--model", MODEL]);
    Ok(Contest {
        title: "`/run` over bare claude, with a mock model".to_owned(),
        demo: false,
        bare: vec![plain, driven],
    })
}

fn demo(scene: &Scene) -> Result<Contest> {
    let driven = scene.bare("demo", &service::program(), &[DEMO_AGENT], &BTreeMap::new())?;
    Ok(Contest { title: "`/run` over the bare demo agent".to_owned(), demo: true, bare: vec![driven] })
}

impl Scene {
    /// A private folder for this name, made when missing.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.scratch.path().join(name);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("could not make {}", path.display()))?;
        Ok(path)
    }

    /// A service with claude as its default agent, as an operator with a model would have it.
    fn plain<'a>(&self, data_dir: &'a Path, home: &'a Path) -> Setup<'a> {
        let mut config = format!(
            "[agents.claude]\ncommand = \"{}\"\nnetwork_always = [\"{}\"]\n[agents.claude.env]\n",
            self.claude.display(),
            self.model
        );
        for (name, value) in &self.claude_env {
            config.push_str(&format!("{name} = \"{value}\"\n"));
        }
        Setup { data_dir, home, config, demo: false }
    }

    /// A service with the demo agent as its default.
    fn demo<'a>(&self, data_dir: &'a Path, home: &'a Path) -> Setup<'a> {
        Setup { demo: true, ..self.plain(data_dir, home) }
    }

    fn bare(&self, name: &'static str, program: &Path, first: &[&str], env: &BTreeMap<String, String>) -> Result<Bare> {
        let place = self.scratch.path().join("bare");
        Bare::as_driven(name, program, first, env, &self.folder("home")?, &place)
    }
}
