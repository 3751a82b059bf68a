//! What `/run` costs over the bare agent: the same program, the same environment, the same prompt, in turns.
//!
//! A bare agent is timed from just before its start, to its result and to its end: whoever calls it waits for
//! the end, while the service answers as soon as the result is on the disk and sees the process off behind
//! the answer. `/run` is timed from the first byte of the request to the last of the answer. Nobody starts before
//! what the one before left is gone.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use tokio::runtime::Runtime;

use super::Scene;
use super::bare::{Bare, Took};
use super::http::{Connection, post};
use super::report::{Goal, Table};
use super::samples::{Samples, difference_ms, millis};
use super::service::Service;

/// The model that is asked for.
pub const MODEL: &str = "sonnet";

/// What is asked. The demo agent obeys it, a model may answer what it likes.
pub const PROMPT: &str = "say: The quick brown fox jumps over the lazy dog.";

/// Runs before the clock counts.
const WARM_UP: usize = 2;

/// Milliseconds of `/run` over the bare agent, at the median.
const OVERHEAD_MS_MAX: f64 = 10.0;

/// Which of the times of a bare agent is meant.
type Moment = fn(&Took) -> Duration;

/// How long the agents of an answered run may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// One agent: how the service runs it, and the bare command lines it is compared with: first what somebody
/// without the service would call, last what our driver calls. They may be the same.
pub struct Contest {
    /// What the table is called.
    pub title: String,
    /// Whether the service has the demo agent as its default, and not claude.
    pub demo: bool,
    /// The agent without the service.
    pub bare: Vec<Bare>,
}

/// Runs all of them in turns, `rounds` times.
///
/// # Errors
/// When the service or an agent fails.
pub fn measure(scene: &Scene, contest: &Contest, client: &Runtime, rounds: usize) -> Result<(Table, Vec<Goal>)> {
    let (data, home) = (scene.folder("contest")?, scene.folder("home")?);
    let setup = if contest.demo { scene.demo(&data, &home) } else { scene.plain(&data, &home) };
    let service = Service::start(&setup, client)?;
    let token = service.mint(client)?;
    let request = post("/run", &token, &json!({ "prompt": PROMPT, "model": MODEL }));
    let mut connection = client.block_on(Connection::open(service.address))?;
    let mut serve = || -> Result<Duration> {
        let began = Instant::now();
        client.block_on(connection.ask(&request))?.expect(200)?;
        let took = began.elapsed();
        wait_until_gone(&data)?;
        Ok(took)
    };

    let mut bare: Vec<Vec<Took>> = vec![Vec::new(); contest.bare.len()];
    let mut served = Vec::new();
    let places = contest.bare.len() + 1;
    for round in 0..WARM_UP + rounds {
        let counts = round >= WARM_UP;
        // Everybody goes first in turn: whoever does finds the machine as another left it.
        for place in (0..places).map(|place| (place + round) % places) {
            match contest.bare.get(place) {
                Some(agent) => {
                    let took = agent.run(PROMPT)?;
                    bare[place].extend(counts.then_some(took));
                }
                None => served.extend(Some(serve()?).filter(|_| counts)),
            }
        }
    }
    service.stop(Signal::TERM)?;
    fs::remove_dir_all(&data)?;
    tell(contest, &bare, &Samples::new(served))
}

fn tell(contest: &Contest, bare: &[Vec<Took>], served: &Samples) -> Result<(Table, Vec<Goal>)> {
    let samples = |took: &[Took], moment: fn(&Took) -> Duration| Samples::new(took.iter().map(moment).collect());
    let overhead = |bare: &Samples| difference_ms(served.median(), bare.median());
    let mut table = Table::new(&contest.title, &["what", "median", "min", "max", "`/run` is longer by", "times"]);
    let mut row = |what: &str, samples: &Samples, difference: String| {
        let times = [samples.median(), samples.min(), samples.max()].map(millis);
        table.row(std::iter::once(what.to_owned()).chain(times).chain([difference, samples.count().to_string()]));
    };
    for (agent, took) in contest.bare.iter().zip(bare) {
        let moments: [(&str, Moment); 2] = [("result", |took| took.result), ("end", |took| took.end)];
        for (moment, time) in moments {
            let samples = samples(took, time);
            row(&format!("{}, to its {moment}", agent.shown), &samples, format!("{:+.2} ms", overhead(&samples)));
        }
    }
    row("`POST /run`, to its answer", served, String::new());

    let (plain, driven) = bare.first().zip(bare.last()).context("a bare agent")?;
    let (agent, ours) = contest.bare.first().zip(contest.bare.last()).context("a bare agent")?;
    let goal = |what: String, samples: &Samples| Goal::signed_millis(&what, OVERHEAD_MS_MAX, overhead(samples));
    Ok((
        table,
        vec![
            goal(format!("`/run` over {}, to its end, at the median", agent.shown), &samples(plain, |took| took.end)),
            goal(format!("`/run` over {}, to its result", ours.shown), &samples(driven, |took| took.result)),
        ],
    ))
}

/// Waits until the service has removed the directory of its last run, the last thing it does for it.
pub fn wait_until_gone(data_dir: &Path) -> Result<()> {
    let runs = data_dir.join("runs");
    let began = Instant::now();
    while fs::read_dir(&runs)?.next().is_some() {
        ensure!(began.elapsed() < PATIENCE, "a run that was answered is not cleared away");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
