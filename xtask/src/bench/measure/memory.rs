//! What an idle service holds, before and after load.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use tokio::runtime::Runtime;

use super::Scene;
use super::fill::Stored;
use super::load;
use super::process::{Memory, SETTLE};
use super::report::{Goal, Table, as_megabytes};
use super::sandbox_agent::SandboxAgent;
use super::service::Service;

/// Megabytes of an idle service.
const RESIDENT_MB_MAX: f64 = 15.0;

/// Looks at a service after its start and after the load, and loads it in between; what it held, and what
/// it served.
///
/// # Errors
/// When the service fails.
pub fn measure(scene: &Scene, client: &Runtime, stored: &Stored, time: Duration) -> Result<([Table; 2], Vec<Goal>)> {
    let (data, home) = (scene.folder("idle")?, scene.folder("home")?);
    let service = Service::start(&scene.plain(&data, &home), client)?;
    let idle = service.memory()?;
    let served = load::measure(&service, client, time)?;
    let after = service.memory()?;
    service.stop(Signal::TERM)?;

    let mut table =
        Table::new("Memory of an idle service", &["when", "resident (RSS)", "proportional (PSS)", "anonymous"]);
    let settled = SETTLE.as_secs();
    let mut goals = Vec::new();
    let shown = |bytes| format!("{:.1} MB", as_megabytes(bytes));
    let row =
        |when, memory: Memory| [when, shown(memory.resident), shown(memory.proportional), shown(memory.anonymous)];
    for (when, memory) in [
        (format!("{settled} s after the start"), idle),
        (format!("{settled} s after the load"), after),
        (format!("another service, {settled} s after {} runs with the demo agent", stored.runs), stored.memory),
    ] {
        let what = format!("memory (RSS), {when}");
        goals.push(Goal::megabytes(&what, RESIDENT_MB_MAX, memory.resident));
        table.row(row(when, memory));
    }
    let peer = SandboxAgent::start(scene, client)?;
    table.row(row(format!("sandbox-agent, {settled} s after the start"), peer.memory()?));
    peer.stop(client)?;
    Ok(([table, served], goals))
}
