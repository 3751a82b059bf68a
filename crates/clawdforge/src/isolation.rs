//! How agents are kept apart: which level is chosen, what of it holds on this machine, and whether that is
//! enough to start with.
//!
//! The configuration says what is asked for; only the probe says what there is. Nothing here makes a
//! sandbox: that is the process crate's, and what an agent needs in it the agent crate's.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use clawdforge_agent::acpx;
use clawdforge_agent::home::Home;
use clawdforge_core::isolation::Isolation;
use clawdforge_engine::AgentHome;
use clawdforge_process::sandbox::probe::{self, ProbeError};
use clawdforge_process::sandbox::{Attack, Helper, Outcome, can_contain, landlock_abi, resolved};
use clawdforge_process::{Bounds, Cgroups, Confinement, Identity, SpawnError, Spawner};
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

use crate::config::Config;
use crate::network::{self, Strength};

/// The hidden sub-command that restricts itself and becomes an agent.
pub const LAUNCHER: &str = "__launch";

/// The hidden sub-command that tries what an agent must not be able to do.
pub const ATTACKER: &str = "__attack";

/// The level that the configuration asks for and this machine offers, by what it says of itself. Whether namespaces can
/// be made says only a trial.
///
/// # Errors
/// With a sentence that names the option, when it cannot be had or must not be.
pub fn chosen(config: &Config) -> anyhow::Result<Isolation> {
    let level = match config.isolation_mode {
        Some(level) => {
            if let Some(lacking) = lacking(config, level) {
                bail!("`isolation_mode` is `{level}`, but {lacking}; `isolation_mode = \"auto\"` takes what there is");
            }
            level
        }
        None => {
            Isolation::ALL.into_iter().rev().find(|level| lacking(config, *level).is_none()).unwrap_or(Isolation::Off)
        }
    };
    let require = config.isolation_require;
    // A view of its own does not make a user of its own.
    let lacks_users = require == Isolation::Uid && lacking(config, Isolation::Uid).is_some();
    if level < require || lacks_users {
        let wish = match config.isolation_mode {
            Some(level) if level < require => format!("`isolation_mode` is `{level}`"),
            _ => format!("this is not to be had here ({})", why_not(config, require)),
        };
        bail!(
            "agents would run with less isolation than `isolation_require` demands: {wish}, and `{}` is required; \
             whoever trusts every app and every page its agents read may lower `isolation_require`",
            config.isolation_require
        );
    }
    if level == Isolation::Off && geteuid().is_root() && !config.isolation_off_as_root {
        bail!(
            "without isolation every prompt is a shell of root's; start the service as another user, or say that it is \
             meant with `isolation_off_as_root`"
        );
    }
    if level > Isolation::Off && config.sessions_per_process > 1 {
        bail!(
            "`sessions_per_process` is {}, but a process in a sandbox reaches the workspace of one session only, because \
             those of later sessions are not there when it starts; set it to 1",
            config.sessions_per_process
        );
    }
    let with_users = level >= Isolation::Uid && lacking(config, Isolation::Uid).is_none();
    if with_users && config.agent_home == AgentHome::Shared {
        bail!(
            "`agent_home` is `shared`, but users of `isolation_users` cannot use one home (agents keep files in it that \
             only one of them may read); set it to `app`, or name no users"
        );
    }
    if config.sessions_per_process > 1 && config.agent_home == AgentHome::Session {
        bail!(
            "`sessions_per_process` is {}, but with `agent_home = \"session\"` no two sessions can share a process; set \
             one of them otherwise",
            config.sessions_per_process
        );
    }
    if level > Isolation::Off
        && config.agent_home == AgentHome::Shared
        && let Some(home) = config.environment.get("HOME").map(Path::new)
        && is_same(home, &config.data_dir)
    {
        bail!(
            "HOME is the data directory {}, so agents would have no home or everything the service keeps; \
             choose another `data_dir`, or another HOME for the service",
            home.display()
        );
    }
    let named = config.isolation_read.iter().chain(&config.isolation_write);
    if let Some(inside) = named.map(|path| resolved(path)).find(|path| can_contain(&resolved(&config.data_dir), path)) {
        bail!(
            "{} is in the data directory, which agents must not reach; take it out of `isolation_read` and \
             `isolation_write`",
            inside.display()
        );
    }
    Ok(level)
}

/// The numbers of the users that agents run as; `None` where they run as the service's own.
///
/// # Errors
/// As [`chosen`].
pub fn users(config: &Config) -> anyhow::Result<Option<RangeInclusive<u32>>> {
    let may = chosen(config)? >= Isolation::Uid && lacking(config, Isolation::Uid).is_none();
    let range = config.isolation_users.map(|users| users.first.number()..=users.last.number());
    Ok(range.filter(|_| may))
}

