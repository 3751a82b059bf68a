//! Requests per second and how long each takes, under many connections at once.
//!
//! A closed loop: each connection sends its next request when it has the answer to the last, so the times
//! are those of a server that is never idle. The generator shares the machine with what it measures; it
//! is one thread, and it is the same for all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::baseline::Baseline;
use super::http::{Connection, get};
use super::report::Table;
use super::samples::{Samples, millis};
use super::service::{ADMIN_TOKEN, Service};

/// Connections at once, as the goal says.
const CONNECTIONS: usize = 64;

/// Rounds: what is compared takes turns, so that a noisy minute hits all.
const ROUNDS: u32 = 3;

/// Somebody who answers, and what to ask.
struct Target {
    name: &'static str,
    address: SocketAddr,
    request: Arc<[u8]>,
    times: Vec<Duration>,
    took: Duration,
}

/// Loads the service and the baseline in turns; `time` is what each of them gets in all.
///
/// # Errors
/// When one of them does not answer with 200.
pub fn measure(service: &Service, client: &Runtime, time: Duration) -> Result<Table> {
    let baseline = Baseline::start(client)?;
    let target = |name, address, request: Vec<u8>| Target {
        name,
        address,
        request: request.into(),
        times: Vec::new(),
        took: Duration::ZERO,
    };
    let mut targets = [
        target("constant JSON from bare axum", baseline.address, Baseline::request()),
        target("`GET /healthz`", service.address, get("/healthz", "")),
        target("`GET /admin/tokens`, authenticated", service.address, get("/admin/tokens", ADMIN_TOKEN)),
    ];
    for _ in 0..ROUNDS {
        for target in &mut targets {
            let began = Instant::now();
            target.times.extend(client.block_on(load(target.address, &target.request, time / ROUNDS))?);
            target.took += began.elapsed();
        }
    }

    let mut table = Table::new(
        &format!("Throughput under {CONNECTIONS} kept-alive connections"),
        &["what", "requests/s", "of the baseline", "p50", "p99", "requests"],
    );
    let rate = |target: &Target| target.times.len() as f64 / target.took.as_secs_f64();
    let base = rate(&targets[0]);
    for target in targets {
        let (rate, samples) = (rate(&target), Samples::new(target.times));
        table.row([
            target.name.to_owned(),
            format!("{rate:.0}"),
            format!("{:.0} %", 100.0 * rate / base),
            millis(samples.median()),
            millis(samples.quantile(0.99)),
            samples.count().to_string(),
        ]);
    }
    Ok(table)
}

/// All connections, until the time is over; how long each request took.
async fn load(address: SocketAddr, request: &Arc<[u8]>, time: Duration) -> Result<Vec<Duration>> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(address).await?);
    }
    let until = Instant::now() + time;
    let mut asking = JoinSet::new();
    for connection in connections {
        asking.spawn(ask_until(until, connection, Arc::clone(request)));
    }
    let mut times = Vec::new();
    while let Some(asked) = asking.join_next().await {
        times.extend(asked??);
    }
    Ok(times)
}

async fn ask_until(until: Instant, mut connection: Connection, request: Arc<[u8]>) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    loop {
        let began = Instant::now();
        if began >= until {
            return Ok(times);
        }
        connection.ask(&request).await?.expect(200)?;
        times.push(began.elapsed());
    }
}
