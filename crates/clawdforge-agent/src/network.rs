//! How an agent gets to the network: through the proxy of the service, with a credential of its own.
//!
//! The one place that turns the rules about an agent and an app into what a process gets: variables that
//! name the proxy, and the ports its sandbox leaves open, or has listeners for in a network of its own. Without a sandbox, or
//! with a kernel that does not judge ports, the rules are advice, which a program is free not to take.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use clawdforge_core::agent::{Failure, FailureKind};
use clawdforge_core::network::{AppNetwork, Endpoint, NetworkRule, Reach};
use clawdforge_egress::{Egress, Grant, Whose};
use clawdforge_process::sandbox::Ports;
use clawdforge_process::{Sandbox, Tree};

use crate::profile::Profile;

/// Variables by which programs find a proxy. Both spellings are used, and by some programs only one.
pub const PROXY: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Variables that name what is reached without the proxy.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// In a network of its own, loopback is the agent's: its servers are there, and what is always reached. Elsewhere
/// it is the host's, and the proxy says what of it is closed.
const OWN_LOOPBACK: &str = "localhost,127.0.0.1,::1";

/// Switches of programs that heed the variables, or leave names to the proxy, only when told to.
const SWITCHES: [(&str, &str); 2] = [
    // Node, from 22.21 and 24.5 on.
    ("NODE_USE_ENV_PROXY", "1"),
    // Claude Code would look names up itself, for which there are no datagrams.
    ("CLAUDE_CODE_PROXY_RESOLVES_HOSTS", "true"),
];

/// The network of an agent.
#[derive(Debug, Clone)]
pub struct Network {
    /// The proxy.
    pub egress: Egress,
    /// What the agent may reach.
    pub rule: NetworkRule,
    /// What it reaches under every rule.
    pub always: Vec<Endpoint>,
}

/// The way out of one process tree, for as long as it lives; to be kept until the tree is gone.
#[derive(Debug)]
pub(crate) enum Passage {
    /// Nothing is filtered.
    Free,
    Filtered(Grant),
}

/// The way out for a process of an agent that works for an app, or for nobody: then only to what is always
/// reached.
///
/// # Errors
/// When no credential can be made.
pub(crate) fn admit(
    profile: &Profile,
    app: Option<&AppNetwork>,
    env: &mut BTreeMap<OsString, OsString>,
) -> Result<Passage, Failure> {
    let Some(network) = &profile.network else { return Ok(Passage::Free) };
    let nobody = AppNetwork { app: "none".to_owned(), rule: Some(NetworkRule::None) };
    let app = app.unwrap_or(&nobody);
    let reach = Reach { agent: network.rule.clone(), app: app.rule.clone(), always: network.always.clone() };
    if !reach.is_filtered() {
        return Ok(Passage::Free);
    }
    let whose = Whose { agent: profile.name.to_string(), app: app.app.clone() };
    let grant = network.egress.grant(whose, reach).map_err(|error| {
        tracing::error!(agent.name = %profile.name, %error, "no credential for the network could be made");
        Failure::new(FailureKind::Internal, "the service could not prepare the agent's network")
    })?;
    for name in NO_PROXY {
        env.remove(OsStr::new(name));
    }
    for name in PROXY {
        env.insert(name.into(), grant.url().into());
    }
    for (name, value) in SWITCHES {
        env.insert(name.into(), value.into());
    }
    Ok(Passage::Filtered(grant))
}

impl Passage {
    /// Opens this way in a sandbox, and closes all others. The environment is told of what is reached without
    /// the proxy.
    pub(crate) fn open(&self, sandbox: Option<&mut Sandbox>, env: &mut BTreeMap<OsString, OsString>) {
        let Some(sandbox) = sandbox else { return };
        sandbox.ports = match self {
            Self::Free => None,
            Self::Filtered(grant) => Ports::only(grant.ports().to_vec()),
        };
        if sandbox.has_own_network() {
            env.extend(NO_PROXY.map(|name| (name.into(), OWN_LOOPBACK.into())));
        }
    }

    /// Answers what leads out of the network of a tree's own, where it has one.
    ///
    /// # Errors
    /// When the runtime cannot listen there; the agent would reach nothing.
    pub(crate) async fn answer(&self, tree: &mut Tree) -> Result<(), Failure> {
        let Self::Filtered(grant) = self else { return Ok(()) };
        grant.answer(tree.take_listeners()).await.map_err(|error| {
            tracing::error!(%error, "an agent's network could not be connected");
            Failure::new(FailureKind::Internal, "the service could not prepare the agent's network")
        })
    }
}
