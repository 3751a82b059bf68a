//! Control groups around agents.

use super::{Group, Opt, since_0_2};
use crate::config::kinds::{Bytes, CgroupPlace, Maybe};

pub static ISOLATION_CGROUP: Opt<CgroupPlace> = Opt {
    spec: since_0_2(
        Group::Isolation,
        "isolation_cgroup",
        &["CLAWDFORGE_ISOLATION_CGROUP"],
        "auto",
        "Where each agent gets a control group of its own: `auto` is the service's own group where systemd delegated it, `none` is nowhere, a path is a directory of version 2 that is this service's alone.",
    ),
    kind: CgroupPlace,
};

pub static AGENT_MEMORY_MAX: Opt<Maybe<Bytes>> = Opt {
    spec: since_0_2(
        Group::Isolation,
        "agent_memory_max",
        &["CLAWDFORGE_AGENT_MEMORY_MAX"],
        "",
        "Memory of one agent with everything it starts, where it has a control group; more ends all of it. Three quarters of this machine's where nothing is said.",
    ),
    // Below, no agent begins; above is no machine.
    kind: Maybe(Bytes { min: 64 << 20, max: 1 << 50 }),
};