/// Bytes that a workspace may take on the disk; `None` where that is not limited, or the service cannot see it: an agent
/// with a user of its own has folders that are closed to whoever lacks the power to read everything.
pub fn workspace_bytes_max(config: &Config) -> Option<u64> {
    let with_users = users(config).is_ok_and(|users| users.is_some());
    let powers = capabilities(None).map_or(CapabilitySet::empty(), |has| has.effective);
    quota(config.workspace_bytes_max, with_users, powers)
}

fn quota(bytes_max: u64, with_users: bool, powers: CapabilitySet) -> Option<u64> {
    let may_look = !with_users || powers.intersects(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
    Some(bytes_max).filter(|bytes_max| *bytes_max > 0 && may_look)
}

/// What is the same for the sandboxes of all agents, without namespaces; `None` at the level `off`.
pub fn confinement(config: &Config) -> Option<Arc<Confinement>> {
    // A level that cannot be had ends the start before any agent is started; here the wish counts.
    let off = config.isolation_mode == Some(Isolation::Off) || lacking(config, Isolation::Landlock).is_some();
    (!off).then(|| {
        let helper = Helper::of_this_binary(LAUNCHER, ATTACKER);
        let (read, write) = (config.isolation_read.clone(), config.isolation_write.clone());
        Arc::new(Confinement::new(helper, &config.data_dir, read, write))
    })
}

/// What a level needs and does not have here.
fn lacking(config: &Config, level: Isolation) -> Option<&'static str> {
    match level {
        Isolation::Off => None,
        Isolation::Landlock | Isolation::Uid | Isolation::Namespaces if landlock_abi() == 0 => {
            Some("this kernel has no Landlock (Linux 5.13 has it, where it is turned on)")
        }
        Isolation::Landlock | Isolation::Namespaces => None,
        Isolation::Uid if config.isolation_users.is_none() => Some("`isolation_users` names no users"),
        Isolation::Uid if !may_change_user() => {
            Some("the service may not run programs as other users (it is not root)")
        }
        Isolation::Uid => None,
    }
}

fn why_not(config: &Config, wanted: Isolation) -> &'static str {
    lacking(config, Isolation::Landlock).or_else(|| lacking(config, wanted)).unwrap_or("nothing is lacking")
}

fn may_change_user() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN;
    capabilities(None).is_ok_and(|has| has.effective.contains(needed))
}

fn is_same(one: &Path, other: &Path) -> bool {
    resolved(one) == resolved(other)
}

/// What agents are kept from, as it was found to be.
#[derive(Debug, Clone)]
pub struct Standing {
    /// What holds.
    pub level: Isolation,
    /// What the probe found; nothing where isolation is off.
    pub findings: Option<probe::Findings>,
    /// The same for agents behind acpx, whose sandbox is another one.
    pub acpx: Option<probe::Findings>,
    /// What keeps the rules about the network.
    pub network: Strength,
    /// Named gaps, the measured ones and those that are known.
    pub gaps: Vec<&'static str>,
    /// What is the same for the sandboxes of all agents at this level.
    pub confinement: Option<Arc<Confinement>>,
    /// Why there are no namespaces, where they were wanted.
    pub no_namespaces: Option<String>,
    /// What bounds each agent by a control group of its own, or why it has none.
    pub cgroups: Result<Bounds, String>,
}

impl Standing {
    /// One line for people: the level, and what it does not keep off.
    pub fn sentence(&self) -> String {
        let Some(findings) = &self.findings else { return "off: agents may do all that the service may".to_owned() };
        let (held, tried) = (findings.denied().count(), findings.outcomes.len());
        let gaps = self.gaps.join(", ");
        let network = match self.network {
            Strength::Namespace => "network rules kept by a network of each agent's own",
            Strength::Kernel => "network rules kept by the kernel",
            Strength::Advisory => "network rules are advice only: this kernel cannot keep them",
            Strength::Unfiltered => "no network rules",
        };
        let (level, abi) = (self.level, findings.landlock_abi);
        let bounded = match &self.cgroups {
            Ok(bounds) => format!("control groups{}; ", named(*bounds)),
            Err(_) => String::new(),
        };
        format!("{level} (Landlock {abi}; {held} of {tried} attacks denied; {network}; {bounded}open: {gaps})")
    }
}

/// What is bounded by groups, for people.
fn named(bounds: Bounds) -> String {
    let all = [(bounds.memory, "memory"), (bounds.tasks, "processes"), (bounds.cpu, "processor time")];
    let names: Vec<_> = all.into_iter().filter_map(|(is_bounded, name)| is_bounded.then_some(name)).collect();
    if names.is_empty() { " that bound nothing".to_owned() } else { format!(" for {}", names.join(", ")) }
}

