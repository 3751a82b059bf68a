//! Events of agents that flood: through the log, which is durable, to the caller that follows it to its end.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::super::report::{Goal, Table};
use super::super::service::Service;
use super::direct::Direct;
use super::{Caller, Effort, PROMPT, store};
use crate::bench::measure::Scene;

/// Events per second, durable and read back, on two cores.
const EVENTS_PER_SECOND_MIN: f64 = 50_000.0;

/// Sessions that flood at once.
const AT_ONCE: [usize; 3] = [1, 4, 8];

/// How many events went through in what time.
#[derive(Default, Clone, Copy)]
pub(super) struct Flow {
    pub(super) events: usize,
    pub(super) time: Duration,
}

impl Flow {
    fn per_second(self) -> f64 {
        self.events as f64 / self.time.as_secs_f64()
    }
}

/// Lets agents flood the service, one of them nobody but a reader, and the store be written to by nobody else.
///
/// # Errors
/// When an event is missing.
pub fn measure(scene: &Scene, client: &Runtime, effort: &Effort) -> Result<(Table, Vec<Goal>)> {
    let mut table = Table::new("Events per second", &["what", "sessions at once", "events/s", "events"]);
    let mut row = |what: &str, at_once: usize, flow: Flow| {
        let cells = [at_once.to_string(), format!("{:.0}", flow.per_second()), flow.events.to_string()];
        table.row(std::iter::once(what.to_owned()).chain(cells));
    };
    // Each call and its result is an event, and nothing joins them.
    let prompt = "use tool: Read {}\n".repeat(effort.tool_calls);

    let mut direct = Direct::start(&scene.folder("home")?, &scene.folder("direct")?)?.0;
    let mut alone = Flow::default();
    for _ in 0..effort.floods {
        let (time, events) = direct.turn(&prompt)?;
        alone.time += time;
        alone.events += events;
    }
    drop(direct);
    row("the agent alone, its lines parsed", 1, alone);

    let (data, home) = (scene.folder("events")?, scene.folder("home")?);
    let service = Service::start(&scene.demo(&data, &home), client)?;
    let token = service.mint(client)?;
    let mut best = 0.0_f64;
    for at_once in AT_ONCE {
        let mut flow = Flow::default();
        let mut sessions = Vec::new();
        for _ in 0..at_once {
            let mut caller = client.block_on(Caller::new(service.address, &token))?;
            let session = client.block_on(caller.open())?;
            client.block_on(caller.turn(&session, PROMPT))?;
            sessions.push((caller, session));
        }
        for _ in 0..effort.floods {
            let began = Instant::now();
            sessions = client.block_on(flood(sessions, &prompt, effort.tool_calls))?;
            flow.time += began.elapsed();
            flow.events += 2 * effort.tool_calls * at_once;
        }
        row("through the service: durable, and read back by the waiting callers", at_once, flow);
        best = best.max(flow.per_second());
    }
    service.stop(Signal::TERM)?;
    fs::remove_dir_all(&data)?;

    let batches = AT_ONCE.last().copied().context("some are measured")?;
    for at_once in [1, batches] {
        let flow = client.block_on(store::measure(&scene.folder("store")?, at_once, effort))?;
        row("into the store alone: durable, in groups as the service makes them", at_once, flow);
    }
    let goal = Goal::rate("events per second through log and follower, durable", EVENTS_PER_SECOND_MIN, best);
    Ok((table, vec![goal]))
}

/// One turn in each of the sessions, at once. All their calls must be in the replies.
async fn flood(sessions: Vec<(Caller, String)>, prompt: &str, calls: usize) -> Result<Vec<(Caller, String)>> {
    let mut turns = JoinSet::new();
    for (mut caller, session) in sessions {
        let prompt = prompt.to_owned();
        turns.spawn(async move {
            let (_, reply) = caller.turn(&session, &prompt).await?;
            let told = reply["events"].as_array().context("a reply with events")?;
            // A call stands in the reply with its result.
            let whole = told.iter().filter(|event| event["type"] == "tool_call" && event["result"] == "done");
            ensure!(whole.count() == calls, "{} of {calls} calls are in the reply", told.len());
            Ok((caller, session))
        });
    }
    let mut back = Vec::new();
    while let Some(turn) = turns.join_next().await {
        back.push(turn??);
    }
    Ok(back)
}
