//! Which addresses are public, in whatever disguise they come.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address without the disguise of an IPv4 address as an IPv6 one.
#[must_use]
pub fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// What an address is that agents do not reach unless it is named: a phrase for "it is …". `None` for public
/// addresses.
///
/// That an address is one of this host's own cannot be told from it; whoever connects must ask the host.
#[must_use]
pub fn closed(address: IpAddr) -> Option<&'static str> {
    match plain(address) {
        IpAddr::V4(v4) => closed_v4(v4),
        IpAddr::V6(v6) => closed_v6(v6),
    }
}

/// Ranges of IPv4 that are not public, by the registry of special addresses, with what they are.
const CLOSED_V4: [([u8; 4], u32, &str); 18] = [
    ([0, 0, 0, 0], 8, "an address of this host"),
    ([10, 0, 0, 0], 8, "a private address"),
    ([100, 64, 0, 0], 10, "an address behind a carrier's translation"),
    ([127, 0, 0, 0], 8, "a loopback address"),
    // Where clouds answer for a machine's credentials.
    ([169, 254, 0, 0], 16, "a link-local address"),
    // Azure's answer for a machine, in the middle of public addresses.
    ([168, 63, 129, 16], 32, "the address of a cloud's own services"),
    ([172, 16, 0, 0], 12, "a private address"),
    ([192, 0, 0, 0], 24, "a special address"),
    ([192, 0, 2, 0], 24, "an address for documentation"),
    ([192, 31, 196, 0], 24, "a special address"),
    ([192, 52, 193, 0], 24, "a special address"),
    ([192, 88, 99, 0], 24, "an address of a relay"),
    ([192, 168, 0, 0], 16, "a private address"),
    ([198, 18, 0, 0], 15, "an address for measurements"),
    ([198, 51, 100, 0], 24, "an address for documentation"),
    ([203, 0, 113, 0], 24, "an address for documentation"),
    ([224, 0, 0, 0], 4, "a multicast address"),
    ([240, 0, 0, 0], 4, "a reserved address"),
];

fn closed_v4(address: Ipv4Addr) -> Option<&'static str> {
    let within = |(start, bits, _): &&([u8; 4], u32, &str)| {
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        address.to_bits() & mask == Ipv4Addr::from(*start).to_bits() & mask
    };
    CLOSED_V4.iter().find(within).map(|(.., what)| *what)
}

/// Ranges of IPv6 within the public ones (`2000::/3`) that are not public, or lead elsewhere.
const CLOSED_V6: [([u16; 2], u32, &str); 4] = [
    // Among them Teredo, which holds an IPv4 address.
    ([0x2001, 0], 23, "a special address"),
    ([0x2001, 0xdb8], 32, "an address for documentation"),
    ([0x2002, 0], 16, "an IPv4 address in disguise"),
    ([0x3fff, 0], 20, "an address for documentation"),
];

fn closed_v6(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = segments {
        // The well-known translation to IPv4: what it is translated to counts.
        return closed_v4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)));
    }
    if segments[0] & 0xe000 != 0x2000 {
        return Some(match segments {
            [0, 0, 0, 0, 0, 0, 0, 1] => "a loopback address",
            [0, 0, 0, 0, 0, 0, 0, 0] => "an address of this host",
            [first, ..] if first & 0xfe00 == 0xfc00 => "a private address",
            [first, ..] if first & 0xffc0 == 0xfe80 => "a link-local address",
            [first, ..] if first & 0xff00 == 0xff00 => "a multicast address",
            _ => "a special address",
        });
    }
    let high = (u32::from(segments[0]) << 16) | u32::from(segments[1]);
    let within = |([a, b], bits, _): &&([u16; 2], u32, &str)| {
        let mask = u32::MAX << (32 - bits);
        high & mask == ((u32::from(*a) << 16) | u32::from(*b)) & mask
    };
    CLOSED_V6.iter().find(within).map(|(.., what)| *what)
}
