//! Which homes agents get, as far as the operator has to know: what works otherwise than meant, and a home to
//! try an agent out in.

use std::ffi::OsStr;
use std::path::Path;

use clawdforge_agent::Home;
use clawdforge_agent::home::FOLDERS;
use clawdforge_engine::AgentHome;

use crate::config::Config;

/// A home below a folder for temporary files, as agents of the service would find it; `None` where that is the
/// service's own.
///
/// # Errors
/// When it cannot be made.
pub fn tried(config: &Config, agent: &str, folder: &Path) -> std::io::Result<Option<Home>> {
    if config.agent_home == AgentHome::Shared {
        return Ok(None);
    }
    let home = Home { path: folder.join(format!("home-{agent}")), owner: None, is_passing: true };
    home.make()?;
    Ok(Some(home))
}

/// What has no effect, or more than it seems.
pub fn risks(config: &Config) -> Vec<String> {
    if config.agent_home == AgentHome::Shared {
        let mut risks = vec![
            "`agent_home` is `shared`: agents of all apps share one home, where each can change the settings and hooks that \
             the others will run with, and read their sign-in and transcripts; give each app its own (`agent_home = \"app\"`) \
             as soon as agents sign in by `sign_in` or a variable"
                .to_owned(),
        ];
        let laid = config.agents.iter().filter(|(_, entry)| entry.home_files.is_some());
        risks.extend(laid.map(|(name, _)| {
            format!(
                "`agents.{name}.home_files` has no effect with `agent_home = \"shared\"`: that home is yours to fill"
            )
        }));
        return risks;
    }
    let set = |name: &&&str| config.agents.values().any(|entry| entry.env.contains_key(**name));
    let without_effect = FOLDERS.iter().filter(set).map(|name| {
        format!(
            "{name} in an agent's `env` has no effect: its homes are its apps' own (`agent_home`); lay settings into them \
             with `home_files` of the agent, or set `agent_home = \"shared\"`"
        )
    });
    let homeless = config.agents.values().any(|entry| entry.env.contains_key("HOME"));
    let homeless =
        homeless.then(|| "HOME in an agent's `env` has no effect unless `agent_home` is `shared`".to_owned());
    let lost = config.agents.iter().filter_map(|(name, entry)| {
        let folder = entry.home_files.as_ref().filter(|folder| !folder.is_dir())?;
        Some(format!("`agents.{name}.home_files`: {} is no folder, and {name} will not start", folder.display()))
    });
    without_effect.chain(homeless).chain(lost).collect()
}

/// Whether the service has a home that agents do not use, and what it is.
pub fn unused(config: &Config) -> Option<&OsStr> {
    config.environment.get("HOME").filter(|_| config.agent_home != AgentHome::Shared)
}
