//! Every bound of the proxy, with its reason.

use std::time::Duration;

/// Connections of all agents together. A browser or a package manager opens some twenty.
pub const CONNECTIONS_MAX: usize = 1_024;

/// Connections of one tree, so that no agent takes all of them.
pub const CONNECTIONS_PER_GRANT_MAX: usize = 256;

/// Bytes of the head of a request: what servers on the Internet take at most.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// How long a head may take; it comes in one piece from a program on this machine.
pub const HEAD_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a name may take to be looked up. The system's resolver gives up a server after five seconds.
pub const LOOK_UP_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long one address may take to answer.
pub const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);

/// Addresses of one name that are tried.
pub const ADDRESSES_MAX: usize = 4;

/// Refusals of one tree that are logged one by one; the rest is a number at its end.
pub const REFUSALS_LOGGED_MAX: u64 = 20;
