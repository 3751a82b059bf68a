//! Failed sign-ins: how many an address may have in a minute, and what the ledger is told of them.
//!
//! A generated token has 256 random bits. Nobody guesses one, so it is always looked at, and an app with the right
//! one is let in whatever somebody else at its address does. Only an admin token that the operator chose may be
//! guessable; it is not looked at while its address has failed too often with admin tokens. That wait ends a minute
//! after it began, however often is tried meanwhile.
//!
//! Bounded: so many addresses are told apart, all further ones count as one. A burst becomes one row of the ledger.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clawdforge_core::ledger::{Door, FailedSignIns};
use ipnet::IpNet;

/// What "in a minute" means: failures of an address are counted from its first one for so long.
pub const WINDOW: Duration = Duration::from_secs(60);

/// How often bursts are looked for that have become rows.
pub const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Addresses that are told apart: about 200 bytes each.
const ADDRESSES_MAX: usize = 1_024;

/// Rows that one report writes, the largest bursts first; what is beyond them is one row together.
const ROWS_PER_REPORT_MAX: usize = 32;

/// Bits of an IPv6 address that count: a single host usually has all the rest to choose from.
const V6_PREFIX_BITS: u8 = 64;

/// How the ledger names the addresses beyond those that are told apart.
const OTHERS: &str = "others";

/// The failed sign-ins of the last minute.
pub(crate) struct SignIns {
    failures_max: u32,
    from: Mutex<HashMap<Place, Failures>>,
}

/// Whose failures are counted together: of a network, or of all that have no place of their own any more.
type Place = (Option<IpNet>, Door);

struct Failures {
    /// When the minute began.
    began: Instant,
    /// Failures since then.
    count: u32,
    burst: Option<Burst>,
}

/// Failures that are in no row yet.
#[derive(Debug, Clone, Copy)]
struct Burst {
    first: Instant,
    last: Instant,
    count: u64,
}

impl SignIns {
    /// With so many failures in a minute before an address is told to wait.
    pub fn new(failures_max: u32) -> Self {
        Self { failures_max, from: Mutex::default() }
    }

    /// How long a guessable token from there is not looked at; `None` when it is.
    pub fn wait(&self, address: IpAddr, door: Door, now: Instant) -> Option<Duration> {
        let from = self.lock();
        let own = (Some(network(address)), door);
        let failures = from.get(&own).or_else(|| from.get(&(None, door)).filter(|_| from.len() >= ADDRESSES_MAX))?;
        (failures.count >= self.failures_max).then(|| failures.left(now)).flatten()
    }

    /// Counts a failure; how long to wait, where it was one too many.
    pub fn failed(&self, address: IpAddr, door: Door, now: Instant) -> Option<Duration> {
        let mut from = self.lock();
        let own = (Some(network(address)), door);
        let place = if from.len() < ADDRESSES_MAX || from.contains_key(&own) { own } else { (None, door) };
        let failures = from.entry(place).or_insert(Failures { began: now, count: 0, burst: None });
        if failures.left(now).is_none() {
            (failures.began, failures.count) = (now, 0);
        }
        failures.count = failures.count.saturating_add(1);
        let burst = failures.burst.get_or_insert(Burst { first: now, last: now, count: 0 });
        (burst.last, burst.count) = (now, burst.count.saturating_add(1));
        (failures.count > self.failures_max).then(|| failures.left(now)).flatten()
    }

