//! What agents may reach over the network: rules, and the judgement of names and of addresses.
//!
//! Two questions are asked of every connection, in this order. May this *name* and port be asked for
//! ([`Reach::judge`])? And may the *address* that the name stands for right now be connected to
//! ([`closed`])? The second is asked of the very address that is connected to, so a name that changes its
//! meaning in between (DNS rebinding) gains nothing.
//!
//! Invariant: an address of this host, of a private network or of a special kind is reached only through
//! an endpoint of [`Reach::always`], which the operator alone can name.

mod address;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

pub use address::{closed, plain};

/// Entries of one list: a page of text that a person can still read.
pub const ENDPOINTS_MAX: usize = 256;

/// Bytes of a host name, by the rules of DNS.
const NAME_BYTES_MAX: usize = 253;

/// Bytes of one part of a host name, by the rules of DNS.
const LABEL_BYTES_MAX: usize = 63;

/// What an agent, or the agents of an app, may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkRule {
    /// Everything, the host's own services included: no filter at all.
    Unfiltered,
    /// Every public address.
    Open,
    /// Nothing.
    None,
    /// These and nothing else, where they stand for public addresses.
    Only(Vec<Endpoint>),
}

/// A host and a port, as a list names them: `example.com:443`, `*.example.com:443`, `192.0.2.1:80`,
/// `[2001:db8::1]:443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: Pattern,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Host(Host),
    /// Every name below this one, and not the name itself.
    Below(String),
}

/// A host as it is asked for: an address, or a name in lower case without a dot at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address, written as one.
    Address(IpAddr),
    /// A name, which may stand for other addresses every time it is looked up.
    Name(String),
}

/// Why a text is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a host is a name of letters, digits, `-`, `_` and dots, or an address in its usual form")]
pub struct BadHost;

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// It has no port.
    #[error("{0:?} names no port; write it like \"example.com:443\"")]
    NoPort(String),
    /// Its host is none.
    #[error("{0:?} names no host: {BadHost}; `*.` in front stands for all names below")]
    NoHost(String),
}

/// Why values are no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    /// A word that is none of ours.
    #[error("{0:?} is no rule; it is \"open\", \"none\", or a list like [\"example.com:443\"]")]
    Word(String),
    /// An entry is no endpoint.
    #[error(transparent)]
    Entry(#[from] BadEndpoint),
    /// An entry is an address that a list cannot open.
    #[error("{entry:?} is {what}, which a list does not open; the operator can name it in `network_always`")]
    Closed {
        /// The entry.
        entry: String,
        /// What its address is.
        what: &'static str,
    },
    /// Too many entries.
    #[error("a list has at most {ENDPOINTS_MAX} entries")]
    TooLong,
}

impl NetworkRule {
    /// The rule of a word.
    ///
    /// # Errors
    /// When the word is none of `unfiltered`, `open` and `none`.
    pub fn named(word: &str) -> Result<Self, BadRule> {
        match word {
            "unfiltered" => Ok(Self::Unfiltered),
            "open" => Ok(Self::Open),
            "none" => Ok(Self::None),
            other => Err(BadRule::Word(other.to_owned())),
        }
    }

    /// The rule of a list.
    ///
    /// # Errors
    /// When an entry is wrong, or an address that no list opens.
    pub fn only<T: AsRef<str>>(entries: &[T]) -> Result<Self, BadRule> {
        if entries.len() > ENDPOINTS_MAX {
            return Err(BadRule::TooLong);
        }
        let one = |entry: &T| {
            let endpoint: Endpoint = entry.as_ref().parse()?;
            match &endpoint.host {
                Pattern::Host(Host::Address(address)) => match closed(*address) {
                    Some(what) => Err(BadRule::Closed { entry: entry.as_ref().to_owned(), what }),
                    None => Ok(endpoint),
                },
                _ => Ok(endpoint),
            }
        };
        Ok(Self::Only(entries.iter().map(one).collect::<Result<_, _>>()?))
    }

    /// The rule of a word or a list in JSON, as it is stored and sent.
    ///
    /// # Errors
    /// As [`Self::named`] and [`Self::only`], and for everything that is neither a text nor a list of texts.
    pub fn from_json(value: &Value) -> Result<Self, BadRule> {
        let neither = || BadRule::Word(value.to_string());
        match value {
            Value::String(word) => Self::named(word),
            Value::Array(entries) => {
                let texts: Option<Vec<&str>> = entries.iter().map(Value::as_str).collect();
                Self::only(&texts.ok_or_else(neither)?)
            }
            _ => Err(neither()),
        }
    }

    /// What [`Self::from_json`] takes.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.word().map_or_else(|| self.entries().into(), Into::into)
    }

    /// The word of a rule that is no list.
    #[must_use]
    pub fn word(&self) -> Option<&'static str> {
        match self {
            Self::Unfiltered => Some("unfiltered"),
            Self::Open => Some("open"),
            Self::None => Some("none"),
            Self::Only(_) => None,
        }
    }

    /// The entries of a rule that is a list, each in the form it is parsed from.
    #[must_use]
    pub fn entries(&self) -> Vec<String> {
        match self {
            Self::Only(endpoints) => endpoints.iter().map(Endpoint::to_string).collect(),
            Self::Unfiltered | Self::Open | Self::None => Vec::new(),
        }
    }

    fn allows(&self, host: &Host, port: u16) -> bool {
        match self {
            Self::Unfiltered | Self::Open => true,
            Self::None => false,
            Self::Only(endpoints) => endpoints.iter().any(|endpoint| endpoint.is(host, port)),
        }
    }
}

