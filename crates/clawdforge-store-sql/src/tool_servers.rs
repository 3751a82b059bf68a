//! Tool servers as JSON in a column, and back.

use clawdforge_core::secret::ExposeSecret;
use clawdforge_core::tools::{NamedSecret, Remote, ToolServer, Transport};
use clawdforge_store::ReadError;
use serde::{Deserialize, Serialize};

/// What stands for tokens whose apps may give no tool servers.
pub(crate) const NONE: &str = "none";

#[derive(Serialize, Deserialize)]
struct Kept {
    name: String,
    #[serde(flatten)]
    transport: KeptTransport,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum KeptTransport {
    Stdio { command: String, args: Vec<String>, env: Vec<(String, String)> },
    Http { url: String, headers: Vec<(String, String)> },
    Sse { url: String, headers: Vec<(String, String)> },
}

/// The text that is kept.
pub(crate) fn to_text(servers: &[ToolServer]) -> Result<String, serde_json::Error> {
    let kept: Vec<Kept> = servers.iter().map(kept).collect();
    serde_json::to_string(&kept)
}

fn kept(server: &ToolServer) -> Kept {
    let pairs = |named: &[NamedSecret]| {
        named.iter().map(|one| (one.name.clone(), one.value.expose_secret().to_owned())).collect::<Vec<_>>()
    };
    let transport = match &server.transport {
        Transport::Stdio { command, args, env } => {
            KeptTransport::Stdio { command: command.clone(), args: args.clone(), env: pairs(env) }
        }
        Transport::Remote { kind, url, headers } => {
            let (url, headers) = (url.clone(), pairs(headers));
            match kind {
                Remote::Http => KeptTransport::Http { url, headers },
                Remote::Sse => KeptTransport::Sse { url, headers },
            }
        }
    };
    Kept { name: server.name.clone(), transport }
}

/// What was kept. An error does not repeat what it found: there are secrets in it.
pub(crate) fn from_text(text: &str) -> Result<Vec<ToolServer>, ReadError> {
    let kept: Vec<Kept> = serde_json::from_str(text)
        .map_err(|error| ReadError(format!("a strange `tool_servers` at its byte {}", error.column())))?;
    Ok(kept.into_iter().map(server).collect())
}

fn server(kept: Kept) -> ToolServer {
    let named = |pairs: Vec<(String, String)>| {
        pairs.into_iter().map(|(name, value)| NamedSecret { name, value: value.into() }).collect::<Vec<_>>()
    };
    let remote = |kind, url, headers| Transport::Remote { kind, url, headers: named(headers) };
    let transport = match kept.transport {
        KeptTransport::Stdio { command, args, env } => Transport::Stdio { command, args, env: named(env) },
        KeptTransport::Http { url, headers } => remote(Remote::Http, url, headers),
        KeptTransport::Sse { url, headers } => remote(Remote::Sse, url, headers),
    };
    ToolServer { name: kept.name, transport }
}
