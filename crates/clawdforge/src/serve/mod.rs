//! `clawdforge serve`: from a configuration to a service, and back down in good order.

mod admin_token;
mod banner;
pub mod data_dir;
mod demo;
mod guessing;
pub mod refusals;
mod rotate;
mod signals;

pub use rotate::{admin_token_command, run_admin_token_command};

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clawdforge_agent::oneshot::OneShotDriver;
use clawdforge_agent::{AgentDriver, Agents, SessionAgents};
use clawdforge_core::app::TokenHash;
use clawdforge_core::isolation::Isolation;
use clawdforge_core::secret::ExposeSecret;
use clawdforge_egress::{Proxy, System};
use clawdforge_engine::{EVENT_GATHER, Engine, EngineOptions, Ids, Parts, RecoveryReport};
use clawdforge_process::sandbox::probe;
use clawdforge_process::{Cgroups, Spawner};
use clawdforge_server::{Server, ServerOptions};
use clawdforge_store_sql::{Claim, Opened, SqliteOptions};
use rustix::fs::Mode;
use rustix::process::umask;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cgroups;
use crate::clock::SystemClock;
use crate::config::{self, Config, Inputs, Risk};
use crate::isolation::{self, Standing};
use crate::{network, profiles, session_agents};

/// How long the last processes may take to be gone: a killed process needs milliseconds.
pub const SETTLE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Name of the database in the data directory.
pub const DATABASE: &str = "clawdforge.sqlite";

/// Runs the service until it is told to stop.
///
/// # Errors
/// With a sentence for the operator, when the configuration is wrong or something that the service
/// needs is not to be had.
pub fn serve(inputs: &Inputs) -> anyhow::Result<ExitCode> {
    let loaded = config::load(inputs)?;
    crate::logs::start(&loaded.config)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    // Whatever the service makes, and its agents make, is nobody else's. No thread is there yet that could make one.
    umask(Mode::RWXG | Mode::RWXO);
    refusals::none(&loaded.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(loaded.config))
}

async fn run(config: Config) -> anyhow::Result<ExitCode> {
    let signals = signals::Signals::listen()?;
    // First of all: a start that is refused for its address leaves no directory behind.
    let listener = TcpListener::bind(config.listen).await.with_context(|| listen_hint(config.listen))?;
    let readable = config.start_despite.contains(&Risk::ReadableData);
    data_dir::prepare(&config.data_dir, isolation::users(&config)?.is_some(), readable)?;
    // Before anything in there is touched.
    let claim = Claim::take(database_options(&config)).await?;
    let cgroups = cgroups::of(&config)?;
    let spawner = Spawner::start()?.with_cgroups(cgroups.as_ref().ok().cloned());
    let served = serve_on(listener, config, signals, claim, &cgroups, &spawner).await;
    // What was dropped is being killed: whoever is stopped for that when this process ends would stay so.
    if !spawner.settled(SETTLE_WAIT_MAX).await {
        tracing::error!("processes are left that could not be ended");
    }
    let (code, opened) = served?;
    opened.close().await.context("the database did not close in good order; nothing acknowledged is lost")?;
    tracing::info!("the service has stopped");
    Ok(code)
}

