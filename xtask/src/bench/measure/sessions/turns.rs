//! One session: opening it, turns on a warm agent beside the same agent without the service, and turns that
//! have to start it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use super::super::report::{Goal, Table};
use super::super::samples::{Samples, difference_ms, millis};
use super::super::sandbox_agent::{Conversation, SandboxAgent};
use super::super::service::Service;
use super::direct::Direct;
use super::{Caller, Effort, PROMPT};
use crate::bench::measure::Scene;

/// Milliseconds of a warm turn over the same turn without us, at the median.
const ADDED_MS_MAX: f64 = 1.0;

/// The same for all but one turn of a hundred.
const ADDED_P99_MS_MAX: f64 = 5.0;

/// Turns before the clock counts. A fresh database takes longer: its log still grows, and every flush of a file that
/// grows writes its length as well. From 1,000 pages on, which is about as many turns, it goes round.
const WARM_UP: usize = 150;

/// How long an agent may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures warm turns, then cold ones.
///
/// # Errors
/// When the service or the agent fails.
pub fn measure(scene: &Scene, client: &Runtime, effort: &Effort) -> Result<([Table; 2], Vec<Goal>)> {
    let (warm, goals) = warm(scene, client, effort)?;
    Ok(([warm, cold(scene, client, effort)?], goals))
}

fn warm(scene: &Scene, client: &Runtime, effort: &Effort) -> Result<(Table, Vec<Goal>)> {
    let (data, home) = (scene.folder("sessions")?, scene.folder("home")?);
    let service = Service::start(&scene.demo(&data, &home), client)?;
    let token = service.mint(client)?;
    let mut caller = client.block_on(Caller::new(service.address, &token))?;
    let session = client.block_on(caller.open())?;
    let (mut direct, _) = Direct::start(&home, &scene.folder("direct")?)?;
    let peer = SandboxAgent::start(scene, client)?;
    let (mut relayed, _) = client.block_on(Conversation::open(&peer, "warm"))?;

    let mut times = [const { Vec::new() }; 3];
    for round in 0..WARM_UP + effort.turns {
        // Who goes first finds the machine as the others left it.
        for place in 0..times.len() {
            let who = (round + place) % times.len();
            let took = match who {
                0 => direct.turn(PROMPT)?.0,
                1 => client.block_on(relayed.turn(PROMPT))?,
                _ => {
                    let (took, reply) = client.block_on(caller.turn(&session, PROMPT))?;
                    ensure!(round == 0 || reply["context"] == "warm", "a turn that was not warm: {reply}");
                    took
                }
            };
            times[who].extend((round >= WARM_UP).then_some(took));
        }
    }
    drop(direct);
    peer.stop(client)?;
    service.stop(Signal::TERM)?;
    fs::remove_dir_all(&data)?;

    let [bare, relayed, served] = times.map(Samples::new);
    let mut table = Table::new(
        "A warm turn over the same agent without us",
        &["what", "median", "p99", "min", "max", "added at the median", "added at p99", "turns"],
    );
    // What is added to a turn is what it takes more than the usual turn without us.
    let added = |samples: &Samples, quantile| difference_ms(samples.quantile(quantile), bare.median());
    for (what, samples) in [
        ("the agent over its pipes", &bare),
        ("`POST /sessions/{id}/turn`, kept-alive", &served),
        ("sandbox-agent, kept-alive; nothing on disk", &relayed),
    ] {
        let times = [samples.median(), samples.quantile(0.99), samples.min(), samples.max()].map(millis);
        let is_bare = std::ptr::eq(samples, &bare);
        let shown = |quantile| if is_bare { String::new() } else { format!("{:+.2} ms", added(samples, quantile)) };
        table.row(std::iter::once(what.to_owned()).chain(times).chain([
            shown(0.5),
            shown(0.99),
            samples.count().to_string(),
        ]));
    }
    let goals = vec![
        Goal::signed_millis("added to a warm turn, durable, at the median", ADDED_MS_MAX, added(&served, 0.5)),
        Goal::signed_millis("added to a warm turn, durable, at p99", ADDED_P99_MS_MAX, added(&served, 0.99)),
    ];
    Ok((table, goals))
}

/// Sessions whose agent is let go of as soon as a turn is over.
fn cold(scene: &Scene, client: &Runtime, effort: &Effort) -> Result<Table> {
    let (data, home) = (scene.folder("sessions")?, scene.folder("home")?);
    let service = Service::start(&scene.demo(&data, &home).with("session_warm_secs = 0\n"), client)?;
    let token = service.mint(client)?;
    let (mut opened, mut first, mut resumed, mut starts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    client.block_on(async {
        let mut caller = Caller::new(service.address, &token).await?;
        for _ in 0..effort.cold_turns {
            let began = Instant::now();
            let session = caller.open().await?;
            opened.push(began.elapsed());
            for (times, context) in [(&mut first, "new"), (&mut resumed, "resumed")] {
                let (took, reply) = caller.turn(&session, PROMPT).await?;
                ensure!(reply["context"] == context, "a turn that was not {context}: {reply}");
                times.push(took);
                let began = Instant::now();
                while caller.is_warm(&session).await? {
                    ensure!(began.elapsed() < PATIENCE, "an agent that was let go of stays");
                }
            }
        }
        anyhow::Ok(())
    })?;
    service.stop(Signal::TERM)?;
    fs::remove_dir_all(&data)?;
    let place = scene.folder("direct")?;
    for _ in 0..effort.cold_turns {
        starts.push(Direct::start(&home, &place)?.1);
    }
    let peer = SandboxAgent::start(scene, client)?;
    let relayed =
        (0..effort.cold_turns).map(|round| Ok(client.block_on(Conversation::open(&peer, &format!("cold-{round}")))?.1));
    let relayed = relayed.collect::<Result<_>>()?;
    peer.stop(client)?;

    let mut table = Table::new("A session without its agent", &["what", "median", "min", "max", "times"]);
    for (what, times) in [
        ("`POST /sessions`: opened, durable", opened),
        ("its first turn, which starts the agent", first),
        ("a turn after its agent was let go of, which starts one and resumes", resumed),
        ("the agent alone: started, initialised, a conversation opened", starts),
        ("the same by sandbox-agent, over HTTP", relayed),
    ] {
        let samples = Samples::new(times);
        let times = [samples.median(), samples.min(), samples.max()].map(millis);
        table.row(std::iter::once(what.to_owned()).chain(times).chain([samples.count().to_string()]));
    }
    Ok(table)
}
