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
