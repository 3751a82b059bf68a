//! One service with one subject and one session of it, and what is true after every case.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clawdforge_testkit::app::{PATIENCE, TestApp, marked_for, poll_pause, until};
use clawdforge_testkit::mock_model::MockModel;
use clawdforge_testkit::sse::{Sse, follow};
use reqwest::{Method, StatusCode};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::act::{Act, TOLD, TOLD_ANEW};
use super::followed::{Ended, SHOWN_CHARS_MAX, Turn};
use super::subject::{Part, Subject};
use crate::bench::API_KEY;

pub struct Stage {
    pub subject: Subject,
    pub model: MockModel,
    pub app: TestApp,
    token: String,
    /// The path of the session.
    session: String,
    _folder: TempDir,
}

impl Stage {
    /// A service with an open session; `None` where a program it needs is not installed.
    pub async fn set(subject: Subject) -> anyhow::Result<Option<Self>> {
        let folder = tempfile::Builder::new().prefix("cf-agent").tempdir()?;
        let model = MockModel::start().await?;
        let setup = subject.agent().setup(subject.is_through_acpx(), &model, folder.path())?;
        let Some(setup) = setup else { return Ok(None) };
        let app = setup.start().await?;
        let token = app.mint("app").await?;
        let body = json!({ "agent": subject.agent().name(), "driver": subject.driver() });
        let opened = app.call(Method::POST, "/v1/sessions", &token, body).await?;
        ensure!(opened.status == StatusCode::CREATED, "{opened:?}");
        let session = opened.headers["location"].to_str()?.to_owned();
        Ok(Some(Self { subject, model, app, token, session, _folder: folder }))
    }

    pub async fn call(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let answer = self.app.call(method, path, &self.token, Value::Null).await?;
        ensure!(answer.status.is_success(), "{path}: {answer:?}; log:\n{}", self.app.log()?);
        Ok(answer.json())
    }

    /// The session as it stands.
    pub async fn view(&self) -> anyhow::Result<Value> {
        self.call(Method::GET, &self.session).await
    }

    /// Begins a turn in which the subject does this; further fields of its body come with it.
    pub async fn begin_with(&self, act: Act, mut body: Value) -> anyhow::Result<Turn> {
        body["prompt"] = json!(act.prepare(self));
        let request = self.app.http().post(self.app.url(&format!("{}/turns", self.session)));
        let request = request.bearer_auth(&self.token).header("accept", "text/event-stream").json(&body);
        Turn::of(follow(request).await?)
    }

    pub async fn begin(&self, act: Act) -> anyhow::Result<Turn> {
        self.begin_with(act, json!({})).await
    }

    /// A turn to its end, whatever that is.
    pub async fn turn(&self, act: Act) -> anyhow::Result<Ended> {
        self.begin(act).await?.end(self).await
    }

    /// A turn that must be answered; what the agent said in it comes back.
    pub async fn answered(&self, act: Act) -> anyhow::Result<Ended> {
        let ended = self.turn(act).await?;
        ended.must_be("completed", self)?;
        Ok(ended)
    }

    /// The session goes on from here, and says truly what its agent knows and how it comes to know.
    pub async fn goes_on(&self, contexts: &[&str]) -> anyhow::Result<()> {
        let recalled = self.answered(Act::Recall).await?;
        let (context, said) = (recalled.context(), recalled.text());
        ensure!(contexts.contains(&context.as_str()), "{context}, not {contexts:?}: {said}; log:\n{}", self.app.log()?);
        let expected = if context == "rebuilt" { format!("{TOLD_ANEW} {TOLD}") } else { TOLD.to_owned() };
        // The demo agent also says what else it was told.
        let brief: String = said.chars().take(SHOWN_CHARS_MAX).collect();
        ensure!(
            said.starts_with(&expected),
            "the context is said to be {context}, and the agent knows: {brief}; log:\n{}",
            self.app.log()?
        );
        Ok(())
    }

