//! A bound around the memory of a whole service, as its unit or container would have: a control group of version 1, where
//! this machine lets us make one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use rustix::process::Pid;

/// Where systems mount the controller of memory.
const MOUNT: &str = "/sys/fs/cgroup/memory";

/// Bytes that the service and all its agents may have together: half of what an attacker takes where nothing bounds it,
/// many times what they need.
const BYTES_MAX: u64 = 512 << 20;

/// How often it is tried to remove a group whose processes are ending.
const REMOVALS_MAX: usize = 1_000;

/// Between two tries.
const REMOVAL_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// A group. Gone when dropped, after whoever was in it went back.
pub(super) struct Bound {
    group: PathBuf,
    /// Where the others are.
    above: PathBuf,
}

impl Bound {
    /// One that nobody is in; `None` where there can be none.
    pub(super) fn make() -> Option<Self> {
        // Several may be made by one process.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let text = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = text.lines().find_map(|line| line.split_once(":memory:"))?.1;
        let above = Path::new(MOUNT).join(own.trim_start_matches('/'));
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let group = above.join(format!("clawdforge-attack-{}-{number}", std::process::id()));
        fs::create_dir(&group).ok()?;
        let bound = Self { group, above };
        fs::write(bound.group.join("memory.limit_in_bytes"), BYTES_MAX.to_string()).ok()?;
        Some(bound)
    }

    /// Puts a process into it, and with it all that it starts from now on.
    pub(super) fn take(&self, process: Pid) -> anyhow::Result<()> {
        self.put(&self.group, process)
    }

    /// Puts it back to where it was.
    pub(super) fn let_go(&self, process: Pid) -> anyhow::Result<()> {
        self.put(&self.above, process)
    }

    fn put(&self, group: &Path, process: Pid) -> anyhow::Result<()> {
        let path = group.join("cgroup.procs");
        fs::write(&path, process.as_raw_nonzero().to_string()).with_context(|| path.display().to_string())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        for _ in 0..REMOVALS_MAX {
            if fs::remove_dir(&self.group).is_ok() {
                return;
            }
            // Whoever is left in it is not for this group to end, and is no reason to keep it.
            let left = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
            for process in left.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)) {
                // It may have ended a moment ago; the next look tells.
                let _ = self.let_go(process);
            }
            std::thread::sleep(REMOVAL_PAUSE);
        }
    }
}
