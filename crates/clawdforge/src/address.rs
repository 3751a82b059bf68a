//! Where this machine reaches a service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The address under which this machine reaches a service that listens on `address`: "any address" is
/// none to connect to.
#[must_use]
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_becomes_one_to_connect_to() {
        let show = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(show("0.0.0.0:8800"), "127.0.0.1:8800");
        assert_eq!(show("[::]:8800"), "[::1]:8800");
        assert_eq!(show("192.168.0.5:1"), "192.168.0.5:1");
    }
}
