//! Every limit of the service with its value and the reason for it.
//!
//! Options of the operator have their defaults and bounds in the configuration table; what stands
//! here holds whatever the operator says.

use std::time::Duration;

/// Bytes of one prompt. The `claude` CLI refuses more than 10 MB on standard input (measured with
/// 2.1.330); eight leaves room for the manifest of attached files.
pub const PROMPT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of a system prompt. It travels in a file, so the bound is only there to be one.
pub const SYSTEM_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of a JSON request body: a prompt at its limit with every tenth character escaped, and a
/// system prompt.
pub const JSON_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Characters of a model name, which becomes one argument of the agent.
pub const MODEL_CHARS_MAX: usize = 128;

/// Characters of the name of a mode, which becomes one argument of acpx. The longest known ones are URLs of 60.
pub const MODE_CHARS_MAX: usize = 128;

/// Tool servers of one session. Each may be a program beside the agent, and its tools take room in every request to the model.
pub const TOOL_SERVERS_MAX: usize = 16;

/// Bytes of all tool servers of a session as JSON: Claude's adapter (0.101.0) hands them on in one argument, of which Linux takes
/// 128 KiB, and quoting may add to it.
pub const TOOL_SERVERS_BYTES_MAX: usize = 64 * 1024;

/// Characters of a tool server's name, and of a variable's or header's.
pub const TOOL_SERVER_NAME_CHARS_MAX: usize = 64;

/// Files one prompt may attach.
pub const FILES_PER_PROMPT_MAX: usize = 64;

/// Characters kept of an upload's own name, which is only ever shown, never used as a path.
pub const FILE_NAME_CHARS_MAX: usize = 255;

/// Shortest life of an upload in seconds; shorter wishes are raised to it.
pub const FILE_TTL_SECS_MIN: u64 = 60;

/// Longest life of an upload in seconds; longer wishes are cut to it.
pub const FILE_TTL_SECS_MAX: u64 = 86_400;

/// Life of an upload whose sender named none, in seconds.
pub const FILE_TTL_SECS_DEFAULT: u64 = 3_600;

/// Shortest time limit a run may ask for, in seconds.
pub const TIMEOUT_SECS_MIN: u64 = 5;

/// Live app tokens. Each costs about 300 bytes of memory.
pub const TOKENS_MAX: usize = 10_000;

/// Address ranges one token may name.
pub const TOKEN_CIDRS_MAX: usize = 64;

/// Bytes of one line from an agent. The largest honest lines carry a file the agent read (claude
/// stops at 256 KiB of text, images at a few MiB in base64).
pub const AGENT_LINE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of an answer kept in the event log and returned: the C client refuses replies over
/// 64 MiB, and JSON escaping can double a text.
pub const ANSWER_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Bytes of one event's text; longer tool results are cut, with a mark.
pub const EVENT_TEXT_BYTES_MAX: usize = 256 * 1024;

/// Events one turn may record. A flood beyond it is counted, not kept; the answer still counts.
pub const EVENTS_PER_TURN_MAX: u64 = 20_000;

/// Bytes of memory that the recorded events of one turn may come to. Beyond it they are counted, not
/// kept; the answer still counts. An honest turn of 20,000 events with 5 KiB each stays below.
pub const EVENT_BYTES_PER_TURN_MAX: usize = 128 * 1024 * 1024;

/// Bytes of a tool's name, of the agent's id of a call, and of its word for why it stopped. Honest ones
/// have less than a hundred.
pub const NAME_BYTES_MAX: usize = 1024;

/// Bytes of an agent's error stream that are kept (its end).
pub const STDERR_TAIL_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the error stream's end that a caller gets to see.
pub const STDERR_SHOWN_BYTES_MAX: usize = 4 * 1024;

/// Commits waiting for the store's writer before further ones are refused.
pub const COMMIT_QUEUE_MAX: usize = 4_096;

/// Commits written in one transaction.
pub const COMMITS_PER_TRANSACTION_MAX: usize = 512;

/// Ledger lines erased by one commit, which takes the store's writer some tens of milliseconds; everybody
/// else waits meanwhile.
pub const LEDGER_LINES_PER_TRIM_MAX: usize = 5_000;

/// Rows of one page of any list.
pub const PAGE_ROWS_MAX: usize = 1_000;

/// Rows of a page when the caller names no number.
pub const PAGE_ROWS_DEFAULT: usize = 100;

/// How long a commit may wait in the store before it is begun; later it is refused, and nothing happened.
/// Whoever sent it waits for that answer: giving up on it would leave open whether it happens after all.
pub const COMMIT_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often a refused end of a turn is tried again before the service gives up and leaves it to
/// recovery; the pauses double from 50 ms, so this is about 13 seconds.
pub const END_RECORD_TRIES_MAX: u32 = 8;

/// Turns of one session that may wait for their turn; the one under way does not count. Callers that send
/// more in advance than an agent does in a working day gain nothing by it.
pub const TURNS_QUEUED_PER_SESSION_MAX: usize = 16;

/// Bytes of a session's `meta`, which the service only keeps.
pub const META_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a transcript that a forgetful agent is given: about 50,000 tokens, a quarter of the smallest
/// context window in use. The beginning is cut.
pub const TRANSCRIPT_BYTES_MAX: usize = 200_000;

/// Orders that may wait for the owner of a session: its turns, a close, and callers that come and go.
/// Whoever finds it full waits; an owner always takes in orders, but for the seconds of ending a process.
pub const OWNER_ORDERS_MAX: usize = 64;