/// Every app's agents write there, where the operator wants it so.
const SHARED_HOME: &str = "shared_home";

/// Agents behind acpx have no namespaces: its calls must find each other's processes.
const ACPX_WITHOUT_NAMESPACES: &str = "acpx_without_namespaces";

/// Agents of an app behind acpx share the folder of its sockets, as they share their home.
const SHARED_ACPX: &str = "shared_acpx";

/// Nothing bounds how much memory and processor time an agent takes, beside what bounds the whole service.
const UNBOUNDED_MEMORY_AND_CPU: &str = "unbounded_memory_and_cpu";

/// The kernel counts processes by user, and agents share the service's.
const UNBOUNDED_PROCESSES: &str = "unbounded_processes";

/// Nothing bounds what a workspace takes on the disk, where the operator sets no quota or the service cannot look.
const UNBOUNDED_DISK: &str = "unbounded_disk";

/// Tries out what agents of this configuration are kept from. The data directory must be there.
///
/// # Errors
/// With a sentence for the operator, when that cannot be found out or is less than was asked for.
pub async fn measure(
    config: &Config,
    spawner: &Spawner,
    cgroups: &Result<Cgroups, String>,
) -> anyhow::Result<Standing> {
    let cgroups = cgroups.as_ref().map(Cgroups::bounds).map_err(Clone::clone);
    let wanted = chosen(config)?;
    let plain = confinement(config).filter(|_| wanted > Isolation::Off);
    let Some(plain) = plain else {
        let network = network::strength(config, Isolation::Off, None);
        return Ok(Standing {
            level: Isolation::Off,
            findings: None,
            acpx: None,
            network,
            gaps: Vec::new(),
            confinement: None,
            no_namespaces: None,
            cgroups,
        });
    };
    let identity =
        config.isolation_users.map(|users| users.first).filter(|_| users(config).is_ok_and(|all| all.is_some()));
    // Both at once: whoever starts the service waits for them.
    let (usual, acpx) =
        tokio::join!(tried(config, spawner, &plain, identity, wanted), behind_acpx(config, spawner, &plain, identity));
    let (confinement, findings, no_namespaces) = usual?;
    let made = findings.made;
    let level = findings.level();
    if made < config.isolation_require {
        bail!(
            "agents would run with less isolation than `isolation_require` demands: this machine offers `{made}` at most \
             ({}), and `{}` is required",
            no_namespaces.as_deref().unwrap_or("nothing is lacking"),
            config.isolation_require
        );
    }
    if level < made.min(config.isolation_require.max(Isolation::Landlock)) || level < config.isolation_require {
        let broken: Vec<_> = findings.broken(made).map(Attack::name).collect();
        bail!(
            "agents would not be kept from what `isolation_require = \"{}\"` promises: a trial succeeded with {}; \
             see `isolation_write` and `isolation_read` for what was opened, or lower `isolation_require`",
            config.isolation_require,
            broken.join(", ")
        );
    }
    let acpx = acpx?;
    let mut gaps: Vec<_> = findings.gaps().map(|(attack, _)| attack.name()).collect();
    let bounds = cgroups.clone().unwrap_or_default();
    gaps.extend(known_gaps(config, level, identity.is_some(), bounds));
    let network = network::strength(config, level, Some((&confinement, &findings)));
    let confinement = Some(confinement);
    Ok(Standing {
        level,
        findings: Some(findings),
        acpx: Some(acpx),
        network,
        gaps,
        confinement,
        no_namespaces,
        cgroups,
    })
}

/// Gaps that no probe looks for, because it is known when there is one.
fn known_gaps(
    config: &Config,
    level: Isolation,
    with_users: bool,
    bounds: Bounds,
) -> impl Iterator<Item = &'static str> {
    let known = [
        (SHARED_HOME, config.agent_home == AgentHome::Shared),
        (SHARED_ACPX, config.agent_home != AgentHome::Session),
        (UNBOUNDED_PROCESSES, !with_users && !bounds.tasks),
        (UNBOUNDED_MEMORY_AND_CPU, !(bounds.memory && bounds.cpu)),
        (UNBOUNDED_DISK, workspace_bytes_max(config).is_none()),
        (ACPX_WITHOUT_NAMESPACES, level == Isolation::Namespaces),
    ];
    known.into_iter().filter(|(_, is_there)| *is_there).map(|(gap, _)| gap)
}

/// The home that a trial of acpx's sandbox names, in the data directory. Nobody makes it.
const HOME_OF_TRIAL: &str = "isolation-probe-acpx";

/// What that trial is called, beside the usual one.
const TRIAL_OF_ACPX: &str = "acpx";

/// What it means that a trial failed.
const UNKNOWN: &str = "what agents are kept from could not be found out";

