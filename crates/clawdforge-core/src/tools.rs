//! Tool servers (of the Model Context Protocol) that the caller of a conversation gives its agent.
//!
//! What a server is called with may hold secrets: nothing of it but names can be printed.

use std::fmt;

use subtle::ConstantTimeEq;

use crate::secret::{ExposeSecret, SecretString};

/// One tool server.
#[derive(Clone, PartialEq, Eq)]
pub struct ToolServer {
    /// Its name among those of the conversation.
    pub name: String,
    /// How the agent gets to it.
    pub transport: Transport,
}

/// How an agent gets to a tool server.
#[derive(Clone, PartialEq, Eq)]
pub enum Transport {
    /// A program, which the agent starts and speaks to over its standard streams.
    Stdio {
        /// The program: a path, or a name to look for.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Variables it gets.
        env: Vec<NamedSecret>,
    },
    /// A server that the agent connects to, as its network rule lets it.
    Remote {
        /// The way it is spoken to.
        kind: Remote,
        /// Where it is.
        url: String,
        /// What every request to it carries.
        headers: Vec<NamedSecret>,
    },
}

/// How a server that is connected to is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// Streamable HTTP.
    Http,
    /// HTTP with server-sent events, the older way.
    Sse,
}

impl Remote {
    /// Every way with its name on the wire, in the store and in the protocol.
    pub const ALL: [(&'static str, Self); 2] = [("http", Self::Http), ("sse", Self::Sse)];

    /// The way's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Sse => "sse",
        }
    }
}

/// A variable or a header.
#[derive(Clone)]
pub struct NamedSecret {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: SecretString,
}

impl PartialEq for NamedSecret {
    fn eq(&self, other: &Self) -> bool {
        let same: bool = self.value.expose_secret().as_bytes().ct_eq(other.value.expose_secret().as_bytes()).into();
        self.name == other.name && same
    }
}

impl Eq for NamedSecret {}

impl fmt::Debug for NamedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

impl fmt::Debug for ToolServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ToolServer({}, {:?})", self.name, self.transport)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio { env, .. } => write!(f, "stdio {env:?}"),
            Self::Remote { kind, headers, .. } => write!(f, "{} {headers:?}", kind.as_str()),
        }
    }
}

/// Whether a text can be the name of a tool server: agents make names of tools of it.
#[must_use]
pub fn is_server_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_tool_server_nothing_but_names_can_be_printed() {
        let secret = |name: &str| NamedSecret { name: name.to_owned(), value: "canary".to_owned().into() };
        let stdio = Transport::Stdio {
            command: "canary".to_owned(),
            args: vec!["--key=canary".to_owned()],
            env: vec![secret("TOKEN")],
        };
        let remote = Transport::Remote {
            kind: Remote::Http,
            url: "https://canary@example.org".to_owned(),
            headers: vec![secret("authorization")],
        };
        let servers = [stdio, remote].map(|transport| ToolServer { name: "sum".to_owned(), transport });
        let shown = format!("{servers:?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(shown, "[ToolServer(sum, stdio [TOKEN=…]), ToolServer(sum, http [authorization=…])]");
    }
}
