//! Under which names the service answers.
//!
//! A page on the web can have its own name resolve to an address of ours (DNS rebinding); to the browser it then
//! is of one origin with us. The browser still sends that name as `Host`, and it is a name that public DNS can hold.
//! So an address is always answered, and so is a name that public DNS cannot hold: one without a dot (as container
//! engines and hosts files have them), and those below `.localhost` and `.internal`. Every other name must have
//! been listed by the operator.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use axum::http::uri::Authority;

/// Characters of a name in DNS.
const NAME_CHARS_MAX: usize = 253;

/// Domains that no public name lies in, as RFC 6761 and ICANN reserve them.
const PRIVATE_DOMAINS: [&str; 2] = [".localhost", ".internal"];

/// A name under which the service answers, as the operator lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedHost {
    /// `*`: any name at all.
    Any,
    /// `forge.example.com`: this name.
    Name(String),
    /// `*.example.com`: every name below; kept with its leading dot.
    Below(String),
}

/// Why a text is no name for the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no host name; write it without scheme and port, like `forge.example.com`, `*.example.com` or `*`")]
pub struct BadHost(String);

impl FromStr for AllowedHost {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let below = text.strip_prefix("*.");
        let name = below.unwrap_or(text).to_ascii_lowercase();
        let in_label = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let labels_fit = name.split('.').all(|label| !label.is_empty() && label.chars().all(in_label));
        if name.len() > NAME_CHARS_MAX || !labels_fit {
            return Err(BadHost(text.to_owned()));
        }
        Ok(if below.is_some() { Self::Below(format!(".{name}")) } else { Self::Name(name) })
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Name(name) => f.write_str(name),
            Self::Below(domain) => write!(f, "*{domain}"),
        }
    }
}

/// Whom a request is meant for: host and port, as `Host` or the whole URL in a request line name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addressee {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    /// In lower case, without the dot of the root.
    Name(String),
}

impl Addressee {
    /// Reads `host`, `host:port`, `[v6]:port`; `None` for what is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        // What stands before an `@` is a login, which has no place in either.
        if authority.as_str().contains('@') {
            return None;
        }
        let text = authority.host();
        let host = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => Host::V6(inner.parse().ok()?),
            None => match text.parse() {
                Ok(v4) => Host::V4(v4),
                Err(_) => Host::Name(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()),
            },
        };
        let port = match authority.as_str().strip_prefix(text)? {
            "" | ":" => None,
            rest => Some(rest.strip_prefix(':')?.parse().ok()?),
        };
        Some(Self { host, port })
    }

    /// Whether the service answers under it.
    pub fn is_ours(&self, allowed: &[AllowedHost]) -> bool {
        let Host::Name(name) = &self.host else { return true };
        if name.is_empty() || name.len() > NAME_CHARS_MAX {
            return false;
        }
        let cannot_be_public = !name.contains('.') || PRIVATE_DOMAINS.iter().any(|domain| name.ends_with(domain));
        cannot_be_public
            || allowed.iter().any(|one| match one {
                AllowedHost::Any => true,
                AllowedHost::Name(listed) => listed == name,
                AllowedHost::Below(domain) => name.ends_with(domain.as_str()),
            })
    }

    /// Whether a page of this origin (`scheme://host[:port]`) came from here.
    ///
    /// A port is left out where it is the scheme's own. Which scheme the caller used is not known here: a proxy may
    /// have taken the TLS off.
    pub fn is_origin(&self, origin: &str) -> bool {
        let Some((scheme, rest)) = origin.split_once("://") else { return false };
        let usual = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let spoken = |port: Option<u16>| port.filter(|port| *port != usual);
        Self::parse(rest).is_some_and(|page| page.host == self.host && spoken(page.port) == spoken(self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ours(host: &str, allowed: &[&str]) -> Option<bool> {
        let allowed: Vec<AllowedHost> = allowed.iter().map(|text| text.parse().unwrap()).collect();
        Some(Addressee::parse(host)?.is_ours(&allowed))
    }

    #[test]
    fn addresses_and_names_that_public_dns_cannot_hold_are_always_answered() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8800",
            "[::1]:8800",
            "[2001:db8::1]",
            "192.168.0.5:8800",
            "localhost:8800",
            "LOCALHOST",
            "localhost.",
            "forge.localhost",
            "clawdforge:8088",
            "my_app-1:80",
            "host.docker.internal:8800",
        ] {
            assert_eq!(is_ours(host, &[]), Some(true), "{host}");
        }
    }

    #[test]
    fn other_names_are_answered_only_when_they_are_listed() {
        for (host, allowed, ours) in [
            ("evil.example", &[][..], false),
            ("forge.example.com", &[], false),
            ("forge.example.com", &["forge.example.com"], true),
            ("FORGE.example.com.:8443", &["Forge.Example.Com"], true),
            ("other.example.com", &["forge.example.com"], false),
            ("a.b.example.com", &["*.example.com"], true),
            ("example.com", &["*.example.com"], false),
            ("evilexample.com", &["*.example.com"], false),
            ("anything.example", &["*"], true),
            ("127.0.0.1.evil.example", &[], false),
            ("localhost.evil.example", &[], false),
            ("evillocalhost.example", &[], false),
            ("printer.local", &[], false),
            // Numbers that browsers take for addresses are names here, and not ours.
            ("127.1", &[], false),
            ("0x7f.0.0.1", &[], false),
        ] {
            assert_eq!(is_ours(host, allowed), Some(ours), "{host} with {allowed:?}");
        }
    }

    #[test]
    fn what_is_no_host_is_nobody() {
        for host in
            ["", "user@localhost", "a b", "local/host", "[::1", "localhost:port", "localhost:70000", "[evil.example]"]
        {
            assert_eq!(is_ours(host, &["*"]), None, "{host:?}");
        }
    }

    #[test]
    fn a_page_is_ours_when_host_and_port_are_the_same() {
        for (origin, host, same) in [
            ("http://127.0.0.1:8800", "127.0.0.1:8800", true),
            ("http://127.0.0.1:3000", "127.0.0.1:8800", false),
            ("http://127.0.0.1", "127.0.0.1:8800", false),
            ("http://localhost:8800", "127.0.0.1:8800", false),
            ("https://forge.example.com", "forge.example.com", true),
            ("https://forge.example.com", "forge.example.com:443", true),
            ("http://forge.example.com:80", "forge.example.com", true),
            ("https://evil.example", "forge.example.com", false),
            ("null", "127.0.0.1:8800", false),
            ("", "127.0.0.1:8800", false),
            ("chrome-extension://abc", "abc", false),
            ("file://", "localhost", false),
            ("http://[::1]:8800", "[0:0::1]:8800", true),
        ] {
            assert_eq!(Addressee::parse(host).unwrap().is_origin(origin), same, "{origin} to {host}");
        }
    }

    #[test]
    fn the_list_takes_names_and_nothing_else() {
        for text in ["forge.example.com", "*.example.com", "*", "nas"] {
            assert_eq!(text.parse::<AllowedHost>().map(|host| host.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "http://forge", "forge:8800", "*.", "**", "a..b", "*.*.x", "fo rge", &"a".repeat(254)] {
            assert!(text.parse::<AllowedHost>().is_err(), "{text:?}");
        }
    }
}
