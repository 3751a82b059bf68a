//! What is not endless, taken by an agent: whether that is refused, whether others are still served meanwhile, and whether
//! all of it is given back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clawdforge_process::sandbox::Outcome;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::memory::Bound;
use super::rows::{ALL, How, Row};
use super::stage::{Stage, outcome};
use crate::app::{PATIENCE, poll_pause};

/// How an attacker's turn, and the next one, end that has filled its workspace.
const FULL: &str = "workspace_full";

/// Seconds that a turn which fills the workspace may take: many times what the quota is looked at in.
const FILLING_SECS_MAX: u64 = 30;

/// How long each of those who are to be kept waiting may take: many times what they do on a machine that is busy with
/// several of these sieges.
const SERVED_WAIT_MAX: Duration = Duration::from_secs(20);

/// The row in which memory is taken, which is bounded meanwhile where it can be.
const OF_MEMORY: &str = "huge_memory";

/// The row that says whether anything is left of what was taken.
const REMAINS: &str = "outlive_siege";

impl Stage {
    /// One siege after the other, but for that of the memory.
    pub(super) async fn besieged(&self) -> anyhow::Result<BTreeMap<&'static str, Outcome>> {
        let mut observed = BTreeMap::new();
        for row in ALL.iter().filter(|row| row.name != OF_MEMORY) {
            match row.how {
                How::Takes(_) => self.taken(row, &mut observed).await?,
                How::Fills(_) => {
                    let prompt = self.prompt(row).unwrap_or_default();
                    let (filled, served) = tokio::try_join!(self.filled(&prompt), self.serves())?;
                    observed.extend([(row.name, filled), (starving(row), served)]);
                }
                _ => {}
            }
        }
        Ok(observed)
    }

    /// Takes the memory, in a group in which there is not so much of it, where one can be had. Last of all: without a
    /// sandbox, it is the service that is ended for it.
    pub(super) async fn besieged_in_memory(
        &self,
        observed: &mut BTreeMap<&'static str, Outcome>,
    ) -> anyhow::Result<()> {
        let row = ALL.iter().find(|row| row.name == OF_MEMORY).context("there is a row for it")?;
        let service = self.app.pid()?;
        let Some(bound) = Bound::make() else { return self.taken(row, observed).await };
        bound.take(service)?;
        self.taken(row, observed).await?;
        if observed[starving(row)] == Outcome::Denied { bound.let_go(service) } else { Ok(()) }
    }

    /// How far the attacker comes, whether others are served while it keeps what it has, and whether something of it is
    /// left when its session is closed.
    async fn taken(&self, row: &Row, observed: &mut BTreeMap<&'static str, Outcome>) -> anyhow::Result<()> {
        let before = self.app.agent_processes();
        let session = self.open().await?;
        let (turn, prompt) = (format!("{session}/turn"), self.prompt(row).unwrap_or_default());
        let turned = self.app.call(Method::POST, &turn, &self.attacker, json!({ "prompt": prompt })).await;
        // Where the service does not live to tell it, it is told by who is served.
        let said = turned.map_or_else(|_| String::new(), |answer| said(&answer.json()));
        let served = self.serves().await?;
        observed.extend([(row.name, outcome(&said)), (starving(row), served)]);
        if served == Outcome::Denied {
            let closed = self.app.call(Method::DELETE, &session, &self.attacker, Value::Null).await?;
            ensure!(closed.status == StatusCode::OK, "the session of {} was not closed: {closed:?}", row.name);
            let gone = self.none_but(&before).await;
            let remains = observed.entry(REMAINS).or_insert(gone);
            *remains = if gone == Outcome::Denied { *remains } else { gone };
        }
        Ok(())
    }

    /// Whether the service says that it is well, A's warm agent takes a turn, and a new agent of A's comes to its end:
    /// refused is what the attacker wanted to keep them from.
    async fn serves(&self) -> anyhow::Result<Outcome> {
        let owner = self.app.demo_token()?;
        let turn = format!("/sessions/{}/turn", self.session);
        for (method, path, body) in [
            (Method::GET, "/healthz", Value::Null),
            (Method::POST, turn.as_str(), json!({ "prompt": "say: served" })),
            (Method::POST, "/run", json!({ "prompt": "say: served" })),
        ] {
            let call = self.app.call(method, path, &owner, body);
            match tokio::time::timeout(SERVED_WAIT_MAX, call).await {
                Ok(Ok(answer)) if answer.status == StatusCode::OK && answer.json()["ok"] == true => {}
                _ => return Ok(Outcome::Open),
            }
        }
        Ok(Outcome::Denied)
    }

    /// Whether no process of agents comes to be left but these.
    async fn none_but(&self, before: &[i32]) -> Outcome {
        let began = Instant::now();
        while self.app.agent_processes().iter().any(|pid| !before.contains(pid)) {
            if began.elapsed() > PATIENCE {
                return Outcome::Open;
            }
            poll_pause().await;
        }
        Outcome::Denied
    }

    /// Whether a turn that fills its workspace goes on until it is told, or another one begins after it.
    async fn filled(&self, prompt: &str) -> anyhow::Result<Outcome> {
        let session = self.open().await?;
        for prompt in [format!("{prompt}\nhang"), "say: hello".to_owned()] {
            let body = json!({ "prompt": prompt, "timeout_secs": FILLING_SECS_MAX });
            let answer = self.app.call(Method::POST, &format!("{session}/turn"), &self.attacker, body).await?.json();
            match answer["code"].as_str() {
                Some(FULL) => {}
                Some("timed_out") | None => return Ok(Outcome::Open),
                Some(_) => return Ok(Outcome::Unknown),
            }
        }
        Ok(Outcome::Denied)
    }

    /// The path of a session that the attacker opens.
    async fn open(&self) -> anyhow::Result<String> {
        let opened = self.app.call(Method::POST, "/sessions", &self.attacker, json!({})).await?.json();
        let session = opened["session_id"].as_str().with_context(|| format!("no session: {opened}"))?;
        Ok(format!("/sessions/{session}"))
    }
}

/// The row that says whether others are kept waiting by what this one takes.
fn starving(row: &Row) -> &'static str {
    ALL.iter().find(|other| other.how == How::Starves(row.name)).map_or("", |starving| starving.name)
}

/// What an agent said in a turn.
fn said(reply: &Value) -> String {
    let events = reply["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().filter(|event| event["type"] == "text").filter_map(|event| event["content"].as_str()).collect()
}
