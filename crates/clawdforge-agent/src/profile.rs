//! What the operator (or a default) says about one agent: which program, spoken to how, with what.
//!
//! A profile is complete: a driver reads nothing else, neither the environment of the service nor
//! its configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use clawdforge_core::agent::AgentName;
use clawdforge_process::Confinement;

use crate::network::Network;
use crate::sign_in::SignIn;

/// How an agent is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `claude -p`: the prompt on standard input, JSON lines on standard output.
    Claude,
    /// The bundled demo agent, which speaks as `claude -p` does.
    Demo,
    /// The Agent Client Protocol: sessions only.
    Acp,
}

impl Dialect {
    /// Every dialect by its name in the configuration.
    pub const ALL: [(&'static str, Self); 3] = [("claude", Self::Claude), ("demo", Self::Demo), ("acp", Self::Acp)];

    /// The dialect's name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Demo => "demo",
            Self::Acp => "acp",
        }
    }
}

/// One agent as configured.
#[derive(Clone)]
pub struct Profile {
    /// The operator's name for it.
    pub name: AgentName,
    /// How it is spoken to.
    pub dialect: Dialect,
    /// The usual name of its program, looked for on the search path.
    pub program: String,
    /// The program the operator named: an absolute path, or a name to look for on the search path.
    /// Where it is set, nothing else is tried.
    pub command: Option<String>,
    /// Where our own installation puts the program, whether or not it is there.
    pub own_program: Option<PathBuf>,
    /// Directories to search for the program, as in `PATH`.
    pub search_path: Option<OsString>,
    /// Arguments in front of ours.
    pub args: Vec<String>,
    /// The whole environment of the agent (see [`crate::environment`]) but for the few variables the
    /// driver adds where they are absent, and without what signs it in.
    pub env: BTreeMap<OsString, OsString>,
    /// What signs it in: only for processes that work for somebody.
    pub sign_in: SignIn,
    /// A folder of the operator's whose files are laid into every home of the agent, at the same places.
    pub home_files: Option<PathBuf>,
    /// Whether it may obey settings, hooks and tool servers that it finds in a workspace.
    pub trusts_workspace: bool,
    /// How often the agent may try its model again before it reports a failure.
    pub retries_max: u32,
    /// What to do when the program is missing, as an imperative without a full stop:
    /// ``run `clawdforge agents install claude`, or put claude on the PATH of the service``.
    pub install_hint: String,
    /// What the agent's processes are kept from, by a sandbox around each of them; nothing where there is none.
    pub confinement: Option<Arc<Confinement>>,
    /// What it may reach over the network, and the way there; everything where there is none.
    pub network: Option<Network>,
}

/// The environment's values stay out: they hold the provider's keys.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("name", &self.name)
            .field("dialect", &self.dialect)
            .field("command", &self.command)
            .field("own_program", &self.own_program)
            .field("args", &self.args)
            .field("env_names", &self.env.keys())
            .field("sign_in", &self.sign_in)
            .field("retries_max", &self.retries_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Profile {
    /// Claude without anything that somebody configured.
    pub(crate) fn plain() -> Self {
        Self {
            name: "claude".parse().unwrap(),
            dialect: Dialect::Claude,
            program: "claude".into(),
            command: None,
            own_program: None,
            search_path: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            retries_max: 2,
            install_hint: String::new(),
            sign_in: SignIn::default(),
            home_files: None,
            trusts_workspace: false,
            confinement: None,
            network: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_names_variables_but_never_shows_their_values() {
        let profile = Profile {
            env: BTreeMap::from([("ANTHROPIC_API_KEY".into(), "sk-very-secret".into())]),
            ..Profile::plain()
        };
        let shown = format!("{profile:?}");
        assert!(shown.contains("ANTHROPIC_API_KEY"), "{shown}");
        assert!(!shown.contains("very-secret"), "{shown}");
    }
}
