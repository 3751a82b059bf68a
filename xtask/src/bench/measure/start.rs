//! From exec to the first `200 /healthz`.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rustix::process::Signal;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::Scene;
use super::http::{Connection, post};
use super::report::{Goal, Table};
use super::samples::{Samples, millis};
use super::service::Service;

/// Apps that ask at once while the data directory is filled; as many as fit a small machine.
const FILLERS: usize = 4;

/// Milliseconds from exec to the first good answer.
const READY_MS_MAX: f64 = 20.0;

/// Starts the service often: on nothing, and on `runs` stored runs after a good and after a bad end.
///
/// # Errors
/// When a service does not start or stop.
pub fn measure(scene: &Scene, client: &Runtime, starts: usize, runs: usize) -> Result<(Table, Vec<Goal>)> {
    let full = scene.folder("full")?;
    let home = scene.folder("home")?;
    let filled = Service::start(&scene.demo(&full, &home), client)?;
    fill(&filled, client, runs)?;
    filled.stop(Signal::TERM)?;

    let mut table =
        Table::new("From exec to the first `200 /healthz`", &["data directory", "median", "min", "max", "starts"]);
    let mut goals = Vec::new();
    let mut tell = |what: String, samples: &Samples| {
        table.row([
            what.clone(),
            millis(samples.median()),
            millis(samples.min()),
            millis(samples.max()),
            samples.count().to_string(),
        ]);
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
    tell(format!("{runs} runs, stopped"), &again(scene, client, &full, &home, starts, Signal::TERM)?);
    tell(format!("{runs} runs, killed"), &again(scene, client, &full, &home, starts, Signal::KILL)?);
    Ok((table, goals))
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

/// Stores runs, through the front door.
fn fill(service: &Service, client: &Runtime, runs: usize) -> Result<()> {
    let token = service.mint(client)?;
    let address = service.address;
    client.block_on(async {
        let mut fillers = JoinSet::new();
        for filler in 0..FILLERS {
            let token = token.clone();
            fillers.spawn(async move {
                let mut connection = Connection::open(address).await?;
                for number in (filler..runs).step_by(FILLERS) {
                    let request = post("/run", &token, &json!({ "prompt": format!("say: this is run {number}") }));
                    connection.ask(&request).await?.expect(200)?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(filled) = fillers.join_next().await {
            filled??;
        }
        Ok(())
    })
}
