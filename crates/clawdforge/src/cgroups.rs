//! Control groups around agents: from the configuration to the directory they are made in.

use anyhow::Context as _;
use clawdforge_process::{Cgroups, NoCgroups};

use crate::config::{CgroupChoice, Config};

/// Of the machine's memory, what one agent may take where nothing is said: it then ends before the machine is out of it.
const MEMORY_SHARE: (u64, u64) = (3, 4);

/// Where agents get groups; otherwise why they get none. The service may be moved to a group of its own by this.
///
/// # Errors
/// When a directory that was named is not one for groups, or what systemd delegated cannot be used.
pub fn of(config: &Config) -> anyhow::Result<Result<Cgroups, String>> {
    let memory_max = config.agent_memory_max.unwrap_or_else(default_memory);
    match &config.isolation_cgroup {
        CgroupChoice::None => Ok(Err("`isolation_cgroup` is `none`".to_owned())),
        CgroupChoice::At(path) => {
            let made = Cgroups::at(path, memory_max);
            made.map(Ok).context("agents get no control groups as `isolation_cgroup` wants it")
        }
        CgroupChoice::Auto => match Cgroups::delegated(memory_max) {
            Ok(cgroups) => Ok(Ok(cgroups)),
            Err(why @ (NoCgroups::None | NoCgroups::NotDelegated(_))) => Ok(Err(why.to_string())),
            Err(error) => Err(error).context(
                "the service's own control group was delegated and cannot be used; `isolation_cgroup = \"none\"` does without",
            ),
        },
    }
}

fn default_memory() -> u64 {
    let system = rustix::system::sysinfo();
    let (share, of) = MEMORY_SHARE;
    let total = system.totalram.saturating_mul(system.mem_unit.into());
    total / of * share
}
