//! What a sandboxed program may, as it travels to the launcher: fields of text, each ended by a zero byte,
//! which no path can hold.
//!
//! It is read by the binary that wrote it, so there is one version of it; what is not understood is refused,
//! because a rule that is lost in either direction would be a hole or a riddle.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use super::{Identity, Ports};

/// Bytes of an encoded policy: some hundred paths of the kernel's greatest length.
pub(crate) const POLICY_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The last field, without which a policy was cut off.
const END: &[u8] = b"end";

/// Everything the launcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The process whose end shall mean the program's end.
    pub server: i32,
    /// The user to become.
    pub identity: Option<Identity>,
    /// What to hide, where the program gets namespaces of its own.
    pub hidden: Option<PathBuf>,
    /// Ways over links that lead to what may be reached and shall go on to, where something is hidden.
    pub ways: Vec<PathBuf>,
    /// The ports of TCP that may be used; all of them where there is no list.
    pub ports: Option<Ports>,
    /// Whether these ports are the only ways out of a network of its own.
    pub own_network: bool,
    /// What may be reached; everything else may not.
    pub rules: Vec<Rule>,
}

/// A file, or a directory with all below it, that may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub path: PathBuf,
    pub access: Access,
}

/// What may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// Reading, listing, running.
    Read,
    /// Reading and writing what is there, as of a device.
    Use,
    /// Everything.
    Write,
}

impl Access {
    const ALL: [(Self, &'static str); 3] = [(Self::Read, "read"), (Self::Use, "use"), (Self::Write, "write")];

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(access, _)| *access == self).map_or("", |(_, name)| name)
    }
}

/// Why bytes are no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the policy of a sandbox is damaged")]
pub(crate) struct BadPolicy;

impl Policy {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 * 1024);
        let mut field = |name: &str, value: &OsStr| {
            for part in [name.as_bytes(), value.as_bytes()] {
                bytes.extend_from_slice(part);
                bytes.push(0);
            }
        };
        field("server", OsStr::new(&self.server.to_string()));
        if let Some(identity) = self.identity {
            field("identity", OsStr::new(&identity.number().to_string()));
        }
        if let Some(hidden) = &self.hidden {
            field("hidden", hidden.as_os_str());
        }
        if let Some(Ports { connect, bind }) = &self.ports {
            // Tells a list of none from no list.
            field("ports", OsStr::new(""));
            for (name, ports) in [("connect", connect), ("bind", bind)] {
                for port in ports {
                    field(name, OsStr::new(&port.to_string()));
                }
            }
        }
        if self.own_network {
            field("network", OsStr::new(""));
        }
        for way in &self.ways {
            field("way", way.as_os_str());
        }
        for rule in &self.rules {
            field(rule.access.as_str(), rule.path.as_os_str());
        }
        bytes.extend_from_slice(END);
        bytes.push(0);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadPolicy> {
        let mut fields = bytes.split(|byte| *byte == 0);
        let mut next = || fields.next().ok_or(BadPolicy);
        let (mut server, mut identity, mut hidden, mut ports) = (None, None, None, None);
        let (mut ways, mut rules, mut own_network) = (Vec::new(), Vec::new(), false);
        loop {
            let name = next()?;
            if name == END {
                break;
            }
            let value = next()?;
            let number = || std::str::from_utf8(value).map_err(|_| BadPolicy);
            match name {
                b"server" => server = Some(number()?.parse().map_err(|_| BadPolicy)?),
                b"identity" => {
                    let number = number()?.parse().map_err(|_| BadPolicy)?;
                    identity = Some(Identity::new(number).ok_or(BadPolicy)?);
                }
                b"hidden" => hidden = Some(path(value)),
                b"ports" if value.is_empty() => ports = Some(Ports::default()),
                b"connect" | b"bind" => {
                    let Ports { connect, bind } = ports.as_mut().ok_or(BadPolicy)?;
                    let list = if name == b"bind" { bind } else { connect };
                    list.push(number()?.parse().map_err(|_| BadPolicy)?);
                }
                b"network" if value.is_empty() => own_network = true,
                b"way" => ways.push(path(value)),
                other => {
                    let known = Access::ALL.iter().find(|(_, name)| name.as_bytes() == other).ok_or(BadPolicy)?;
                    rules.push(Rule { path: path(value), access: known.0 });
                }
            }
        }
        // The last zero byte leaves one empty field behind it, and nothing else.
        if next()? != b"" || next().is_ok() {
            return Err(BadPolicy);
        }
        Ok(Self { server: server.ok_or(BadPolicy)?, identity, hidden, ways, ports, own_network, rules })
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            server: 4242,
            identity: Identity::new(20_001),
            hidden: Some(path(b"/data \xff")),
            ways: vec![path(b"/way")],
            ports: Some(Ports { connect: vec![443, 1], bind: vec![0] }),
            own_network: true,
            rules: vec![
                Rule { path: path(b"/usr"), access: Access::Read },
                Rule { path: path(b"/w \n\xff"), access: Access::Write },
                Rule { path: path(b"/dev/null"), access: Access::Use },
            ],
        }
    }

    #[test]
    fn a_policy_arrives_as_it_was_sent() {
        assert_eq!(Policy::decode(&policy().encode()), Ok(policy()));
        for ports in [None, Some(Ports::default())] {
            let plain = Policy {
                identity: None,
                hidden: None,
                ways: Vec::new(),
                ports,
                own_network: false,
                rules: Vec::new(),
                ..policy()
            };
            assert_eq!(Policy::decode(&plain.encode()), Ok(plain));
        }
    }

    #[test]
    fn a_policy_that_was_cut_off_or_is_not_understood_is_refused() {
        let whole = policy().encode();
        for length in 0..whole.len() {
            assert_eq!(Policy::decode(&whole[..length]), Err(BadPolicy), "{length}");
        }
        let longer = [whole.as_slice(), b"x"].concat();
        for bytes in [
            longer.as_slice(),
            b"end\0",
            b"server\0x\0end\0",
            b"server\x001\0identity\x000\0end\0",
            b"server\x001\0rea\0/\0end\0",
            b"server\x001\0connect\x00443\0end\0",
            b"server\x001\0ports\0\0connect\x0065536\0end\0",
        ] {
            assert_eq!(Policy::decode(bytes), Err(BadPolicy), "{bytes:?}");
        }
    }
}