/// The service from its claim to its data on until it is told to stop; its store is still open then.
async fn serve_on(
    listener: TcpListener,
    mut config: Config,
    signals: signals::Signals,
    claim: Claim,
    cgroups: &Result<Cgroups, String>,
    spawner: &Spawner,
) -> anyhow::Result<(ExitCode, Opened)> {
    let address = listener.local_addr()?;
    let (proxy, egress) = Proxy::bind(Arc::new(System)).await.context("there is no port for the agents' proxy")?;
    config.egress = Some(egress);
    // Both at once: the disk is waited for, while processes are started.
    let (opened, isolation) = tokio::join!(claim.open(), stand(&config, spawner, cgroups));
    let (opened, isolation) = (opened?, isolation?);
    let ids = Ids::new(Arc::new(SystemClock));
    let admin = admin_token::find_or_make(&config, &ids)?;
    // What was tried is what agents get.
    config.confinement.clone_from(&isolation.confinement);
    let agents = ServiceAgents::of(&config, spawner)?;
    for warning in network::check(
        profiles::profiles(&config)?.iter().chain(session_agents::all(&config)?.iter().map(|agent| &agent.profile)),
    )? {
        tracing::warn!("{warning}");
    }
    let (engine, recovered) = start_engine(&config, &opened, spawner.clone(), ids, &agents, &admin, &isolation).await?;
    tell_of_recovery(recovered);

    let demo_token = if config.demo {
        Some(demo::token(&engine, &config.data_dir).await?)
    } else {
        // Before the first connection is taken.
        demo::forget(&engine, &config.data_dir).await?;
        None
    };
    tracing::info!(address = %address, data_dir = %config.data_dir.display(), "the service is ready");

    let server = Server::new(engine.clone(), server_options(&config, &admin));
    let stop = CancellationToken::new();
    let announce = async {
        tokio::select! {
            () = agents.learn_versions() => {}
            () = stop.cancelled() => return,
        }
        let block = banner::Banner {
            address,
            config: &config,
            admin: &admin,
            agents: banner::agents(&config, &agents.of_runs),
            isolation: &isolation,
            demo_token: demo_token.as_ref(),
            first_app: engine.tokens().is_empty(),
        };
        if let Err(error) = io::stdout().write_all(block.to_string().as_bytes()) {
            tracing::warn!(%error, "the start block could not be printed");
        }
    };
    let code = tokio::join!(
        server.serve(listener, stop.clone()),
        proxy.serve(stop.clone()),
        announce,
        until_stopped(&engine, opened.broken(), &config, signals, stop.clone()),
    )
    .3;
    Ok((code, opened))
}

/// What agents are kept from here: found out before anything is taken in, and enough, or there is no start.
async fn stand(config: &Config, spawner: &Spawner, cgroups: &Result<Cgroups, String>) -> anyhow::Result<Standing> {
    probe::clean(&config.data_dir).context("what an earlier start left in the data directory cannot be removed")?;
    match cgroups {
        Ok(cgroups) => {
            let left = cgroups.clone();
            let ended = tokio::task::spawn_blocking(move || left.end_leftovers()).await?;
            let ended = ended.context("control groups of an earlier start cannot be ended")?;
            let path = cgroups.path().display();
            tracing::info!(%path, processes.ended = ended, bounds = ?cgroups.bounds(), "agents get control groups");
        }
        Err(reason) => tracing::debug!(reason, "agents get no control groups"),
    }
    let standing = isolation::measure(config, spawner, cgroups).await?;
    let (level, gaps) = (standing.level.as_str(), standing.gaps.join(", "));
    let network = standing.network.as_str();
    if standing.level == Isolation::Off {
        tracing::warn!(
            isolation.level = level,
            isolation.network = network,
            "agents are not isolated: each may do all that the service may"
        );
    } else {
        let acpx = standing.acpx.as_ref();
        let gaps_of_acpx: Vec<_> =
            acpx.iter().flat_map(|found| found.gaps()).map(|(attack, _)| attack.name()).collect();
        tracing::info!(
            isolation.level = level,
            isolation.network = network,
            isolation.gaps = gaps,
            isolation.acpx.level = acpx.map(|found| found.level().as_str()),
            isolation.acpx.gaps = gaps_of_acpx.join(", "),
            "agents are isolated"
        );
    }
    if let Some(reason) = &standing.no_namespaces {
        tracing::info!(reason, "agents have no namespaces of their own");
    }
    Ok(standing)
}

/// The drivers of a service.
struct ServiceAgents {
    of_runs: Vec<Arc<OneShotDriver>>,
    of_sessions: Arc<SessionAgents>,
    acpx: Arc<OneShotDriver>,
}

impl ServiceAgents {
    fn of(config: &Config, spawner: &Spawner) -> anyhow::Result<Self> {
        let versions = profiles::versions(config);
        Ok(Self {
            of_runs: profiles::drivers(config, spawner, &versions)?,
            of_sessions: Arc::new(session_agents::agents(config, spawner, &versions)?),
            acpx: profiles::acpx(config, spawner, &versions)?,
        })
    }

    /// Asks agents for the versions that are not known yet. The service answers meanwhile.
    async fn learn_versions(&self) {
        for driver in self.of_runs.iter().chain([&self.acpx]) {
            if driver.locate().is_ok()
                && let Err(error) = driver.refresh_version().await
            {
                tracing::warn!(agent.name = %driver.profile().name, %error, "an agent did not tell its version");
            }
        }
    }
}

