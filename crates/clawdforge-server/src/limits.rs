//! Limits of the HTTP surface, with their reasons. What belongs to the domain is in `core::limits`.

use std::time::Duration;

/// Connections at the same time: each costs about 20 KiB, and the usual limit of open files is 1,024
/// soft and far more hard, which the service raises to at start.
pub const CONNECTIONS_MAX: usize = 4_096;

/// Streams that one app may have open, with its requests that wait for the end of their work: a quarter of the connections,
/// so that it takes four apps at their bound to leave none for others, and a thousand readers of one app find room.
pub const PLACES_PER_APP_MAX: usize = CONNECTIONS_MAX / 4;

/// When an app that has no place left should come back: one that is over or cut makes room within the time a
/// connection has for a reader that takes in nothing.
pub const PLACE_RETRY_AFTER: Duration = WRITE_PAUSE_MAX;

/// Connections at the same time from addresses that are not let in. They get their 403, but must not take
/// the places of those who are.
pub const STRANGERS_MAX: usize = 64;

/// How long an answer may wait for a peer that takes in nothing. A slow reader is no dead one: every byte
/// it takes starts the time anew.
pub const WRITE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long the head of a request may take to arrive; a slower one is an attack or a dead peer.
pub const HEAD_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a pause within a request body may be. Bodies come from the local network.
pub const BODY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long a whole JSON body may take to arrive: the largest at a megabit a second.
pub const BODY_WAIT_MAX: Duration = Duration::from_secs(150);

/// Bytes of memory that the JSON bodies of all requests together may take; beyond it, requests are told to
/// come back. Enough for eight of the largest, or for thousands of ordinary ones.
pub const BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Bytes of the head of a request, and of the buffer a connection reads into.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Bytes of form fields beside an upload's file: they hold one number.
pub const FORM_FIELD_BYTES_MAX: usize = 1_024;

/// Bytes of a form that may be held in memory: a part's head, what stands before the first boundary,
/// and two buffers of the connection.
pub const FORM_HELD_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the JSON of an input that a validation fault repeats; larger ones are left out.
pub const FAULT_INPUT_BYTES_MAX: usize = 512;

/// How long connections may take to finish after the work has been drained.
pub const CONNECTIONS_DRAIN_MAX: Duration = Duration::from_secs(3);

/// How long a closing connection still takes in what the peer sends. A peer that was refused while it
/// was sending would otherwise see a reset instead of the reason.
pub const LINGER_MAX: Duration = Duration::from_secs(10);

/// Bytes of a turn's events in one reply: the C client refuses replies over 64 MiB, and JSON escaping can
/// double a text.
pub const TURN_EVENTS_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Depth of a tool's arguments and results in a reply; the C# client reads JSON 32 deep, and four levels are
/// around them.
pub const VALUE_DEPTH_MAX: usize = 24;
