//! The options about what agents reach over the network.

use super::{Group, Opt, since_0_2};
use crate::config::kinds::{Endpoints, Network};

pub static AGENT_NETWORK: Opt<Network> = Opt {
    spec: since_0_2(
        Group::Isolation,
        "agent_network",
        &["CLAWDFORGE_AGENT_NETWORK"],
        "open",
        "What agents may reach over the network: `open` (public addresses, through the service's proxy), `none`, a list of hosts with ports, or `unfiltered` (everything, the host's own services and the local network included). An agent's own table and an app's token may say less; the strictest holds.",
    ),
    kind: Network,
};

pub static AGENT_NETWORK_ALWAYS: Opt<Endpoints> = Opt {
    spec: since_0_2(
        Group::Isolation,
        "agent_network_always",
        &["CLAWDFORGE_AGENT_NETWORK_ALWAYS"],
        "",
        "Hosts with ports that agents reach under every rule, wherever they are: the model's endpoint, above all where it is on this machine or in a private network.",
    ),
    kind: Endpoints,
};