async fn start_engine(
    config: &Config,
    opened: &Opened,
    spawner: Spawner,
    ids: Ids,
    agents: &ServiceAgents,
    admin: &admin_token::AdminToken,
    standing: &Standing,
) -> anyhow::Result<(Engine, RecoveryReport)> {
    let (isolation, users) = (standing.level, isolation::users(config)?);
    let dynamic = agents.of_runs.iter().map(|driver| Arc::clone(driver) as Arc<dyn AgentDriver>);
    let parts = Parts {
        store: opened.store.clone(),
        agents: Arc::new(Agents::new(profiles::default_agent(config)?, dynamic)?),
        session_agents: Arc::clone(&agents.of_sessions),
        acpx: Arc::clone(&agents.acpx) as Arc<dyn AgentDriver>,
        spawner,
        ids,
        operator: TokenHash::of(admin.secret.expose_secret()),
        options: EngineOptions {
            data_dir: config.data_dir.clone(),
            isolation,
            users,
            agent_home: config.agent_home,
            slots: config.slots,
            queue_max: config.queue_max,
            queue_per_app_max: config.queue_per_app_max,
            queue_wait_max: config.queue_wait_max,
            silence_max: config.silence_max,
            kill_grace: config.kill_grace,
            workspace_bytes_max: isolation::workspace_bytes_max(config),
            upload_bytes_max: config.upload_max_bytes,
            event_gather: EVENT_GATHER,
            session_warm_max: config.session_warm,
            session_warm_up: config.session_warm_up,
            sessions_per_process: config.sessions_per_process,
            session_ttl: config.session_ttl,
            session_hard_ttl: config.session_hard_ttl,
            run_retention: config.run_retention,
            ledger_retention: config.ledger_retention,
            sweep_interval: config.sweep_interval,
        },
    };
    Engine::start(parts).await.map_err(|error| anyhow::anyhow!("the service cannot start: {}", error.for_operator()))
}

fn database_options(config: &Config) -> SqliteOptions {
    let without_locks = config.start_despite.contains(&Risk::NoLocks);
    SqliteOptions { without_locks, ..SqliteOptions::at(config.data_dir.join(DATABASE)) }
}

fn server_options(config: &Config, admin: &admin_token::AdminToken) -> ServerOptions {
    ServerOptions {
        allow_cidrs: config.allow_cidrs.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        allowed_hosts: config.allowed_hosts.clone(),
        sign_in_failures_max: u32::try_from(config.sign_in_failures_max).unwrap_or(u32::MAX),
        admin_token_guessable: admin.is_guessable(),
        default_model: profiles::default_model(config),
        default_timeout: config.default_timeout,
        timeout_max: config.timeout_max,
    }
}

/// Waits for a reason to stop, then stops: no new work, then the work, then the connections.
async fn until_stopped(
    engine: &Engine,
    store_broken: impl Future<Output = ()>,
    config: &Config,
    mut signals: signals::Signals,
    stop: CancellationToken,
) -> ExitCode {
    let code = tokio::select! {
        signal = signals.next() => {
            let deadline_secs = config.drain_deadline.as_secs();
            tracing::info!(signal, deadline_secs, "stopping: no new work; running work may finish until the deadline");
            ExitCode::SUCCESS
        }
        () = engine.broken() => {
            tracing::error!("stopping: something broke without which the service cannot go on");
            ExitCode::FAILURE
        }
        () = store_broken => {
            tracing::error!("stopping: the store's writer has ended; see above for why, then start again");
            ExitCode::FAILURE
        }
    };
    engine.stop_taking_work();
    let drain = engine.drain(config.drain_deadline);
    tokio::pin!(drain);
    let report = tokio::select! {
        report = &mut drain => report,
        signal = signals.next() => {
            tracing::warn!(signal, "stopping at once: running work is interrupted");
            engine.interrupt_now();
            drain.await
        }
    };
    if report.interrupted > 0 {
        tracing::warn!(runs = report.interrupted, "runs were interrupted and are recorded as such");
    }
    stop.cancel();
    code
}

fn tell_of_recovery(report: RecoveryReport) {
    if report.processes_left > 0 {
        let left = report.processes_left;
        tracing::error!(process.survivors = left, "processes of the last service could not be ended");
    }
    if report != RecoveryReport::default() {
        tracing::warn!(
            runs.interrupted = report.interrupted,
            process.ended = report.processes_ended,
            strays.removed = report.strays_removed,
            "the last service did not stop in good order; what it left was put right"
        );
    }
}

fn listen_hint(address: SocketAddr) -> String {
    format!("cannot listen on {address}; is another service there? Choose another address with --listen")
}
