//! The shell of a real agent as the attacker: its model has it run the demo agent once, which tries everything from there
//! and writes down what came of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::mock_model::{MockModel, Reply};

/// Name of the demo agent's program among those that the attacker may run.
const PROGRAM: &str = "attacker";

/// What ends a prompt in the command: no line of one.
const END: &str = "END-OF-THE-ATTACK";

/// A real agent with a model that does what it is told.
pub struct Shell {
    /// The agent's name in the configuration.
    agent: &'static str,
    /// The driver of its sessions.
    driver: &'static str,
    /// The wish to run a command, as the agent's model has it.
    runs: fn(&str) -> Reply,
    model: MockModel,
    program: OnceLock<PathBuf>,
}

impl Shell {
    /// The shell of an agent behind a driver, whose model is this one.
    #[must_use]
    pub fn of(agent: &'static str, driver: &'static str, runs: fn(&str) -> Reply, model: MockModel) -> Self {
        Self { agent, driver, runs, model, program: OnceLock::new() }
    }

    /// Lays the demo agent's program into a folder that agents may read.
    pub(super) fn bring_along(&self, binary: &Path, folder: &Path) -> anyhow::Result<()> {
        let program = folder.join(PROGRAM);
        fs::hard_link(binary, &program).or_else(|_| fs::copy(binary, &program).map(drop))?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        drop(self.program.set(program));
        Ok(())
    }

    /// What the demo agent says to a prompt when it is run in the shell, in a session of its own.
    pub(super) async fn said(&self, app: &TestApp, bearer: &str, prompt: &str) -> anyhow::Result<String> {
        self.said_each(app, bearer, &[prompt.to_owned()]).await?.pop().context("it says something")
    }

    /// The same for several prompts, each to a process of its own, in one session.
    pub(super) async fn said_each(
        &self,
        app: &TestApp,
        bearer: &str,
        prompts: &[String],
    ) -> anyhow::Result<Vec<String>> {
        let body = json!({ "agent": self.agent, "driver": self.driver });
        let opened = app.call(Method::POST, "/sessions", bearer, body).await?.json();
        let id = opened["session_id"].as_str().with_context(|| format!("no session: {opened}"))?;
        let session = format!("/sessions/{id}");
        let command = self.command(prompts)?;
        let runs = self.runs;
        self.model.script(move |request| match request.tool_answers().first() {
            None => runs(&command),
            Some(_) => Reply::text("done"),
        });
        let turn = app.call(Method::POST, &format!("{session}/turn"), bearer, json!({ "prompt": "Attack." })).await?;
        let closed = app.call(Method::DELETE, &session, bearer, Value::Null).await?;
        ensure!(turn.status == StatusCode::OK, "the attacker did not come to its end: {turn:?}; log:\n{}", app.log()?);
        ensure!(closed.status == StatusCode::OK, "{closed:?}");
        let requests = self.model.turn_requests();
        let answers = requests.last().map(|request| request.tool_answers()).unwrap_or_default();
        let told = &answers.first().with_context(|| format!("no command was run: {turn:?}"))?.text;
        let folder = told.lines().rev().find(|line| line.starts_with('/')).with_context(|| told.clone())?;
        (0..prompts.len()).map(|number| last_word(&Path::new(folder).join(report(number)))).collect()
    }

    /// Runs the demo agent once for each prompt, and says where.
    fn command(&self, prompts: &[String]) -> anyhow::Result<String> {
        let program = self.program.get().context("it was brought along")?.display();
        let one = |(number, prompt): (usize, &String)| {
            let report = report(number);
            format!("{program} __demo-agent -p --output-format stream-json > {report} <<'{END}'\n{prompt}\n{END}\n")
        };
        Ok(prompts.iter().enumerate().map(one).chain(["pwd".to_owned()]).collect())
    }
}

/// The file that a process writes its answer into. Files, because agents cut what commands print.
fn report(number: usize) -> String {
    format!("report-{number}.txt")
}

/// The result in a report.
fn last_word(report: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(report)?;
    let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).with_context(|| text.clone())?;
    Ok(last["result"].as_str().map_or_else(|| last["result"].to_string(), str::to_owned))
}
