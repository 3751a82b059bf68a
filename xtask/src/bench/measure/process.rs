//! A server in a process of its own: waited for, looked at and ended by its id.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use super::http::{Connection, get};

/// How long a start or a stop may take before the measurement is given up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// After this long, a server that nobody asks anything is idle.
pub const SETTLE: Duration = Duration::from_secs(2);

/// Between two looks at something that ends.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A process that was started. Killed when dropped.
pub struct Process {
    child: Child,
    name: &'static str,
    began: Instant,
}

/// What a process holds, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident, pages shared with others included.
    pub resident: u64,
    /// Resident, shared pages counted in part.
    pub proportional: u64,
    /// Resident and belonging to no file: what it allocated.
    pub anonymous: u64,
}

impl Process {
    /// Starts it. `name` is what errors call it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let began = Instant::now();
        #[expect(clippy::disallowed_methods, reason = "a server is started as an operator starts it")]
        let child = command.spawn().with_context(|| format!("could not start {name}"))?;
        Ok(Self { child, name, began })
    }

    /// Asks a path of it, over and over on new connections, until the answer is 200; how long that was from just
    /// before it was started.
    ///
    /// # Errors
    /// With what it wrote to `log`, when it does not come to that.
    pub fn wait_until_good(
        &mut self,
        client: &Runtime,
        address: SocketAddr,
        path: &str,
        log: &Path,
    ) -> Result<Duration> {
        while !client.block_on(is_good(address, path)) {
            if self.began.elapsed() > PATIENCE || self.child.try_wait()?.is_some() {
                bail!("{} did not start; its log:\n{}", self.name, fs::read_to_string(log)?);
            }
        }
        Ok(self.began.elapsed())
    }

    /// What it holds when it has had [`SETTLE`] to finish what it was doing.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn memory(&self) -> Result<Memory> {
        std::thread::sleep(SETTLE);
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let field = |name: &str| field_bytes(&text, name).with_context(|| format!("{path} has no {name}"));
        Ok(Memory { resident: field("Rss:")?, proportional: field("Pss:")?, anonymous: field("Anonymous:")? })
    }

    /// The processes that it started and that are still there.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn children(&self) -> Result<Vec<Pid>> {
        let mut all = Vec::new();
        // Each thread has those it started itself.
        let threads = format!("/proc/{}/task", self.child.id());
        for thread in fs::read_dir(&threads).with_context(|| threads.clone())? {
            let path = thread?.path().join("children");
            match fs::read_to_string(&path) {
                Ok(text) => all.extend(pids(&text)),
                // A thread that has ended since has none.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        Ok(all)
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(mut self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, signal)?;
        let name = self.name;
        wait_for(&format!("the end of {name}"), || Ok(self.child.try_wait()?.is_some()))
    }

    /// How long ago it was started.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both refuse where it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until it is so.
///
/// # Errors
/// When it is not so after [`PATIENCE`], or the look fails.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !is_so()? {
        ensure!(began.elapsed() < PATIENCE, "{what} did not come within {} s", PATIENCE.as_secs());
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Whether a path is answered with 200.
pub async fn is_good(address: SocketAddr, path: &str) -> bool {
    let asked = async { Connection::open(address).await?.ask(&get(path, "")).await };
    asked.await.is_ok_and(|reply| reply.status == 200)
}

fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let kib: u64 = text.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

fn pids(text: &str) -> impl Iterator<Item = Pid> {
    text.split_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_kernel_are_read_in_bytes() {
        let text = "55d0 ---p 0 [rollup]\nRss:               13000 kB\nPss_Anon:   7 kB\n";
        assert_eq!(field_bytes(text, "Rss:"), Some(13_000 * 1024));
        assert_eq!(field_bytes(text, "Pss:"), None);
    }

    #[test]
    fn the_children_of_a_thread_are_numbers_with_spaces_between() {
        let numbers: Vec<i32> = pids("17 4711 ").map(Pid::as_raw_nonzero).map(Into::into).collect();
        assert_eq!(numbers, [17, 4711]);
        assert_eq!(pids("").count(), 0);
    }
}
