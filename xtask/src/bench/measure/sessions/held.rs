//! What sessions cost that nobody is using right now: memory, and time at the next start.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::super::process::Memory;
use super::super::report::{Goal, Table, as_kilobytes, as_megabytes};
use super::super::samples::{Samples, millis};
use super::super::service::Service;
use super::{Caller, Effort, PROMPT};
use crate::bench::measure::Scene;

/// Connections that open sessions at once: group commits make it fast.
const OPENERS: usize = 64;

/// Milliseconds from exec to ready with all sessions open.
const READY_MS_MAX: f64 = 1_000.0;

/// Opens many sessions, starts on them over and over, then warms some of another service.
///
/// # Errors
/// When the service fails.
pub fn measure(scene: &Scene, client: &Runtime, effort: &Effort) -> Result<(Vec<Table>, Vec<Goal>)> {
    let (data, home) = (scene.folder("open")?, scene.folder("home")?);
    let mut memory = Table::new(
        "Memory of open sessions, the service's own",
        &["what", "RSS without", "anonymous", "RSS with", "anonymous", "RSS for each", "anonymous", "sessions"],
    );
    let mut row = |what: &str, before: Memory, after: Memory, count: usize| {
        let shown = |bytes| format!("{:.1} MB", as_megabytes(bytes));
        let each = |after: u64, before: u64| format!("{:.2} kB", as_kilobytes(after, before) / count as f64);
        memory.row([
            what.to_owned(),
            shown(before.resident),
            shown(before.anonymous),
            shown(after.resident),
            shown(after.anonymous),
            each(after.resident, before.resident),
            each(after.anonymous, before.anonymous),
            count.to_string(),
        ]);
    };

    let service = Service::start(&scene.demo(&data, &home), client)?;
    let token = service.mint(client)?;
    let fresh = service.memory()?;
    // The first ones touch what a service has not needed yet, which is not theirs.
    client.block_on(open(&service, &token, OPENERS))?;
    let few = service.memory()?;
    client.block_on(open(&service, &token, effort.open))?;
    row("open and idle, in the service that opened them", few, service.memory()?, effort.open);
    service.stop(Signal::TERM)?;

    let mut starts = Table::new(
        "From exec to ready, with open sessions",
        &["sessions", "ended before by", "`/healthz`, median", "`/readyz`, median", "`/readyz`, max", "starts"],
    );
    let mut goals = Vec::new();
    let open = effort.open + OPENERS;
    for (end, signal) in [("SIGTERM", Signal::TERM), ("SIGKILL", Signal::KILL)] {
        let (well, ready) = again(scene, client, &data, &home, effort.starts, signal)?;
        starts.row([
            open.to_string(),
            end.to_owned(),
            millis(well.median()),
            millis(ready.median()),
            millis(ready.max()),
            ready.count().to_string(),
        ]);
        let what = format!("exec to ready, {open} open sessions, after {end}");
        goals.push(Goal::millis(&what, READY_MS_MAX, ready.median()));
    }
    let service = Service::start(&scene.demo(&data, &home), client)?;
    row("open and idle, in a service just started on them", fresh, service.memory()?, open);
    service.stop(Signal::TERM)?;
    fs::remove_dir_all(&data)?;

    let (one, all) = warm(scene, client, effort.warm)?;
    row("warm, their agents not counted", one, all, effort.warm);
    Ok((vec![memory, starts], goals))
}

async fn open(service: &Service, token: &str, count: usize) -> Result<()> {
    let mut openers = JoinSet::new();
    for opener in 0..OPENERS {
        let mut caller = Caller::new(service.address, token).await?;
        openers.spawn(async move {
            for _ in (opener..count).step_by(OPENERS) {
                caller.open().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(opener) = openers.join_next().await {
        opener??;
    }
    Ok(())
}

/// The time to the first good answer of `/healthz`, and to that of `/readyz`.
fn again(
    scene: &Scene,
    client: &Runtime,
    data: &Path,
    home: &Path,
    starts: usize,
    signal: Signal,
) -> Result<(Samples, Samples)> {
    let (mut well, mut ready) = (Vec::with_capacity(starts), Vec::with_capacity(starts));
    // The first only leaves the directory as this signal leaves it.
    for counted in std::iter::once(false).chain(std::iter::repeat_n(true, starts)) {
        let service = Service::start(&scene.demo(data, home), client)?;
        let admits_in = service.wait_until_ready(client)?;
        well.extend(counted.then_some(service.ready_in));
        ready.extend(counted.then_some(admits_in));
        service.stop(signal)?;
    }
    Ok((Samples::new(well), Samples::new(ready)))
}

/// What a service holds with one warm session, and with as many more.
fn warm(scene: &Scene, client: &Runtime, count: usize) -> Result<(Memory, Memory)> {
    let (data, home) = (scene.folder("warm")?, scene.folder("home")?);
    // One for the first session, and the last is never given to sessions of one app.
    let slots = format!("slots = {}\n", count + 2);
    let service = Service::start(&scene.demo(&data, &home).with(&slots), client)?;
    let token = service.mint(client)?;
    let mut caller = client.block_on(Caller::new(service.address, &token))?;
    let mut sessions = Vec::new();
    let mut warm_up = |caller: &mut Caller, count: usize| -> Result<Memory> {
        for _ in 0..count {
            let session = client.block_on(caller.open())?;
            client.block_on(caller.turn(&session, PROMPT))?;
            sessions.push(session);
        }
        for session in &sessions {
            ensure!(client.block_on(caller.is_warm(session))?, "a session that should be warm is not");
        }
        service.memory()
    };
    let one = warm_up(&mut caller, 1)?;
    let all = warm_up(&mut caller, count)?;
    service.stop(Signal::TERM)?;
    fs::remove_dir_all(&data)?;
    Ok((one, all))
}
