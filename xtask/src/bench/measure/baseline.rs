//! What the service is compared with: an axum server that answers everything with one constant.
//!
//! It runs in a process of its own, as the service does, with the same runtime and the same HTTP stack.
//! What is between the two is gates, ids, logs and the answer itself.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::http::header;
use axum::routing::get;
use tokio::runtime::Runtime;

use super::http::{self, Connection};
use super::service::free_address;

/// As long as the service's own answer to `/healthz`.
const ANSWER: &str = r#"{"ok":true,"claude_present":true,"claude_version":"2.1.330 (Claude Code)"}"#;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves until it is killed. What the hidden chore `bench-baseline` does.
///
/// # Errors
/// When the address cannot be listened on.
pub fn serve(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let answer = || async { ([(header::CONTENT_TYPE, "application/json")], ANSWER) };
        let listener = tokio::net::TcpListener::bind(address).await?;
        axum::serve(listener, Router::new().route("/", get(answer))).await?;
        Ok(())
    })
}

/// A running baseline. Killed when dropped.
pub struct Baseline {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Baseline {
    /// Starts this very program as the baseline, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(client: &Runtime) -> Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe().context("this program cannot tell where it is")?);
        command.arg("bench-baseline").arg(address.to_string()).stdin(Stdio::null());
        #[expect(clippy::disallowed_methods, reason = "this program itself, on loopback, killed on drop")]
        let baseline = Self { child: command.spawn().context("could not start the baseline")?, address };
        let began = Instant::now();
        while client.block_on(Connection::open(address)).is_err() {
            if began.elapsed() > PATIENCE {
                bail!("the baseline does not answer");
            }
        }
        Ok(baseline)
    }

    /// The request it answers.
    pub fn request() -> Vec<u8> {
        http::get("/", "")
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        // Both refuse where it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
