//! What the tests share: an engine, a store that can fail, and an agent that plays a script.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_agent::{
    AgentDriver, AgentLink, Agents, CloseReport, OpenSpec, Presence, Prompt, SessionAgent, SessionAgents,
};
use clawdforge_core::agent::{AgentName, AgentSignal, Failure, TurnEnd};
use clawdforge_core::app::{AppToken, TokenHash};
use clawdforge_core::run::{RunRequest, SystemMode};
use clawdforge_core::session::DriverName;
use clawdforge_core::time::{Clock, Timestamp};
use clawdforge_engine::{EVENT_GATHER, Engine, EngineError, EngineOptions, Ids, Parts, RecoveryReport, TokenWish};
use clawdforge_process::Spawner;
use clawdforge_store::Store;
use clawdforge_store_sql::{Opened, SqliteOptions};

/// A clock that moves one millisecond at every look, and further by hand.
#[derive(Default)]
pub struct Ticking(AtomicI64);

impl Ticking {
    /// So much time passes.
    pub fn pass(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + self.0.fetch_add(1_000, Ordering::SeqCst))
    }
}

/// What a scripted agent does when it is asked for its next signal, and at the end when it is closed.
#[derive(Debug, Clone)]
pub enum Step {
    Say(Box<AgentSignal>),
    Panic,
    WaitForEver,
}

/// An agent that plays the same script at every turn.
pub struct Scripted {
    pub name: AgentName,
    pub open: Result<(), Failure>,
    pub steps: Vec<Step>,
}

struct ScriptedLink(std::vec::IntoIter<Step>);

#[async_trait]
impl AgentDriver for Scripted {
    fn name(&self) -> &AgentName {
        &self.name
    }

    fn presence(&self) -> Presence {
        Presence { program: None, version: None }
    }

    fn check(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn open(&self, _: OpenSpec) -> Result<Box<dyn AgentLink>, Failure> {
        self.open.clone()?;
        Ok(Box::new(ScriptedLink(self.steps.clone().into_iter())))
    }
}

#[async_trait]
impl AgentLink for ScriptedLink {
    async fn begin_turn(&mut self, _: Prompt) -> Result<(), Failure> {
        Ok(())
    }

    fn process(&self) -> Option<String> {
        Some("1:1:not-a-boot".to_owned())
    }

    async fn next_signal(&mut self) -> AgentSignal {
        match self.0.next() {
            Some(Step::Say(signal)) => *signal,
            Some(Step::Panic) => panic!("a bug in a driver"),
            Some(Step::WaitForEver) | None => std::future::pending().await,
        }
    }

    async fn close(mut self: Box<Self>, _: Duration) -> CloseReport {
        assert!(!matches!(self.0.next(), Some(Step::Panic)), "a bug in how a driver closes");
        CloseReport { stderr: "the script is over".to_owned(), ..CloseReport::default() }
    }
}

/// The agent says this.
pub fn say(signal: AgentSignal) -> Step {
    Step::Say(Box::new(signal))
}

/// A script that answers.
pub fn answers(text: &str) -> Vec<Step> {
    let end = TurnEnd { answer: Some(text.to_owned()), stop_reason: Some("end_turn".to_owned()), ..TurnEnd::default() };
    vec![say(AgentSignal::Text(text.to_owned())), say(AgentSignal::TurnEnded(end))]
}

pub async fn open_store(dir: &Path) -> Opened {
    clawdforge_store_sql::open(SqliteOptions::at(dir.join("db"))).await.unwrap()
}

/// An engine over a store, with one scripted agent.
pub async fn engine(
    dir: &Path,
    spawner: &Spawner,
    store: Store,
    open: Result<(), Failure>,
    steps: Vec<Step>,
) -> Result<(Engine, RecoveryReport), EngineError> {
    let name: AgentName = "scripted".parse().unwrap();
    engine_with(dir, spawner, store, Arc::new(Scripted { name, open, steps }), |_| {}).await
}

/// An engine over a store, with one agent and the options as changed.
pub async fn engine_with(
    dir: &Path,
    spawner: &Spawner,
    store: Store,
    driver: Arc<dyn AgentDriver>,
    change: impl FnOnce(&mut EngineOptions),
) -> Result<(Engine, RecoveryReport), EngineError> {
    engine_by(Arc::default(), dir, spawner, store, driver, change).await
}

/// As [`engine_with`], by a clock.
pub async fn engine_by(
    clock: Arc<Ticking>,
    dir: &Path,
    spawner: &Spawner,
    store: Store,
    driver: Arc<dyn AgentDriver>,
    change: impl FnOnce(&mut EngineOptions),
) -> Result<(Engine, RecoveryReport), EngineError> {
    let mut options = EngineOptions {
        data_dir: dir.to_owned(),
        isolation: clawdforge_core::isolation::Isolation::Off,
        users: None,
        agent_home: Default::default(),
        slots: 2,
        queue_max: 2,
        queue_per_app_max: 2,
        queue_wait_max: Duration::from_secs(5),
        silence_max: Duration::from_secs(60),
        kill_grace: Duration::from_millis(100),
        workspace_bytes_max: None,
        upload_bytes_max: 1_000,
        event_gather: EVENT_GATHER,
        session_warm_max: Duration::from_secs(60),
        session_warm_up: false,
        sessions_per_process: 1,
        session_ttl: Duration::from_secs(3600),
        session_hard_ttl: Duration::from_secs(3600),
        run_retention: Duration::from_secs(3600),
        ledger_retention: None,
        sweep_interval: Duration::from_secs(3600),
    };
    change(&mut options);
    let agents = Arc::new(Agents::new(driver.name().clone(), [Arc::clone(&driver)]).unwrap());
    let name = driver.name().clone();
    let acp = SessionAgent::new(DriverName::Acp, [(DriverName::Acp, Arc::clone(&driver))]);
    let session_agents = SessionAgents::new(name.clone(), [(name, acp)]).unwrap();
    let parts = Parts {
        store,
        agents: Arc::clone(&agents),
        session_agents: Arc::new(session_agents),
        acpx: driver,
        spawner: spawner.clone(),
        ids: Ids::new(clock),
        operator: TokenHash::of("operator"),
        options,
    };
    Engine::start(parts).await
}

/// Mints the one app of a test.
pub async fn app(engine: &Engine) -> Arc<AppToken> {
    engine.mint_token(TokenWish::of("app".parse().unwrap()), engine.request_id()).await.unwrap().token
}

pub fn request(timeout: Duration) -> RunRequest {
    RunRequest {
        prompt: "say something".to_owned(),
        model: "sonnet".to_owned(),
        system: None,
        system_mode: SystemMode::Append,
        effort: None,
        files: Vec::new(),
        timeout,
        isolation_min: None,
        output_schema: None,
    }
}
