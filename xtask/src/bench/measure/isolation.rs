//! What the sandbox costs: two services beside each other, one as it comes and one without isolation, asked in turns.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use tokio::runtime::Runtime;

use super::Scene;
use super::http::{Connection, post};
use super::report::{Goal, Table};
use super::runs::{MODEL, PROMPT, wait_until_gone};
use super::samples::{Samples, difference_ms, millis};
use super::service::Service;
use super::sessions::Caller;

/// Milliseconds that the sandbox may add to the start of an agent, at the median.
const START_MS_MAX: f64 = 5.0;

/// Turns before the clock counts; as for every warm turn, the log of the database goes round by then.
const WARM_UP: usize = 150;

/// What a service without isolation has in its configuration.
const OFF: &str = "isolation_mode = \"off\"\nisolation_require = \"off\"\nisolation_off_as_root = true\n";

/// How often.
pub struct Effort {
    /// Runs, each of which starts an agent.
    pub runs: usize,
    /// Turns of a warm session.
    pub turns: usize,
}

/// A service, and an app of it with a session.
struct Side {
    service: Service,
    data: PathBuf,
    caller: Caller,
    session: String,
    run: Vec<u8>,
}

impl Side {
    fn start(scene: &Scene, client: &Runtime, name: &str, options: &str) -> Result<Self> {
        let (data, home) = (scene.folder(name)?, scene.folder(&format!("{name}-home"))?);
        let service = Service::start(&scene.demo(&data, &home).with(options), client)?;
        let token = service.mint(client)?;
        let run = post("/run", &token, &json!({ "prompt": PROMPT, "model": MODEL }));
        let (caller, session) = client.block_on(async {
            let mut caller = Caller::new(service.address, &token).await?;
            let session = caller.open().await?;
            anyhow::Ok((caller, session))
        })?;
        Ok(Self { service, data, caller, session, run })
    }

    /// One run to its answer; what is left of it is gone when this returns.
    fn run(&mut self, client: &Runtime) -> Result<Duration> {
        let (address, request) = (self.service.address, &self.run);
        let began = std::time::Instant::now();
        client.block_on(async { Connection::open(address).await?.ask(request).await?.expect(200) })?;
        let took = began.elapsed();
        wait_until_gone(&self.data)?;
        Ok(took)
    }

    fn turn(&mut self, client: &Runtime) -> Result<Duration> {
        let (took, reply) = client.block_on(self.caller.turn(&self.session, PROMPT))?;
        ensure!(reply["ok"] == true, "a turn that failed: {reply}");
        Ok(took)
    }

    fn stop(self) -> Result<()> {
        self.service.stop(Signal::TERM)?;
        fs::remove_dir_all(&self.data).context("the data directory")
    }
}

/// Measures starts and warm turns with and without.
///
/// # Errors
/// When a service or an agent fails.
pub fn measure(scene: &Scene, client: &Runtime, effort: &Effort) -> Result<(Table, Vec<Goal>)> {
    let mut sides = [Side::start(scene, client, "confined", "")?, Side::start(scene, client, "unconfined", OFF)?];
    let [confined_runs, plain_runs] = in_turns(&mut sides, 2, effort.runs, |side| side.run(client))?;
    let [confined_turns, plain_turns] = in_turns(&mut sides, WARM_UP, effort.turns, |side| side.turn(client))?;
    for side in sides {
        side.stop()?;
    }

    let mut table =
        Table::new("The sandbox", &["what", "with it", "without", "longer by", "p99 with it", "p99 without", "times"]);
    for (what, with, without) in [
        ("`POST /run` with the demo agent, which starts one process", &confined_runs, &plain_runs),
        ("a warm turn", &confined_turns, &plain_turns),
    ] {
        let longer = format!("{:+.2} ms", difference_ms(with.median(), without.median()));
        let p99 = [with, without].map(|samples| millis(samples.quantile(0.99)));
        let [p99_with, p99_without] = p99;
        let medians = [millis(with.median()), millis(without.median())];
        table.row([what.to_owned()].into_iter().chain(medians).chain([
            longer,
            p99_with,
            p99_without,
            with.count().to_string(),
        ]));
    }
    let added = difference_ms(confined_runs.median(), plain_runs.median());
    Ok((
        table,
        vec![Goal::signed_millis("added to the start of a process by the sandbox, at the median", START_MS_MAX, added)],
    ))
}

/// The times of both sides, who goes first changing from round to round.
fn in_turns(
    sides: &mut [Side; 2],
    warm_up: usize,
    rounds: usize,
    mut once: impl FnMut(&mut Side) -> Result<Duration>,
) -> Result<[Samples; 2]> {
    let mut times = [Vec::with_capacity(rounds), Vec::with_capacity(rounds)];
    for round in 0..warm_up + rounds {
        for place in [round % 2, (round + 1) % 2] {
            let took = once(&mut sides[place])?;
            times[place].extend((round >= warm_up).then_some(took));
        }
    }
    Ok(times.map(Samples::new))
}
