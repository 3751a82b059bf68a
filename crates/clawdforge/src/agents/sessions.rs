//! Which agents sessions can have, and what each of them says about itself.
//!
//! Every agent that is there is started for a moment and greets; it is asked nothing, and no model is.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clawdforge_agent::acp::AgentInfo;
use clawdforge_agent::locate::{Found, locate};
use clawdforge_agent::{AcpDriver, HostSpec};
use clawdforge_core::agent::Failure;
use clawdforge_process::{Spawner, TreeMark};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::probe;
use crate::config::Config;
use crate::homes;
use crate::session_agents;

/// How long an agent may take to greet; the slowest known takes 3 s on a busy machine.
const GREETING_MAX: Duration = Duration::from_secs(20);

/// How long it may take to leave afterwards.
const GRACE: Duration = Duration::from_secs(1);

/// An agent of sessions and what became of asking it.
pub struct SessionAgent {
    agent: session_agents::Agent,
    program: Result<Found, Failure>,
    /// What it declared; `None` where its program is not there.
    info: Option<Result<AgentInfo, Failure>>,
}

/// Looks for every agent of sessions, and lets those that are there greet, one after the other.
///
/// # Errors
/// When this program cannot tell where it is itself, or no temporary folder can be made.
pub async fn look(config: &Config, spawner: &Spawner) -> anyhow::Result<Vec<SessionAgent>> {
    let folder = probe::scratch()?;
    let mut agents = Vec::new();
    for agent in session_agents::all(config)? {
        let program = locate(&agent.profile);
        let info = match &program {
            Ok(_) => Some(greeting(config, &agent, spawner, folder.path()).await?),
            Err(_) => None,
        };
        agents.push(SessionAgent { agent, program, info });
    }
    Ok(agents)
}

async fn greeting(
    config: &Config,
    agent: &session_agents::Agent,
    spawner: &Spawner,
    folder: &Path,
) -> anyhow::Result<Result<AgentInfo, Failure>> {
    // Natively, whichever driver its sessions have: the agent says the same.
    let driver = AcpDriver::new(agent.profile.clone(), agent.choices.clone(), spawner.clone());
    let name = &agent.profile.name;
    let given_up = CancellationToken::new();
    let home = homes::tried(config, name.as_str(), folder)?;
    let spec = HostSpec {
        cwd: folder.to_owned(),
        scratch: folder.to_owned(),
        mark: TreeMark::new(format!("greeting.{}.{name}", std::process::id()))
            .context("an agent's name marks a process")?,
        home,
        app: None,
        given_up: given_up.clone(),
    };
    let asking = driver.describe(spec, GRACE);
    tokio::pin!(asking);
    // Cancel-safe: what is given up is waited for, so nothing of it is left.
    Ok(tokio::select! {
        info = &mut asking => info,
        () = tokio::time::sleep(GREETING_MAX) => {
            given_up.cancel();
            asking.await
        }
    })
}

impl SessionAgent {
    fn name(&self) -> &str {
        self.agent.profile.name.as_str()
    }

    fn declared(&self) -> Option<&AgentInfo> {
        self.info.as_ref()?.as_ref().ok()
    }

    /// What keeps it from being used.
    fn note(&self) -> Option<&str> {
        match (&self.program, &self.info) {
            (Err(failure), _) | (Ok(_), Some(Err(failure))) => Some(&failure.message),
            (Ok(_), _) => None,
        }
    }
}

/// Writes an aligned table; agents that are missing say how to get them.
pub fn table(agents: &[SessionAgent], out: &mut dyn Write) -> io::Result<()> {
    let headings = ["AGENT OF SESSIONS", "DRIVER", "VERSION", "SYSTEM PROMPT", "OFFERS"].map(String::from);
    let rows: Vec<[String; 5]> = std::iter::once(headings).chain(agents.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (names, drivers, versions, systems) = (width(0), width(1), width(2), width(3));
    for [name, driver, version, system, offers] in &rows {
        writeln!(out, "{name:names$}  {driver:drivers$}  {version:versions$}  {system:systems$}  {offers}")?;
    }
    Ok(())
}

fn row(agent: &SessionAgent) -> [String; 5] {
    let declared = agent.declared();
    let version = declared.and_then(|info| info.version.clone());
    let offers = match (declared, agent.note()) {
        (Some(info), _) => info.capabilities.join(" "),
        (None, Some(note)) => format!("({note})"),
        (None, None) => String::new(),
    };
    let system = if agent.agent.choices.takes_system_prompt { "yes" } else { "no" };
    let version = version.unwrap_or_else(|| "-".to_owned());
    [agent.name().to_owned(), agent.agent.driver.as_str().to_owned(), version, system.to_owned(), offers]
}

/// One JSON value for each agent.
pub fn json(agents: &[SessionAgent]) -> Vec<serde_json::Value> {
    let one = |agent: &SessionAgent| {
        let found = agent.program.as_ref().ok();
        let declared = agent.declared();
        json!({
            "name": agent.name(),
            "driver": agent.agent.driver.as_str(),
            "present": found.is_some(),
            "usable": declared.is_some(),
            "path": found.map(|found| found.path.display().to_string()),
            "source": found.map(|found| found.source.as_str()),
            "calls_itself": declared.and_then(|info| info.name.as_deref()),
            "version": declared.and_then(|info| info.version.as_deref()),
            "capabilities": declared.map(|info| &info.capabilities),
            "takes_system_prompt": agent.agent.choices.takes_system_prompt,
            "sign_in": declared.map(|info| &info.sign_in),
            "note": agent.note(),
        })
    };
    agents.iter().map(one).collect()
}
