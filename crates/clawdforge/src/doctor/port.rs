//! The address: free, or already a clawdforge's; else whose.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use clawdforge_api::legacy::Health;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Check, holder};
use crate::address::reachable;

/// How long a connection and its answer may take: it is this machine.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(3);

/// Bytes read of an answer, which has some hundred.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Who is at an address.
#[derive(Debug)]
pub enum Listener {
    /// Nobody, and we may be.
    Nobody,
    /// A clawdforge.
    Ours {
        /// What it says of its agent.
        claude: Option<String>,
    },
    /// Somebody else; their process, where it can be seen.
    Other {
        /// Number and name.
        holder: Option<String>,
    },
    /// Nobody, and we may not either.
    Refused(io::Error),
}

/// Asks the address; where nobody answers, tries to listen there for a moment.
pub async fn look(address: SocketAddr) -> Listener {
    if address.port() == 0 {
        return try_to_listen(address);
    }
    match timeout(ANSWER_WAIT_MAX, ask(reachable(address))).await {
        Ok(Ok(Some(health))) => Listener::Ours { claude: health.claude_version },
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => try_to_listen(address),
        // Somebody took the connection, or holds the port without taking any.
        Ok(Ok(None) | Err(_)) | Err(_) => match try_to_listen(address) {
            Listener::Other { holder: Some(holder) } if holder.contains("(clawdforge)") => {
                Listener::Ours { claude: None }
            }
            other => other,
        },
    }
}

/// What is to be said about it. `is_in_use` tells whether a service has the data directory: one that answers and has another is
/// in the way.
pub fn check(address: SocketAddr, listener: &Listener, is_in_use: bool) -> Check {
    let name = "port";
    match listener {
        Listener::Nobody => Check::ok(name, format!("{address} is free")),
        Listener::Ours { .. } if !is_in_use => Check::fail(
            name,
            format!("{address} is taken by a clawdforge that serves another data directory"),
            "stop it, choose another address with --listen, or give the --data-dir of that service",
        ),
        Listener::Ours { claude: Some(version) } => {
            Check::ok(name, format!("a running service answers at {address} (its claude: {version})"))
        }
        Listener::Ours { claude: None } => Check::ok(name, format!("a running service holds {address}")),
        Listener::Other { holder } => {
            let who = holder.as_deref().unwrap_or("a process of another user");
            Check::fail(
                name,
                format!("{address} is taken by {who}"),
                "stop it, or choose another address with --listen",
            )
        }
        Listener::Refused(error) => {
            let todo = match error.kind() {
                ErrorKind::AddrNotAvailable => {
                    "choose an address of this machine with --listen (`ip address` shows them)"
                }
                ErrorKind::PermissionDenied => "choose a port from 1024 on with --listen",
                _ => "choose another address with --listen",
            };
            Check::fail(name, format!("nobody may listen on {address}: {error}"), todo)
        }
    }
}

fn try_to_listen(address: SocketAddr) -> Listener {
    match TcpListener::bind(address) {
        Ok(_) => Listener::Nobody,
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Listener::Other { holder: holder::of_port(address.port()) }
        }
        Err(error) => Listener::Refused(error),
    }
}

/// `GET /healthz`; `None` where the answer is not a clawdforge's.
async fn ask(address: SocketAddr) -> io::Result<Option<Health>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(health_in(&answer))
}

fn health_in(answer: &[u8]) -> Option<Health> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let is_ok = head.split_whitespace().nth(1) == Some("200");
    serde_json::from_str(body).ok().filter(|_| is_ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    /// A listener that answers one connection with these bytes.
    async fn answering(answer: &'static str) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            drop(stream);
            // The port stays taken until the test is over.
            std::future::pending::<()>().await;
        };
        #[expect(clippy::disallowed_methods, reason = "the other side of this test; it ends with the runtime")]
        tokio::spawn(serve);
        address
    }

    #[tokio::test]
    async fn a_clawdforge_is_recognised_by_its_health() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n\
                      {\"ok\":true,\"claude_present\":true,\"claude_version\":\"2.1.330 (Claude Code)\"}";
        let address = answering(answer).await;
        let found = look(address).await;
        let ours = check(address, &found, true);
        assert_eq!(ours.verdict, Verdict::Ok);
        assert!(ours.what.ends_with("(its claude: 2.1.330 (Claude Code))"), "{}", ours.what);
        let another = check(address, &found, false);
        assert_eq!(another.verdict, Verdict::Fail);
        assert!(another.what.contains("another data directory"), "{}", another.what);
    }

    #[tokio::test]
    async fn somebody_else_is_named() {
        let address = answering("HTTP/1.1 200 OK\r\n\r\n<html>").await;
        let check = check(address, &look(address).await, false);
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.what.contains(&format!("process {} (", std::process::id())), "{}", check.what);
    }

    #[tokio::test]
    async fn a_free_port_is_fine_and_a_foreign_address_is_not() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(look(free).await, Listener::Nobody));
        // A documentation address (RFC 5737): no machine has it.
        let foreign: SocketAddr = "192.0.2.1:8800".parse().unwrap();
        let check = check(foreign, &try_to_listen(foreign), false);
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.todo.unwrap().contains("of this machine"));
    }

    #[test]
    fn only_a_good_answer_of_the_right_shape_counts() {
        assert!(
            health_in(b"HTTP/1.1 503 no\r\n\r\n{\"ok\":true,\"claude_present\":true,\"claude_version\":null}")
                .is_none()
        );
        assert!(health_in(b"HTTP/1.1 200 OK\r\n\r\n{\"ok\":true}").is_none());
        assert!(health_in(b"\xff").is_none());
    }
}
