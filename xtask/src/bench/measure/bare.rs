//! An agent without the service: started with what our driver would give it, and waited for.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clawdforge_agent::oneshot::command::{Launch, launch, prompt_input};
use clawdforge_agent::profile::{Dialect, Profile};
use clawdforge_agent::surroundings::{environment as environment_of, tmp_dir};
use clawdforge_agent::{OpenSpec, environment};
use clawdforge_core::run::SystemMode;
use clawdforge_process::TreeMark;

use super::runs::MODEL;
use super::service::SEARCH_PATH;

/// What marks the line of the result, in both formats; an answer's own quotation marks are escaped.
const RESULT_MARK: &[u8] = br#""type":"result""#;

/// How long a run took, from just before the process was started.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// To the line with the result.
    pub result: Duration,
    /// To the end of the process, with its output read.
    pub end: Duration,
}

/// One command line of an agent.
pub struct Bare {
    /// What tells it from the others, in Markdown.
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
        // What is measured here is named as its dialect is.
        let dialect = Dialect::ALL.into_iter().find(|(known, _)| *known == name);
        let (_, dialect) = dialect.with_context(|| format!("{name} speaks as an agent of runs"))?;
        let profile = Profile {
            name: name.parse()?,
            dialect,
            program: name.to_owned(),
            command: None,
            own_program: None,
            search_path: None,
            args: first.iter().map(|&word| word.to_owned()).collect(),
            env: environment::compose(inherited, environment::documented(name), &[], env),
            retries_max: 2,
            install_hint: String::new(),
            confinement: None,
            network: None,
            sign_in: Default::default(),
            home_files: None,
            trusts_workspace: false,
        };
        let spec = OpenSpec {
            workspace: work_dir(place),
            scratch: place.to_owned(),
            mark: TreeMark::new("bench")?,
            model: Some(MODEL.to_owned()),
            resume: None,
            system: None,
            system_mode: SystemMode::Append,
            effort: None,
            mode: None,
            tool_servers: Vec::new(),
            output_schema: None,
            home: None,
            app: None,
            given_up: Default::default(),
        };
        let env = environment_of(&profile, None, place).map_err(|failure| anyhow::anyhow!(failure.message))?;
        let launch = launch(&profile, &spec, env);
        let shown = format!("`{name} -p` as our driver calls it");
        Ok(Self { shown, program: program.to_owned(), launch, place: place.to_owned() })
    }

    /// The same with other arguments.
    pub fn with_args(&self, shown: &str, args: &[&str]) -> Self {
        let launch = Launch { args: args.iter().map(OsString::from).collect(), env: self.launch.env.clone() };
        Self { shown: shown.to_owned(), program: self.program.clone(), launch, place: self.place.clone() }
    }

    /// Runs it once in fresh directories, which are made before the clock runs and removed after it.
    ///
    /// # Errors
    /// When it fails or gives no result.
    pub fn run(&self, prompt: &str) -> Result<Took> {
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
        let mut result = None;
        let mut lines = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            if line.windows(RESULT_MARK.len()).any(|part| part == RESULT_MARK) {
                result = Some(began.elapsed());
            }
            line.clear();
        }
        // What it says on its error stream is little and waits in the pipe.
        let output = child.wait_with_output()?;
        let end = began.elapsed();

        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {}: {stderr}", self.shown, output.status);
        let result = result.with_context(|| format!("{} gave no result: {stderr}", self.shown))?;
        fs::remove_dir_all(&self.place)?;
        Ok(Took { result, end })
    }
}

fn work_dir(place: &Path) -> PathBuf {
    place.join("work")
}
