//! Every limit of the client with its reason. [`crate::ClientBuilder`] can change those a caller
//! may have a better number for.

use std::time::Duration;

/// How long opening a connection may take. The service is on the same network; ten seconds is what
/// the older clients use.
pub const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a call that starts no agent may take, from connecting to the last byte of its reply.
pub const CALL_WAIT_MAX: Duration = Duration::from_secs(30);

/// The service's own limit of a run whose request names none, in seconds.
pub const RUN_SECS_DEFAULT: u64 = 120;

/// What the client waits beyond a run's own limit, so that the service's answer about a run that
/// took too long arrives before the client gives up.
pub const RUN_GRACE: Duration = Duration::from_secs(30);

/// What the client waits for a turn beyond the limits of the turn and of those sent ahead of it: the wait for a
/// slot, two minutes unless the operator says otherwise, and the same grace as for a run. The answer of a turn
/// that is given up can be had nowhere else, so this is generous.
pub const TURN_GRACE: Duration = Duration::from_secs(150);

/// Characters of a session's id. The service's have 36; whatever is much longer is no id.
pub const SESSION_ID_CHARS_MAX: usize = 128;

/// Bytes of a successful reply. The service keeps answers under 24 MiB, which escaping can double;
/// the C client draws the line at the same place.
pub const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes read of an error's reply; what follows is not read. The service's own are a few KiB, but a
/// 422 repeats what was sent.
pub const ERROR_BYTES_MAX: usize = 1024 * 1024;

/// Characters of an error's reply that become a message when it is not the service's JSON.
pub const MESSAGE_CHARS_MAX: usize = 2_000;

/// Bytes handed to the connection at a time during an upload.
pub const UPLOAD_CHUNK_BYTES: usize = 128 * 1024;

/// Bytes of a token file or configuration file: some lines of text.
pub const SETTINGS_BYTES_MAX: u64 = 64 * 1024;

/// Bytes of a prompt read from standard input: one more than this is refused before it is sent,
/// as the service would (`clawdforge_core::limits::PROMPT_BYTES_MAX`).
pub const PROMPT_BYTES_MAX: usize = clawdforge_core::limits::PROMPT_BYTES_MAX;

/// Bytes of one line of a stream of events. An event's data is one line, and its largest parts are a prompt (8 MiB) and an
/// answer, which are bounded like the replies that hold them.
pub const EVENT_LINE_BYTES_MAX: usize = REPLY_BYTES_MAX;

/// Bytes of the data of one event, all its lines together.
pub const EVENT_BYTES_MAX: usize = REPLY_BYTES_MAX;

/// How long a stream may be silent before its connection is taken for dead. The service sends something every 15 s at
/// least, so this is three times nothing.
pub const EVENT_SILENCE_MAX: Duration = Duration::from_secs(45);

/// Tries to go on with a stream that made no progress. With the pauses they take about a minute, in which a service is
/// restarted.
pub const EVENT_TRIES_MAX: u32 = 10;

/// The pause before the second try without progress; the first comes at once, and each further pause is twice as long.
pub const EVENT_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause between two tries, also where the service asks for more.
pub const EVENT_PAUSE_MAX: Duration = Duration::from_secs(15);

/// How long a connection must have held for a heartbeat to count as progress: shorter than the 15 s after which the
/// service sends one, so that a connection that breaks every minute may do so for ever, and one that breaks behind a first
/// comment may not.
pub const EVENT_CONNECTION_HELD: Duration = Duration::from_secs(10);

/// How long a fork may take at least: the service copies the workspace for up to a minute, and starts an agent.
pub(crate) const FORK_WAIT_MAX: Duration = Duration::from_secs(240);