impl fmt::Display for NetworkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.word() {
            Some(word) => f.write_str(word),
            None => f.write_str(&self.entries().join(", ")),
        }
    }
}

/// What the agents of one app may reach: who it is, for reports, and the rule of its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppNetwork {
    /// The app's name.
    pub app: String,
    /// The rule of its token; nothing where the token says nothing.
    pub rule: Option<NetworkRule>,
}

/// All that counts for one process tree. The stricter of both rules holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The agent's rule.
    pub agent: NetworkRule,
    /// The rule of the app's token.
    pub app: Option<NetworkRule>,
    /// What is reached under every rule, wherever it is: the model's endpoint.
    pub always: Vec<Endpoint>,
}

/// How far a permitted name may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// To whatever address it stands for.
    Anywhere,
    /// To public addresses.
    Public,
}

/// Which rule says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The agent's own.
    ByAgent,
    /// The app's.
    ByApp,
}

impl Reach {
    /// Whether anything is closed at all.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        self.agent != NetworkRule::Unfiltered || self.app.as_ref().is_some_and(|rule| *rule != NetworkRule::Unfiltered)
    }

    /// Whether this host and port may be asked for.
    ///
    /// # Errors
    /// With the rule that closes it.
    pub fn judge(&self, host: &Host, port: u16) -> Result<Permit, Refused> {
        if self.always.iter().any(|endpoint| endpoint.is(host, port)) {
            Ok(Permit::Anywhere)
        } else if !self.agent.allows(host, port) {
            Err(Refused::ByAgent)
        } else if self.app.as_ref().is_some_and(|rule| !rule.allows(host, port)) {
            Err(Refused::ByApp)
        } else if self.is_filtered() {
            Ok(Permit::Public)
        } else {
            Ok(Permit::Anywhere)
        }
    }

    /// Whether this address of this host's own loopback is always reached at this port, however it is named.
    #[must_use]
    pub fn always_on_loopback(&self, address: IpAddr, port: u16) -> bool {
        let is_it = |host: &Pattern| match host {
            Pattern::Host(Host::Address(named)) => plain(*named) == plain(address),
            // Whichever of them the name stands for.
            Pattern::Host(Host::Name(_)) => true,
            Pattern::Below(_) => false,
        };
        let mut named = self.always.iter().filter(|endpoint| endpoint.is_loopback() && endpoint.port == port);
        plain(address).is_loopback() && named.any(|endpoint| is_it(&endpoint.host))
    }

    /// Ports of this host's own loopback that are always reached: for programs that take no proxy there.
    pub fn loopback_ports(&self) -> impl Iterator<Item = u16> {
        self.always.iter().filter(|endpoint| endpoint.is_loopback()).map(|endpoint| endpoint.port)
    }
}

impl Endpoint {
    fn is(&self, host: &Host, port: u16) -> bool {
        self.port == port
            && match (&self.host, host) {
                (Pattern::Host(Host::Address(ours)), Host::Address(asked)) => plain(*ours) == plain(*asked),
                (Pattern::Host(ours), asked) => ours == asked,
                (Pattern::Below(domain), Host::Name(name)) => {
                    name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
                }
                (Pattern::Below(_), Host::Address(_)) => false,
            }
    }

    fn is_loopback(&self) -> bool {
        match &self.host {
            Pattern::Host(Host::Address(address)) => plain(*address).is_loopback(),
            Pattern::Host(Host::Name(name)) => name == "localhost",
            Pattern::Below(_) => false,
        }
    }
}

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let no_port = || BadEndpoint::NoPort(text.to_owned());
        let no_host = |_: BadHost| BadEndpoint::NoHost(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
        let port = port_of(port).ok_or_else(no_port)?;
        let host = match host.strip_prefix("*.") {
            Some(domain) => match domain.parse().map_err(no_host)? {
                Host::Name(name) => Pattern::Below(name),
                Host::Address(_) => return Err(BadEndpoint::NoHost(text.to_owned())),
            },
            None => Pattern::Host(host.parse().map_err(no_host)?),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Pattern::Host(host) => write!(f, "{host}:{}", self.port),
            Pattern::Below(domain) => write!(f, "*.{domain}:{}", self.port),
        }
    }
}

/// A port as digits alone: no sign, no space, not 0.
fn port_of(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

impl FromStr for Host {
    type Err = BadHost;

    /// Takes addresses in their usual form only, IPv6 in brackets. Names that resolvers would take for an
    /// address all the same (`2130706433`, `0x7f.1`, `127.1`, `0177.0.0.1`) are neither.
    fn from_str(text: &str) -> Result<Self, BadHost> {
        if let Some(inside) = text.strip_prefix('[') {
            let address = inside.strip_suffix(']').and_then(|inside| inside.parse::<Ipv6Addr>().ok());
            return address.map(|address| Self::Address(address.into())).ok_or(BadHost);
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        // What ends in a number is an address to resolvers, in one of its forgotten forms.
        let is_number = |label: &str| {
            let hex = label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
            hex || label.bytes().all(|byte| byte.is_ascii_digit())
        };
        let numeric = name.rsplit('.').next().is_none_or(is_number);
        if name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label) && !numeric {
            Ok(Self::Name(name))
        } else {
            Err(BadHost)
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests;
