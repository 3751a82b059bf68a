//! What an idle service holds, before and after load.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use tokio::runtime::Runtime;

use super::Scene;
use super::fill::Stored;
use super::load;
use super::report::{Goal, Table, as_megabytes};
use super::service::{Memory, Service};

/// After this long an idle service has done all it does at its start.
const SETTLE: Duration = Duration::from_secs(2);

/// Megabytes of an idle service.
const RESIDENT_MB_MAX: f64 = 15.0;

/// Looks at a service after its start and after the load, and loads it in between; what it held, and what
/// it served.
///
/// # Errors
/// When the service fails.
pub fn measure(scene: &Scene, client: &Runtime, stored: &Stored, time: Duration) -> Result<([Table; 2], Goal)> {
    let (data, home) = (scene.folder("idle")?, scene.folder("home")?);
    let service = Service::start(&scene.plain(&data, &home), client)?;
    std::thread::sleep(SETTLE);
    let idle = service.memory()?;
    let served = load::measure(&service, client, time)?;
    std::thread::sleep(SETTLE);
    let after = service.memory()?;
    service.stop(Signal::TERM)?;

    let mut table = Table::new("Memory", &["when", "resident (RSS)", "proportional (PSS)", "anonymous"]);
    let mut row = |when: &str, memory: Memory| {
        let shown = |bytes| format!("{:.1} MB", as_megabytes(bytes));
        table.row([when.to_owned(), shown(memory.resident), shown(memory.proportional), shown(memory.anonymous)]);
    };
    row(&format!("idle, {} s after the start", SETTLE.as_secs()), idle);
    row(&format!("idle, {} s after the load below", SETTLE.as_secs()), after);
    row(&format!("another service, after {} runs with the demo agent", stored.runs), stored.memory);
    Ok(([table, served], Goal::megabytes("memory of an idle service (RSS)", RESIDENT_MB_MAX, idle.resident)))
}