/// The strongest sandbox that can be made, of those that are wanted, and what it holds; with the reason where that is
/// one without namespaces.
async fn tried(
    config: &Config,
    spawner: &Spawner,
    plain: &Arc<Confinement>,
    identity: Option<Identity>,
    wanted: Isolation,
) -> anyhow::Result<(Arc<Confinement>, probe::Findings, Option<String>)> {
    let ports = network::ports_of_trial(config);
    let trial = async |confinement: &Arc<Confinement>| {
        probe::measure(spawner, confinement, identity, true, ports.clone()).await
    };
    let mut lacking = None;
    if wanted == Isolation::Namespaces {
        let apart = (**plain).clone().with_namespaces();
        // Where everything is open to agents, there is nothing that a network of their own would be for.
        let with_network = ports.is_some().then(|| apart.clone().with_own_network());
        for kind in with_network.into_iter().chain([apart]) {
            let kind = Arc::new(kind);
            match trial(&kind).await {
                Ok(findings) => return Ok((kind, findings, None)),
                // They cannot be made in most containers, and need not be; their network may be what is lacking.
                Err(ProbeError::NotStarted(SpawnError::Sandbox { action, source }))
                    if config.isolation_mode.is_none() || kind.has_own_network() =>
                {
                    let reason = format!("a sandbox with namespaces could not {action}: {source}");
                    if kind.has_own_network() {
                        tracing::info!(
                            reason,
                            "agents have no network of their own; the kernel's rules about ports keep theirs"
                        );
                    }
                    lacking = Some(reason);
                }
                Err(error) => return Err(error).context(UNKNOWN),
            }
        }
    }
    let findings = trial(plain).await.context(UNKNOWN)?;
    Ok((Arc::clone(plain), findings, lacking))
}

/// What agents behind acpx are kept from: their sandbox has no namespaces, and a folder more to write in.
async fn behind_acpx(
    config: &Config,
    spawner: &Spawner,
    confinement: &Arc<Confinement>,
    identity: Option<Identity>,
) -> anyhow::Result<probe::Findings> {
    // Always the same, so that what a killed one left is there for the next.
    let home = Home { path: config.data_dir.join(HOME_OF_TRIAL), owner: identity, is_passing: true };
    let sockets = acpx::socket_folder(&home.path);
    let path = home.path.clone();
    let shape = move |sandbox| acpx::around_calls(sandbox, &path, Some(&home)).map(Some);
    let findings =
        probe::measure_as(TRIAL_OF_ACPX, spawner, confinement, identity, network::ports_of_trial(config), shape)
            .await
            .context(UNKNOWN)?;
    if let Err(error) = std::fs::remove_dir(&sockets) {
        tracing::debug!(path = %sockets.display(), %error, "what a trial left could not be removed");
    }
    let (level, made) = (findings.level(), findings.made);
    if level < made.min(config.isolation_require.max(Isolation::Landlock)) {
        let broken: Vec<_> = findings.broken(made).map(Attack::name).collect();
        bail!(
            "agents behind acpx would not be kept from what `{made}` promises: a trial succeeded with {}; see \
             `isolation_write` and `isolation_read` for what was opened, or lower `isolation_require`",
            broken.join(", ")
        );
    }
    Ok(findings)
}

/// What came of each attack, by name.
pub fn outcomes(findings: &probe::Findings) -> impl Iterator<Item = (&'static str, &'static str)> {
    findings.outcomes.iter().map(|(attack, outcome): &(Attack, Outcome)| (attack.name(), outcome.as_str()))
}

/// A home around the data directory is opened piece by piece, without what is made in it later.
pub fn risk_of_home(config: &Config) -> Option<String> {
    let home = Path::new(config.environment.get("HOME").unwrap_or(OsStr::new("")));
    let around = home.is_absolute() && can_contain(home, &config.data_dir) && home != config.data_dir;
    let lived_in = around && config.agent_home == AgentHome::Shared;
    (lived_in && config.isolation_mode != Some(Isolation::Off)).then(|| {
        format!(
            "the data directory {} lies in the home of the agents, who therefore reach only what is in that home \
             already and cannot make new files at its top; move `data_dir` out of it",
            config.data_dir.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_quota_only_where_it_is_set_and_workspaces_can_be_looked_into() {
        let (none, all) = (CapabilitySet::empty(), CapabilitySet::all());
        assert_eq!([quota(0, false, all), quota(0, true, all)], [None; 2]);
        assert_eq!([quota(7, false, none), quota(7, true, all)], [Some(7); 2]);
        assert_eq!(quota(7, true, CapabilitySet::DAC_READ_SEARCH), Some(7));
        assert_eq!(quota(7, true, CapabilitySet::SETUID | CapabilitySet::CHOWN), None);
    }
}
