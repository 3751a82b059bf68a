//! What agents are kept from, tried out as the service does at its start.

use clawdforge_core::isolation::Isolation;
use clawdforge_process::Spawner;
use clawdforge_process::sandbox::probe::Findings;
use serde_json::{Map, Value, json};

use super::Check;
use crate::cgroups;
use crate::config::{CgroupChoice, Config};
use crate::isolation::{self, Standing};

const NAME: &str = "isolation";

/// Tries every attack from inside a sandbox. Without a data directory only what the machine says of itself
/// can be judged.
pub async fn check(config: &Config, spawner: &Spawner) -> Check {
    let todo = "see docs/threat-model.md for what each level keeps off";
    if !config.data_dir.is_dir() {
        return match isolation::chosen(config) {
            Ok(level) => Check::ok(NAME, format!("{level}; tried out once there is a data directory")),
            Err(error) => Check::fail(NAME, format!("{error:#}"), todo),
        };
    }
    // Those of the service's unit are not for whoever looks from outside of it.
    let cgroups = match config.isolation_cgroup {
        CgroupChoice::Auto => Err("those that a service gets from systemd are seen by the service alone".to_owned()),
        CgroupChoice::None | CgroupChoice::At(_) => match cgroups::of(config) {
            Ok(cgroups) => cgroups,
            Err(error) => return Check::fail(NAME, format!("{error:#}"), "see `isolation_cgroup`"),
        },
    };
    match isolation::measure(config, spawner, &cgroups).await {
        Ok(standing) => judge(&standing, todo),
        Err(error) => Check::fail(NAME, format!("{error:#}"), todo),
    }
}

fn judge(standing: &Standing, todo: &str) -> Check {
    let check = match standing.level {
        Isolation::Off => Check::warn(NAME, standing.sentence(), "set `isolation_mode = \"auto\"`"),
        _ if standing.findings.as_ref().is_some_and(|found| found.level() < found.made) => {
            Check::warn(NAME, standing.sentence(), todo)
        }
        Isolation::Landlock | Isolation::Uid | Isolation::Namespaces => Check::ok(NAME, standing.sentence()),
    };
    let attacks = |findings: &Option<Findings>| -> Map<String, Value> {
        let all = findings.iter().flat_map(isolation::outcomes);
        all.map(|(name, outcome)| (name.to_owned(), outcome.into())).collect()
    };
    let acpx = standing.acpx.as_ref().map(Findings::level);
    let abi = standing.findings.as_ref().map(|found| found.landlock_abi);
    let details = json!({
        "level": standing.level.as_str(),
        "landlock_abi": abi,
        "attacks": attacks(&standing.findings),
        "acpx": { "level": acpx.map(Isolation::as_str), "attacks": attacks(&standing.acpx) },
        "network": standing.network.as_str(),
        "gaps": standing.gaps,
        "no_namespaces": standing.no_namespaces,
        "cgroups": match &standing.cgroups {
            Ok(bounds) => json!({ "memory": bounds.memory, "tasks": bounds.tasks, "cpu": bounds.cpu }),
            Err(reason) => json!({ "none": reason }),
        },
    });
    Check { details, ..check }
}
