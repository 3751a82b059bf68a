//! Where an agent lives: its home, whose it is, and how its environment leads there.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use clawdforge_process::Identity;

/// Variables that name folders which agents keep their settings, sign-ins, transcripts and caches in. They
/// lie in the home unless the operator says otherwise.
pub const FOLDERS: &[&str] = &[
    "CLAUDE_CONFIG_DIR",
    "CODEX_HOME",
    "COPILOT_HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "npm_config_cache",
    "NPM_CONFIG_CACHE",
];

/// The home of an agent, where that is not the service's own: nobody else's agents have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The folder; absolute. What it lies in is the service's.
    pub path: PathBuf,
    /// The user the agent runs as, whose the folder is; the service's own where there is none.
    pub owner: Option<Identity>,
    /// Whether it is erased with the conversation, or the run, that has it.
    pub is_passing: bool,
}

impl Home {
    /// Makes the folder, for its owner alone; fine if it is there. Blocking.
    ///
    /// # Errors
    /// When it cannot be made or given away.
    pub fn make(&self) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        hand_over(Some(self), &self.path)
    }

    /// Has an environment lead here, and takes out of it what leads elsewhere.
    pub fn move_in(&self, env: &mut BTreeMap<OsString, OsString>) {
        for name in FOLDERS {
            env.remove(OsStr::new(name));
        }
        env.insert("HOME".into(), self.path.clone().into_os_string());
        if self.owner.is_some() {
            // The service's own name would be another user's.
            env.remove(OsStr::new("USER"));
            env.remove(OsStr::new("LOGNAME"));
        }
    }
}

/// Gives a file or folder that was made for an agent to the user it runs as. Links are not followed.
///
/// # Errors
/// When the service may not.
pub fn hand_over(home: Option<&Home>, path: &Path) -> io::Result<()> {
    match home.and_then(|home| home.owner) {
        Some(owner) => owner.give(path),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(owner: Option<Identity>) -> Vec<String> {
        let env = [("HOME", "/h"), ("CLAUDE_CONFIG_DIR", "/c"), ("USER", "service"), ("LANG", "C")];
        let mut env: BTreeMap<OsString, OsString> =
            env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Home { path: "/data/homes/a/claude".into(), owner, is_passing: false }.move_in(&mut env);
        env.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect()
    }

    #[test]
    fn an_environment_leads_to_the_home_and_to_no_other() {
        assert_eq!(moved(None), ["HOME=/data/homes/a/claude", "LANG=C", "USER=service"]);
        assert_eq!(moved(Identity::new(20_000)), ["HOME=/data/homes/a/claude", "LANG=C"]);
    }
}
