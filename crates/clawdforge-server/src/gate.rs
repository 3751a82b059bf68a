//! The first gate: which addresses may speak to the service at all.
//!
//! Loopback always may. Everybody else must be in the operator's list. Behind a trusted proxy the
//! address that counts is the nearest one in `X-Forwarded-For` that is not itself a trusted proxy; from
//! anybody else the header means nothing.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use ipnet::IpNet;

use crate::answer::Refusal;
use crate::{App, ServerOptions};

/// The address that counts for a request, put beside it by the gate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallerAddress(pub IpAddr);

/// Lets a request in or refuses it by address.
pub(crate) async fn gate(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let address = caller(peer.ip(), request.headers(), &app.options.trusted_proxies)?;
    if !allows(&app.options.allow_cidrs, address) {
        return Err(Refusal::AddressNotAllowed(address));
    }
    request.extensions_mut().insert(CallerAddress(address));
    Ok(next.run(request).await)
}

/// Whether anybody at this peer may be let in: the address itself, or callers behind a proxy there.
pub(crate) fn may_connect(options: &ServerOptions, peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    allows(&options.allow_cidrs, peer) || contains(&options.trusted_proxies, peer)
}

/// Whether a list lets an address in; loopback always may.
pub(crate) fn allows(cidrs: &[IpNet], address: IpAddr) -> bool {
    address.is_loopback() || contains(cidrs, address)
}

fn contains(cidrs: &[IpNet], address: IpAddr) -> bool {
    cidrs.iter().any(|cidr| cidr.contains(&address))
}

/// The address that counts.
fn caller(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Result<IpAddr, Refusal> {
    let mut address = peer.to_canonical();
    if !contains(trusted, address) {
        return Ok(address);
    }
    let mut hops = Vec::new();
    for value in headers.get_all("x-forwarded-for") {
        let value = value.to_str().map_err(|_| Refusal::ForwardedUnreadable)?;
        hops.extend(value.split(',').map(str::trim).filter(|hop| !hop.is_empty()));
    }
    for hop in hops.iter().rev() {
        address = parse_hop(hop).ok_or(Refusal::ForwardedUnreadable)?;
        if !contains(trusted, address) {
            break;
        }
    }
    Ok(address)
}

/// An address as proxies write it: plain, with a port, or in brackets.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bracketed = hop.strip_prefix('[').and_then(|rest| rest.split(']').next());
    let plain = bracketed.unwrap_or(hop).parse::<IpAddr>().ok();
    plain.or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip())).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ask(peer: &str, forwarded: &[&str], trusted: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        caller(peer.parse().unwrap(), &headers, &nets(trusted)).ok().map(|address| address.to_string())
    }

    #[test]
    fn loopback_is_always_let_in_and_others_only_by_the_list() {
        let list = nets(&["192.168.0.0/24", "fd00::/8"]);
        for (address, let_in) in
            [("127.0.0.1", true), ("::1", true), ("192.168.0.9", true), ("192.168.1.9", false), ("fd00::1", true)]
        {
            assert_eq!(allows(&list, address.parse().unwrap()), let_in, "{address}");
        }
        assert!(!allows(&[], "10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn proxies_and_those_who_are_let_in_are_no_strangers() {
        let options = ServerOptions {
            allow_cidrs: nets(&["192.168.0.0/24"]),
            trusted_proxies: nets(&["10.0.0.1/32"]),
            allowed_hosts: Vec::new(),
            sign_in_failures_max: 20,
            admin_token_guessable: false,
            default_model: String::new(),
            default_timeout: std::time::Duration::ZERO,
            timeout_max: std::time::Duration::ZERO,
        };
        for (peer, known) in [
            ("127.0.0.1", true),
            ("::ffff:192.168.0.9", true),
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(may_connect(&options, peer.parse().unwrap()), known, "{peer}");
        }
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_counts_as_ipv4() {
        assert_eq!(ask("::ffff:192.168.0.9", &[], &[]).as_deref(), Some("192.168.0.9"));
        assert_eq!(ask("::ffff:127.0.0.1", &[], &[]).as_deref(), Some("127.0.0.1"));
        assert_eq!(ask("10.0.0.1", &["::ffff:8.8.8.8"], &["10.0.0.1/32"]).as_deref(), Some("8.8.8.8"));
    }

    #[test]
    fn a_forwarded_header_counts_only_from_a_trusted_proxy() {
        assert_eq!(ask("10.0.0.7", &["127.0.0.1"], &["10.0.0.1/32"]).as_deref(), Some("10.0.0.7"));
        assert_eq!(ask("10.0.0.1", &["192.168.0.9"], &["10.0.0.1/32"]).as_deref(), Some("192.168.0.9"));
        assert_eq!(ask("10.0.0.1", &[], &["10.0.0.1/32"]).as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn what_a_caller_writes_into_the_header_itself_is_passed_over() {
        let trusted = ["10.0.0.0/24"];
        assert_eq!(ask("10.0.0.1", &["127.0.0.1, 8.8.8.8"], &trusted).as_deref(), Some("8.8.8.8"));
        assert_eq!(ask("10.0.0.1", &["127.0.0.1", "8.8.8.8, 10.0.0.2"], &trusted).as_deref(), Some("8.8.8.8"));
        assert_eq!(ask("10.0.0.1", &["evil, 8.8.8.8"], &trusted).as_deref(), Some("8.8.8.8"));
        assert_eq!(ask("10.0.0.1", &["8.8.8.8, evil"], &trusted), None);
        assert_eq!(ask("10.0.0.1", &["[2001:db8::1]:443"], &trusted).as_deref(), Some("2001:db8::1"));
        assert_eq!(ask("10.0.0.1", &["1.2.3.4:5678"], &trusted).as_deref(), Some("1.2.3.4"));
    }
}
