//! A data directory with a past: runs that went through the front door and the demo agent.

use std::path::PathBuf;

use anyhow::Result;
use rustix::process::Signal;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::Scene;
use super::http::{Connection, post};
use super::process::Memory;
use super::service::Service;

/// Connections that ask at once; as many as fit a small machine.
const FILLERS: usize = 4;

/// What is left of it.
pub struct Stored {
    /// The data directory of a service that was stopped.
    pub data_dir: PathBuf,
    /// The runs in it.
    pub runs: usize,
    /// What the service held when all of them were over.
    pub memory: Memory,
}

/// Has a service do this many runs, and stops it.
///
/// # Errors
/// When a run fails.
pub fn fill(scene: &Scene, client: &Runtime, runs: usize) -> Result<Stored> {
    let (data_dir, home) = (scene.folder("full")?, scene.folder("home")?);
    let service = Service::start(&scene.demo(&data_dir, &home), client)?;
    store(&service, client, runs)?;
    let memory = service.memory()?;
    service.stop(Signal::TERM)?;
    Ok(Stored { data_dir, runs, memory })
}

fn store(service: &Service, client: &Runtime, runs: usize) -> Result<()> {
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
