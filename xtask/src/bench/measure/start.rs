//! From exec to the first `200 /healthz`; for sandbox-agent, to that of its own route.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rustix::process::Signal;
use tokio::runtime::Runtime;

use super::Scene;
use super::fill::Stored;
use super::report::{Goal, Table};
use super::samples::{Samples, millis};
use super::sandbox_agent::{HEALTH, SandboxAgent};
use super::service::Service;

/// Milliseconds from exec to the first good answer.
const READY_MS_MAX: f64 = 20.0;

/// Starts the service often: on nothing, and on stored runs after a good and after a bad end.
///
/// # Errors
/// When a service does not start or stop.
pub fn measure(scene: &Scene, client: &Runtime, stored: &Stored, starts: usize) -> Result<(Table, Vec<Goal>)> {
    let home = scene.folder("home")?;
    let mut table =
        Table::new("From exec to the first `200 /healthz`", &["data directory", "median", "min", "max", "starts"]);
    let mut goals = Vec::new();
    let mut tell = |what: String, samples: &Samples| {
        table.row(row(what.clone(), samples));
        goals.push(Goal::millis(&format!("exec to the first 200, {what}"), READY_MS_MAX, samples.median()));
    };
    let empty = || -> Result<_> {
        let data = scene.folder("empty")?;
        let service = Service::start(&scene.plain(&data, &home), client)?;
        let ready_in = service.ready_in;
        service.stop(Signal::TERM)?;
        fs::remove_dir_all(&data)?;
        Ok(ready_in)
    };
    let times: Result<_> = (0..starts).map(|_| empty()).collect();
    tell("fresh".to_owned(), &Samples::new(times?));
    for (end, signal) in [("stopped", Signal::TERM), ("killed", Signal::KILL)] {
        let what = format!("{} runs, {end} before", stored.runs);
        tell(what, &again(scene, client, &stored.data_dir, &home, starts, signal)?);
    }
    let theirs = || -> Result<_> {
        let peer = SandboxAgent::start(scene, client)?;
        let ready_in = peer.ready_in;
        peer.stop(client)?;
        Ok(ready_in)
    };
    let times: Result<_> = (0..starts).map(|_| theirs()).collect();
    table.row(row(format!("sandbox-agent, fresh, to `{HEALTH}`"), &Samples::new(times?)));
    Ok((table, goals))
}

fn row(what: String, samples: &Samples) -> [String; 5] {
    let [median, min, max] = [samples.median(), samples.min(), samples.max()].map(millis);
    [what, median, min, max, samples.count().to_string()]
}

fn again(scene: &Scene, client: &Runtime, data: &Path, home: &Path, starts: usize, signal: Signal) -> Result<Samples> {
    let mut times = Vec::with_capacity(starts);
    // The first only leaves the directory as this signal leaves it.
    for counted in std::iter::once(false).chain(std::iter::repeat_n(true, starts)) {
        let service = Service::start(&scene.plain(data, home), client)?;
        times.extend(counted.then_some(service.ready_in));
        service.stop(signal)?;
    }
    Ok(Samples::new(times))
}
