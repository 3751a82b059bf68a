//! What `/run` costs over the bare agent: the same program, the same environment, the same prompt, in turns.
//!
//! The bare agent is timed from just before its start to its end with its output read. `/run` is timed from
//! the first byte of the request to the last of the answer, by which the whole process tree is gone and
//! the outcome is on the disk.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::json;
use tokio::runtime::Runtime;

use super::Scene;
use super::bare::Bare;
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

/// One agent: how the service runs it, and the bare command lines it is compared with, the one the goal
/// speaks of first.
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
pub fn measure(scene: &Scene, contest: &Contest, client: &Runtime, rounds: usize) -> Result<(Table, Goal)> {
    let (data, home) = (scene.folder("contest")?, scene.folder("home")?);
    let setup = if contest.demo { scene.demo(&data, &home) } else { scene.plain(&data, &home) };
    let service = Service::start(&setup, client)?;
    let token = service.mint(client)?;
    let request = post("/run", &token, &json!({ "prompt": PROMPT, "model": MODEL }));
    let mut connection = client.block_on(Connection::open(service.address))?;
    let mut served = || -> Result<Duration> {
        let began = Instant::now();
        client.block_on(connection.ask(&request))?.expect(200)?;
        Ok(began.elapsed())
    };

    let places = contest.bare.len() + 1;
    let mut times = vec![Vec::with_capacity(rounds); places];
    for round in 0..WARM_UP + rounds {
        // Everybody goes first in turn: whoever does finds the machine as another left it.
        for place in (0..places).map(|place| (place + round) % places) {
            let time = match contest.bare.get(place) {
                Some(bare) => bare.run(PROMPT)?,
                None => served()?,
            };
            if round >= WARM_UP {
                times[place].push(time);
            }
        }
    }
    service.stop(Signal::TERM)?;
    fs::remove_dir_all(&data)?;

    let samples: Vec<Samples> = times.into_iter().map(Samples::new).collect();
    let (served, bare) = samples.split_last().context("the service itself")?;
    let mut table = Table::new(&contest.title, &["what", "median", "min", "max", "`/run` is longer by", "times"]);
    let mut row = |what: &str, samples: &Samples, difference: String| {
        table.row([
            what.to_owned(),
            millis(samples.median()),
            millis(samples.min()),
            millis(samples.max()),
            difference,
            samples.count().to_string(),
        ]);
    };
    let overhead = |bare: &Samples| difference_ms(served.median(), bare.median());
    for (agent, samples) in contest.bare.iter().zip(bare) {
        row(&agent.shown, samples, format!("{:+.2} ms", overhead(samples)));
    }
    row("`POST /run`", served, String::new());
    let (agent, first) = contest.bare.first().zip(bare.first()).context("a bare agent")?;
    let what = format!("`/run` over bare {}, at the median", agent.name);
    Ok((table, Goal::signed_millis(&what, OVERHEAD_MS_MAX, overhead(first))))
}
