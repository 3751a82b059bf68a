//! Many callers of several apps at once, with one turn each, over fewer slots.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::super::report::Table;
use super::super::samples::{Samples, millis};
use super::super::service::Service;
use super::direct::Direct;
use super::{Caller, Effort, PROMPT};
use crate::bench::measure::Scene;

/// Agents at once, as the goal says.
const SLOTS: usize = 64;

/// Apps that share them.
const APPS: usize = 8;

/// Starts of the agent alone, for comparison.
const STARTS: usize = 20;

/// Lets all callers come at once; each must be answered.
///
/// # Errors
/// When one is not.
pub fn measure(scene: &Scene, client: &Runtime, effort: &Effort) -> Result<Table> {
    let (data, home) = (scene.folder("crowd")?, scene.folder("home")?);
    let callers = effort.crowd;
    let options = format!("slots = {SLOTS}\nqueue_max = {callers}\nqueue_per_app_max = {callers}\n");
    let service = Service::start(&scene.demo(&data, &home).with(&options), client)?;
    let mut tokens = Vec::new();
    for app in 0..APPS {
        tokens.push(service.mint_as(client, &format!("bench-{app}"))?);
    }
    let (took, times) = client.block_on(async {
        let mut sessions = Vec::with_capacity(callers);
        for place in 0..callers {
            let mut caller = Caller::new(service.address, &tokens[place % APPS]).await?;
            let session = caller.open().await?;
            sessions.push((caller, session));
        }
        let began = Instant::now();
        let mut turns = JoinSet::new();
        for (mut caller, session) in sessions {
            turns.spawn(async move {
                let (took, reply) = caller.turn(&session, PROMPT).await?;
                ensure!(reply["context"] == "new", "a first turn is new: {reply}");
                Ok(took)
            });
        }
        let mut times: Vec<Duration> = Vec::with_capacity(callers);
        while let Some(turn) = turns.join_next().await {
            times.push(turn??);
        }
        anyhow::Ok((began.elapsed(), times))
    })?;
    service.stop(Signal::TERM)?;
    fs::remove_dir_all(&data)?;

    let place = scene.folder("direct")?;
    let starts: Result<Vec<_>> = (0..STARTS).map(|_| Ok(Direct::start(&home, &place)?.1)).collect();
    let (times, start) = (Samples::new(times), Samples::new(starts?).median());
    let mut table = Table::new(
        &format!("{callers} callers of {APPS} apps at once, one turn each in a session of its own, over {SLOTS} slots"),
        &["answered", "all answered after", "turns/s", "p50", "p99", "max", "one agent alone, started and opened"],
    );
    table.row([
        times.count().to_string(),
        millis(took),
        format!("{:.0}", times.count() as f64 / took.as_secs_f64()),
        millis(times.median()),
        millis(times.quantile(0.99)),
        millis(times.max()),
        millis(start),
    ]);
    Ok(table)
}