    /// Everything that works for the session, wherever its directory is.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = self.app.agent_processes();
        found.extend(marked_for(&self.app.data_dir()));
        found.sort_unstable();
        found.dedup();
        found
    }

    fn part(&self, part: Part) -> Vec<i32> {
        let is_part = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            self.subject.is_part(part, &line.split('\0').collect::<Vec<_>>())
        };
        self.processes().into_iter().filter(is_part).collect()
    }

    /// Kills a part with a signal that nobody can act on, and waits until it is gone.
    pub async fn kill(&self, part: Part) -> anyhow::Result<()> {
        let pids = self.part(part);
        ensure!(!pids.is_empty(), "there is no {part:?} to kill among {:?}", self.lines());
        kill(&pids)?;
        until("the killed are gone", || Ok(!self.part(part).iter().any(|pid| pids.contains(pid)))).await
    }

    /// The same with everything there is.
    pub async fn kill_all(&self) -> anyhow::Result<()> {
        kill(&self.processes())?;
        until("all are gone", || Ok(self.processes().is_empty())).await
    }

    fn lines(&self) -> Vec<String> {
        let line = |pid: i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let lines = self.processes().into_iter().map(line);
        lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect()
    }

    /// Waits until the service knows whether an agent is there for the session.
    pub async fn wait_until_warm(&self, is_warm: bool) -> anyhow::Result<()> {
        let waiting = async {
            while self.view().await?["warm"] != is_warm {
                poll_pause().await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, waiting).await.with_context(|| format!("warm never became {is_warm}"))?
    }

    /// Uploads a text; the file's token comes back.
    pub async fn upload(&self, name: &str, text: &str) -> anyhow::Result<String> {
        self.app.upload(&self.token, name, text.as_bytes().to_vec()).await
    }

    /// The workspace of the session.
    pub fn workspace(&self) -> anyhow::Result<PathBuf> {
        let mut sessions = std::fs::read_dir(self.app.data_dir().join("sessions"))?;
        Ok(sessions.next().context("there is a session")??.path().join("work"))
    }

    /// Kills the service and starts it again.
    pub async fn restart(mut self) -> anyhow::Result<Self> {
        self.app.signal(Signal::KILL)?;
        self.app.ended().await?;
        self.app = self.app.restart().await?;
        Ok(self)
    }

    /// Ends every case: the session closes and leaves no process, each of its turns has one end on record, and nobody broke a rule.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.call(Method::DELETE, &self.session).await?;
        ensure!(self.processes().is_empty(), "processes are left after the close: {:?}", self.lines());
        self.has_whole_records().await?;
        ensure!(self.model.violations().is_empty(), "{:#?}", self.model.violations());
        ensure!(self.model.other_requests().is_empty(), "{:?}", self.model.other_requests());
        let status = self.app.stop().await?;
        let log = self.app.log()?;
        ensure!(status.success(), "{status}; log:\n{log}");
        ensure!(!log.contains(API_KEY), "the key is in the log:\n{log}");
        Ok(())
    }

    async fn has_whole_records(&self) -> anyhow::Result<()> {
        let turns = self.call(Method::GET, &format!("{}/turns", self.session)).await?;
        let turns = turns["data"].as_array().cloned().unwrap_or_default();
        for turn in &turns {
            ensure!(turn["state"] == "ended" && turn["outcome"].is_string(), "a turn without an outcome: {turn}");
        }
        let request = self.app.http().get(self.app.url(&format!("{}/events", self.session)));
        let events =
            follow(request.bearer_auth(&self.token).header("accept", "text/event-stream")).await?.rest().await?;
        let named = |name: &str| events.iter().filter(|event| event.name == name).count();
        ensure!((named("closed"), named("ended")) == (1, turns.len()), "the log is not whole: {turns:?}");
        let numbers: Vec<u64> = events.iter().filter_map(|event: &Sse| event.id).collect();
        if numbers != (1..=numbers.len() as u64).collect::<Vec<_>>() {
            bail!("the numbers of events have gaps: {numbers:?}");
        }
        Ok(())
    }
}

fn kill(pids: &[i32]) -> anyhow::Result<()> {
    for pid in pids {
        match kill_process(Pid::from_raw(*pid).context("no process has the number 0")?, Signal::KILL) {
            // It went with its parent.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
