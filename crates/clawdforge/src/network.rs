//! What agents may reach over the network: from the configuration to the rules of each, and what of them is
//! likely not as meant.

use std::ffi::OsStr;

use anyhow::bail;
use clawdforge_agent::network::{Network, PROXY};
use clawdforge_agent::profile::Profile;
use clawdforge_core::isolation::Isolation;
use clawdforge_core::network::{Host, NetworkRule, Permit, Reach, closed};
use clawdforge_process::Confinement;
use clawdforge_process::sandbox::{Attack, Outcome, Ports, probe};

use crate::config::{AgentEntry, Config};

/// The end of the names of variables by which agents are told where their model is.
const ENDPOINT_VARIABLE: &str = "_BASE_URL";

/// What keeps the rules about the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// There are no rules.
    Unfiltered,
    /// The proxy alone: a program that does not ask it reaches everything.
    Advisory,
    /// The kernel's rules about ports, which leave no way but the proxy.
    Kernel,
    /// A network of the agent's own, in which there is nobody but the proxy.
    Namespace,
}

impl Strength {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unfiltered => "unfiltered",
            Self::Advisory => "advisory",
            Self::Kernel => "kernel",
            Self::Namespace => "namespace",
        }
    }
}

/// The network of an agent of a running service.
pub fn of(config: &Config, entry: Option<&AgentEntry>) -> Option<Network> {
    let egress = config.egress.clone()?;
    let rule = entry.and_then(|entry| entry.network.as_ref()).unwrap_or(&config.agent_network).clone();
    let always = entry.and_then(|entry| entry.network_always.as_ref()).unwrap_or(&config.agent_network_always).clone();
    Some(Network { egress, rule, always })
}

/// The ports that are open in the sandbox of a trial: none, unless agents have no rules.
pub fn ports_of_trial(config: &Config) -> Option<Ports> {
    if config.agent_network == NetworkRule::Unfiltered { None } else { Ports::only(Vec::new()) }
}

/// What keeps the rules, as it was found to be.
pub fn strength(config: &Config, level: Isolation, found: Option<(&Confinement, &probe::Findings)>) -> Strength {
    let Some((confinement, findings)) = found.filter(|_| config.agent_network != NetworkRule::Unfiltered) else {
        let is_free = config.agent_network == NetworkRule::Unfiltered;
        return if is_free { Strength::Unfiltered } else { Strength::Advisory };
    };
    let is_denied = |attack| findings.outcomes.contains(&(attack, Outcome::Denied));
    let closed = level > Isolation::Off && is_denied(Attack::ConnectTcp) && is_denied(Attack::SendUdp);
    match closed {
        true if confinement.has_own_network() && is_denied(Attack::ListenTcp) => Strength::Namespace,
        true => Strength::Kernel,
        false => Strength::Advisory,
    }
}

/// Refuses what cannot work, and says what likely does not.
///
/// # Errors
/// With a sentence that names the option.
pub fn check<'a>(profiles: impl Iterator<Item = &'a Profile>) -> anyhow::Result<Vec<String>> {
    let mut warnings = Vec::new();
    for profile in profiles {
        let Some(network) = profile.network.as_ref().filter(|network| network.rule != NetworkRule::Unfiltered) else {
            continue;
        };
        if let Some(variable) = PROXY.iter().find(|name| profile.env.contains_key(OsStr::new(name))) {
            bail!(
                "the agent {} would get {variable} from the service's environment, but agents use the service's own proxy, \
                 which passes nothing on to another one; take it out, or set `network = \"unfiltered\"` for this agent",
                profile.name
            );
        }
        let reach = Reach { agent: network.rule.clone(), app: None, always: network.always.clone() };
        for (name, value) in &profile.env {
            let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
            if let Some((host, port)) = endpoint(&value).filter(|_| name.ends_with(ENDPOINT_VARIABLE))
                && !is_reached(&reach, &host, port)
            {
                warnings.push(format!(
                    "{name} of the agent {} leads to {host}:{port}, which it does not reach; name it in `network_always`",
                    profile.name
                ));
            }
        }
    }
    warnings.sort();
    warnings.dedup();
    Ok(warnings)
}

fn is_reached(reach: &Reach, host: &Host, port: u16) -> bool {
    match (reach.judge(host, port), host) {
        (Err(_), _) => false,
        (Ok(Permit::Anywhere), _) => true,
        (Ok(Permit::Public), Host::Address(address)) => closed(*address).is_none(),
        (Ok(Permit::Public), Host::Name(name)) => name != "localhost",
    }
}

/// Host and port of an address on the web.
fn endpoint(url: &str) -> Option<(Host, u16)> {
    let (rest, default) =
        url.strip_prefix("http://").map(|rest| (rest, 80)).or_else(|| Some((url.strip_prefix("https://")?, 443)))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    match authority.parse::<Host>() {
        Ok(host) => Some((host, default)),
        Err(_) => {
            let (host, port) = authority.rsplit_once(':')?;
            Some((host.parse().ok()?, port.parse().ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_of_an_address_on_the_web_has_a_port() {
        let of = |url| endpoint(url).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(of("http://127.0.0.1:9000/v1").as_deref(), Some("127.0.0.1 9000"));
        assert_eq!(of("https://api.example.com").as_deref(), Some("api.example.com 443"));
        assert_eq!(of("http://user:pass@[::1]:80").as_deref(), Some("[::1] 80"));
        assert_eq!(of("http://localhost?x").as_deref(), Some("localhost 80"));
        assert_eq!([of("127.0.0.1:9000"), of("http://"), of("http://a:b")], [None, None, None]);
    }
}