    /// Takes out what becomes rows: bursts that began a minute ago, or all of them.
    pub fn report(&self, now: Instant, all: bool) -> Vec<FailedSignIns> {
        let mut from = self.lock();
        let mut rows = Vec::new();
        from.retain(|(network, door), failures| {
            let is_due = |burst: &mut Burst| all || now.saturating_duration_since(burst.first) >= WINDOW;
            if let Some(burst) = failures.burst.take_if(is_due) {
                let from = network.map_or_else(|| OTHERS.to_owned(), shown);
                let duration = burst.last.saturating_duration_since(burst.first);
                rows.push(FailedSignIns { from, door: *door, count: burst.count, duration });
            }
            failures.burst.is_some() || failures.left(now).is_some()
        });
        drop(from);
        rows.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.from.cmp(&b.from)));
        let beyond = rows.split_off(rows.len().min(ROWS_PER_REPORT_MAX));
        for door in Door::ALL {
            let of_door = beyond.iter().filter(|row| row.door == door);
            let (count, duration) =
                of_door.fold((0, Duration::ZERO), |sum, row| (sum.0 + row.count, sum.1.max(row.duration)));
            if count > 0 {
                rows.push(FailedSignIns { from: OTHERS.to_owned(), door, count, duration });
            }
        }
        rows
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Place, Failures>> {
        self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failures {
    /// What is left of the minute.
    fn left(&self, now: Instant) -> Option<Duration> {
        WINDOW.checked_sub(now.saturating_duration_since(self.began)).filter(|left| !left.is_zero())
    }
}

/// The addresses that count as one with this.
fn network(address: IpAddr) -> IpNet {
    let address = address.to_canonical();
    let bits = if address.is_ipv6() { V6_PREFIX_BITS } else { 32 };
    IpNet::new(address, bits).unwrap_or_else(|_| IpNet::from(address)).trunc()
}

/// A network as the ledger names it: an address of one alone without its length.
fn shown(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() { network.addr().to_string() } else { network.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_fails_too_often_waits_for_the_rest_of_the_minute_and_no_longer() {
        let (sign_ins, began) = (SignIns::new(3), Instant::now());
        let fail = |after: u32| sign_ins.failed(ip("192.0.2.1"), Door::Admin, began + SECOND * after);
        assert_eq!([fail(0), fail(1), fail(2)], [None; 3]);
        let wait = |after: u32| sign_ins.wait(ip("192.0.2.1"), Door::Admin, began + SECOND * after);
        assert_eq!(wait(3), Some(SECOND * 57));
        // Trying on does not make it longer.
        assert_eq!([fail(10), fail(50)], [Some(SECOND * 50), Some(SECOND * 10)]);
        assert_eq!([wait(59), wait(60)], [Some(SECOND), None]);
        assert_eq!(fail(60), None, "a new minute");
    }

    #[test]
    fn neighbours_and_the_other_door_are_not_touched() {
        let (sign_ins, now) = (SignIns::new(1), Instant::now());
        for _ in 0..5 {
            sign_ins.failed(ip("2001:db8:0:1::1"), Door::App, now);
        }
        for (address, door, waits) in [
            ("2001:db8:0:1::1", Door::App, true),
            ("2001:db8:0:1:ffff::2", Door::App, true),
            ("2001:db8:0:2::1", Door::App, false),
            ("2001:db8:0:1::1", Door::Admin, false),
            ("192.0.2.1", Door::App, false),
        ] {
            assert_eq!(sign_ins.wait(ip(address), door, now).is_some(), waits, "{address} {door:?}");
        }
        sign_ins.failed(ip("::ffff:192.0.2.1"), Door::App, now);
        assert!(sign_ins.wait(ip("192.0.2.1"), Door::App, now).is_some(), "the same in IPv6 clothes");
    }

    #[test]
    fn a_burst_is_one_row_with_its_count_and_one_that_goes_on_is_one_a_minute() {
        let (sign_ins, began) = (SignIns::new(3), Instant::now());
        for after in 0..100 {
            sign_ins.failed(ip("192.0.2.1"), Door::App, began + SECOND * after);
            if after == 30 {
                assert_eq!(sign_ins.report(began + SECOND * after, false), [], "it is not over yet");
            }
            if after == 69 {
                let [row] = &sign_ins.report(began + SECOND * after, false)[..] else { panic!("one row") };
                assert_eq!((row.from.as_str(), row.count, row.duration), ("192.0.2.1", 70, SECOND * 69));
            }
        }
        let [row] = &sign_ins.report(began + SECOND * 100, true)[..] else { panic!("one row") };
        assert_eq!(row.count, 30);
        assert_eq!(sign_ins.report(began + SECOND * 500, true), []);
        assert!(sign_ins.lock().is_empty(), "nothing is kept of it");
    }

    #[test]
    fn no_number_of_addresses_takes_more_than_its_memory_or_escapes_the_limit() {
        let (sign_ins, now) = (SignIns::new(2), Instant::now());
        for number in 0..10_000_u32 {
            sign_ins.failed(IpAddr::from((0x0a00_0000 + number).to_be_bytes()), Door::Admin, now);
        }
        assert!(sign_ins.lock().len() <= ADDRESSES_MAX + Door::ALL.len());
        assert!(sign_ins.wait(ip("198.51.100.1"), Door::Admin, now).is_some(), "the others count together");
        assert!(sign_ins.wait(ip("10.0.0.0"), Door::Admin, now).is_none(), "the early ones have a place of their own");
        let rows = sign_ins.report(now + WINDOW, false);
        assert_eq!(rows.len(), ROWS_PER_REPORT_MAX + 1);
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 10_000);
        assert_eq!(sign_ins.failed(ip("198.51.100.1"), Door::Admin, now + WINDOW), None, "there is room again");
    }
}
