//! Tool servers of a conversation, in the words of the protocol.

use agent_client_protocol::v1::schema::{
    EnvVariable, HttpHeader, McpCapabilities, McpServer, McpServerHttp, McpServerSse, McpServerStdio,
};
use clawdforge_core::agent::{Failure, FailureKind};
use clawdforge_core::secret::ExposeSecret;
use clawdforge_core::tools::{NamedSecret, Remote, ToolServer, Transport};

/// What the agent is told of them.
pub(crate) fn told(servers: &[ToolServer]) -> Vec<McpServer> {
    servers.iter().map(one).collect()
}

fn one(server: &ToolServer) -> McpServer {
    let name = server.name.clone();
    let value = |one: &NamedSecret| one.value.expose_secret().to_owned();
    match &server.transport {
        Transport::Stdio { command, args, env } => {
            let env = env.iter().map(|one| EnvVariable::new(one.name.clone(), value(one))).collect();
            McpServer::Stdio(McpServerStdio::new(name, command).args(args.clone()).env(env))
        }
        Transport::Remote { kind, url, headers } => {
            let headers = headers.iter().map(|one| HttpHeader::new(one.name.clone(), value(one))).collect();
            match kind {
                Remote::Http => McpServer::Http(McpServerHttp::new(name, url).headers(headers)),
                Remote::Sse => McpServer::Sse(McpServerSse::new(name, url).headers(headers)),
            }
        }
    }
}

/// Whether an agent takes them, by what it declared. Programs every agent must take.
pub(crate) fn accept(agent: &str, servers: &[ToolServer], offered: &McpCapabilities) -> Result<(), Failure> {
    for server in servers {
        let Transport::Remote { kind, .. } = &server.transport else { continue };
        let is_offered = match kind {
            Remote::Http => offered.http,
            Remote::Sse => offered.sse,
        };
        if !is_offered {
            let (name, kind) = (&server.name, kind.as_str());
            let message = format!(
                "{agent} takes no tool servers over {kind}, as {name} is; open a session with one over stdio, or with another agent"
            );
            return Err(Failure::new(FailureKind::ToolServerRefused, message));
        }
    }
    Ok(())
}
