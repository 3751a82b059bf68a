//! An agent without the service: started with what our driver would give it, and waited for.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clawdforge_agent::oneshot::command::{Launch, launch, prompt_input, tmp_dir};
use clawdforge_agent::profile::{Dialect, Profile};
use clawdforge_agent::{OpenSpec, environment};
use clawdforge_core::run::SystemMode;
use clawdforge_process::TreeMark;

use super::runs::MODEL;
use super::service::SEARCH_PATH;

/// One command line of an agent.
pub struct Bare {
    /// The agent's name.
    pub name: &'static str,
    /// The command line as it is shown.
    pub shown: String,
    program: PathBuf,
    launch: Launch,
    /// Where it works and keeps temporary files; emptied after each run.
    place: PathBuf,
}

impl Bare {
    /// The agent with the very arguments and the environment that our driver composes. `first` goes in
    /// front of them, `env` is what the operator configured.
    ///
    /// # Errors
    /// When the mark of a tree cannot be made, which would be a mistake here.
    pub fn as_driven(
        name: &'static str,
        program: &Path,
        first: &[&str],
        env: &BTreeMap<String, String>,
        home: &Path,
        place: &Path,
    ) -> Result<Self> {
        let inherited = [("PATH".into(), SEARCH_PATH.into()), ("HOME".into(), home.into())];
        let profile = Profile {
            name: name.parse()?,
            dialect: Dialect::Claude,
            command: None,
            own_program: None,
            search_path: None,
            args: first.iter().map(|&word| word.to_owned()).collect(),
            env: environment::compose(inherited, environment::documented(name), &[], env),
            retries_max: 2,
            install_hint: String::new(),
        };
        let spec = OpenSpec {
            workspace: work_dir(place),
            scratch: place.to_owned(),
            mark: TreeMark::new("bench")?,
            model: MODEL.to_owned(),
            system: None,
            system_mode: SystemMode::Append,
            effort: None,
        };
        let launch = launch(&profile, &spec);
        let shown = shown(name, &launch.args);
        Ok(Self { name, shown, program: program.to_owned(), launch, place: place.to_owned() })
    }

    /// The same with other arguments.
    pub fn with_args(&self, args: &[&str]) -> Self {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let shown = shown(self.name, &args);
        let launch = Launch { args, env: self.launch.env.clone() };
        Self { name: self.name, shown, program: self.program.clone(), launch, place: self.place.clone() }
    }

    /// Runs it once in fresh directories, which are made before the clock runs and removed after it.
    ///
    /// # Errors
    /// When it fails or says nothing.
    pub fn run(&self, prompt: &str) -> Result<Duration> {
        fs::create_dir_all(work_dir(&self.place))?;
        fs::create_dir_all(tmp_dir(&self.place))?;
        let prompt = prompt_input(prompt.to_owned());
        let mut command = Command::new(&self.program);
        command.args(&self.launch.args).env_clear().envs(&self.launch.env).current_dir(work_dir(&self.place));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());

        let began = Instant::now();
        #[expect(clippy::disallowed_methods, reason = "the agent as somebody without the service starts it")]
        let mut child = command.spawn().with_context(|| format!("could not start {}", self.program.display()))?;
        // Small enough for the pipe; closed behind the prompt.
        child.stdin.take().context("standard input is a pipe")?.write_all(&prompt)?;
        let output = child.wait_with_output()?;
        let took = began.elapsed();

        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && !output.stdout.is_empty(), "{}: {}: {stderr}", self.shown, output.status);
        fs::remove_dir_all(&self.place)?;
        Ok(took)
    }
}

fn work_dir(place: &Path) -> PathBuf {
    place.join("work")
}

fn shown(name: &str, args: &[OsString]) -> String {
    let words: Vec<_> = args.iter().map(|word| word.to_string_lossy()).collect();
    format!("`{name} {}`", words.join(" "))
}
