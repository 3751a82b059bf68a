//! From a host that may be asked for to a connection: looked up once, judged, connected to.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use async_trait::async_trait;
use clawdforge_core::network::{Host, Permit, closed, plain};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::limits::{ADDRESSES_MAX, CONNECT_WAIT_MAX, LOOK_UP_WAIT_MAX};

/// The network as the proxy sees it.
#[async_trait]
pub trait Outside: Send + Sync {
    /// The addresses that a name stands for right now.
    ///
    /// # Errors
    /// When nobody knows any.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;

    /// Connects to an address.
    ///
    /// # Errors
    /// When nobody takes the connection.
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream>;

    /// Whether an address is one of this host's own.
    fn is_own(&self, address: IpAddr) -> bool;
}

/// The network of this machine.
#[derive(Debug, Clone, Copy)]
pub struct System;

#[async_trait]
impl Outside for System {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        // The port is not used.
        Ok(lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }

    /// Only to an address of one's own can a socket be bound; asked at every connection, as addresses come and
    /// go. Where the system lets sockets be bound to any address, all are taken for own, and closed.
    fn is_own(&self, address: IpAddr) -> bool {
        UdpSocket::bind((address, 0)).is_ok()
    }
}

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoDial {
    /// Its address is closed; what it is.
    Closed(&'static str),
    /// It could not be reached; a sentence for the agent.
    Unreachable(String),
}

/// Connects to a host, as far as its permit leads.
pub(crate) async fn dial(outside: &dyn Outside, host: &Host, port: u16, permit: Permit) -> Result<TcpStream, NoDial> {
    let addresses = match host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => match timeout(LOOK_UP_WAIT_MAX, outside.resolve(name)).await {
            Ok(Ok(found)) if !found.is_empty() => found,
            Ok(_) => return Err(NoDial::Unreachable(format!("{host} has no address"))),
            Err(_) => return Err(NoDial::Unreachable(format!("looking up {host} took too long"))),
        },
    };
    let mut refused = None;
    let mut open = Vec::new();
    for address in addresses.into_iter().map(plain) {
        let what = closed(address).or_else(|| outside.is_own(address).then_some("an address of this host"));
        match (permit, what) {
            (Permit::Public, Some(what)) => refused = Some(what),
            (Permit::Anywhere, _) | (Permit::Public, None) => open.push(address),
        }
    }
    if let (true, Some(what)) = (open.is_empty(), refused) {
        return Err(NoDial::Closed(what));
    }
    let mut last = format!("{host}:{port} cannot be reached");
    for address in open.into_iter().take(ADDRESSES_MAX) {
        match timeout(CONNECT_WAIT_MAX, outside.connect(SocketAddr::new(address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = format!("{host}:{port} cannot be reached: {error}"),
            Err(_) => last = format!("{host}:{port} did not answer in time"),
        }
    }
    Err(NoDial::Unreachable(last))
}
