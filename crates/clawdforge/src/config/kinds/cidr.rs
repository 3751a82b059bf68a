//! Address ranges as operators write them.
//!
//! Invariant: no range that comes out of here is an IPv4-mapped IPv6 one. The server compares
//! addresses after unmapping them, so a mapped range would silently match nobody.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// Ranges one option may list; each is compared with the address of every request.
pub const RANGES_MAX: usize = 1_024;

/// Bits of an IPv6 address before the IPv4 address mapped into it.
const MAPPED_PREFIX_BITS: u8 = 96;

/// Reads all ranges or says which text is none. The error completes the sentence "`key` …".
pub fn parse_all(texts: &[&str]) -> Result<Vec<IpNet>, String> {
    if texts.len() > RANGES_MAX {
        return Err(format!("lists {} address ranges; {RANGES_MAX} are allowed", texts.len()));
    }
    let mut ranges = Vec::with_capacity(texts.len());
    for text in texts {
        let range = parse(text).ok_or_else(|| {
            format!("must list address ranges such as `10.0.0.0/8`, or single addresses; `{text}` is neither")
        })?;
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    Ok(ranges)
}

/// A range, or an address as a range of one; bits behind the prefix are cleared.
fn parse(text: &str) -> Option<IpNet> {
    let range = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    Some(unmapped(range).trunc())
}

fn unmapped(range: IpNet) -> IpNet {
    let mapped = |address: Ipv6Addr| address.to_ipv4_mapped();
    match range {
        IpNet::V6(v6) if v6.prefix_len() >= MAPPED_PREFIX_BITS => mapped(v6.addr())
            .and_then(|v4| Ipv4Net::new(v4, v6.prefix_len() - MAPPED_PREFIX_BITS).ok())
            .map_or(range, IpNet::V4),
        IpNet::V4(_) | IpNet::V6(_) => range,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(texts: &[&str]) -> Result<Vec<String>, String> {
        parse_all(texts).map(|ranges| ranges.iter().map(IpNet::to_string).collect())
    }

    #[test]
    fn a_bare_address_is_a_range_of_one() {
        assert_eq!(shown(&["10.1.2.3", "fd00::1"]).unwrap(), ["10.1.2.3/32", "fd00::1/128"]);
    }

    #[test]
    fn bits_behind_the_prefix_are_cleared_and_repetitions_dropped() {
        assert_eq!(shown(&["192.168.0.7/24", "192.168.0.0/24"]).unwrap(), ["192.168.0.0/24"]);
    }

    #[test]
    fn a_mapped_range_becomes_the_ipv4_range_it_means() {
        assert_eq!(shown(&["::ffff:10.0.0.1", "::ffff:10.0.0.0/104"]).unwrap(), ["10.0.0.1/32", "10.0.0.0/8"]);
    }

    #[test]
    fn what_is_no_range_is_named() {
        for bad in ["10.0.0.0/33", "localhost", "10.0.0", "/8", "10.0.0.0/-1"] {
            let error = shown(&["10.0.0.0/8", bad]).unwrap_err();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }

    #[test]
    fn more_ranges_than_a_request_should_be_compared_with_are_refused() {
        assert!(shown(&vec!["10.0.0.1"; RANGES_MAX + 1]).is_err());
    }
}
