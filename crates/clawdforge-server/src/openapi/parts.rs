//! What operations take: parameters, headers, bodies, with the bounds that the handlers hold them to.
//!
//! A bound on the length of a text is one of bytes; `maxLength` counts characters, which are never more.

use clawdforge_api::schema::{Object, id, list, or_null, text, word};
use clawdforge_core::id::{FileId, RunId, SessionId, TurnId};
use clawdforge_core::idempotency::KEY_BYTES_MAX;
use clawdforge_core::isolation::Isolation;
use clawdforge_core::limits::{
    FILE_TTL_SECS_DEFAULT, FILE_TTL_SECS_MAX, FILE_TTL_SECS_MIN, FILES_PER_PROMPT_MAX, META_BYTES_MAX, MODE_CHARS_MAX,
    MODEL_CHARS_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, PROMPT_BYTES_MAX, SYSTEM_BYTES_MAX, TIMEOUT_SECS_MIN,
    TOKEN_CIDRS_MAX, TOOL_SERVERS_BYTES_MAX, TOOL_SERVERS_MAX,
};
use clawdforge_core::network::ENDPOINTS_MAX;
use clawdforge_core::output::SCHEMA_BYTES_MAX;
use clawdforge_core::run::{Effort, SystemMode};
use clawdforge_core::session::{DriverName, OnContextLoss};
use serde_json::{Value, json};

/// A model name of a run: no option, and no control characters.
const RUN_MODEL: &str = r"^([^\u0000-\u001f\u007f-\u009f-][^\u0000-\u001f\u007f-\u009f]*)?$";

/// A model name of a session.
const SESSION_MODEL: &str = r"^([A-Za-z0-9._:/\[\]][A-Za-z0-9._:/\[\]-]*)?$";

/// The name of a tool server.
const SERVER_NAME: &str = "^[A-Za-z0-9_-]{1,64}$";

/// The name of a mode.
const MODE: &str = "^([!-,.-~][!-~]*)?$";

/// The name of an app.
const APP_NAME: &str = "^[a-z0-9_-]{1,64}$";

fn parameter(place: &str, name: &str, about: &str, schema: Value) -> Value {
    json!({ "name": name, "in": place, "required": place == "path", "description": about, "schema": schema })
}

fn query(name: &str, about: &str, schema: Value) -> Value {
    parameter("query", name, about, schema)
}

pub(super) fn run() -> Value {
    parameter("path", "run", "The run's id.", id(RunId::PREFIX, "An id."))
}

pub(super) fn session() -> Value {
    parameter("path", "session", "The session's id.", id(SessionId::PREFIX, "An id."))
}

pub(super) fn turn() -> Value {
    parameter("path", "turn", "The turn's id.", id(TurnId::PREFIX, "An id."))
}

pub(super) fn file() -> Value {
    parameter("path", "file", "The upload's id.", id(FileId::PREFIX, "An id."))
}

pub(super) fn name() -> Value {
    parameter("path", "name", "The app's name.", json!({ "type": "string", "pattern": APP_NAME }))
}

pub(super) fn code(codes: &[&str]) -> Value {
    parameter("path", "code", "The code of a problem.", json!({ "type": "string", "enum": codes }))
}

/// Which page of a list whose cursors are ids.
pub(super) fn page_by_id(prefix: &str) -> [Value; 2] {
    page(id(prefix, "A cursor."))
}

/// Which page of a list whose cursors are numbers.
pub(super) fn page_by_number() -> [Value; 2] {
    page(json!({ "type": "string", "pattern": "^[0-9]{1,9}$" }))
}

/// Which page of a list whose cursors are numbers of events.
pub(super) fn page_by_event() -> [Value; 2] {
    page(json!({ "type": "string", "pattern": "^[0-9]{1,18}$" }))
}

/// Which page of a list whose cursors are names of apps.
pub(super) fn page_by_name() -> [Value; 2] {
    page(json!({ "type": "string", "pattern": APP_NAME }))
}

fn page(cursor: Value) -> [Value; 2] {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": PAGE_ROWS_MAX, "default": PAGE_ROWS_DEFAULT });
    [
        query("limit", "How many there are on a page.", limit),
        query("cursor", "`next_cursor` of the page before; its form may change.", cursor),
    ]
}

pub(super) fn include_closed() -> Value {
    query("include_closed", "Whether closed sessions are among them.", json!({ "type": "boolean", "default": true }))
}

pub(super) fn span() -> [Value; 2] {
    let time = || json!({ "type": "string", "format": "date-time" });
    [query("from", "What ended from this time on.", time()), query("to", "What ended before this time.", time())]
}

/// Where a stream goes on.
pub(super) fn after() -> [Value; 2] {
    let number = || json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX });
    let about = "The number of the last event that was seen; it counts before `after`.";
    [query("after", "Begin behind this number.", number()), parameter("header", "Last-Event-ID", about, number())]
}

/// How a caller wants to hear of work, and how it sends it again safely.
pub(super) fn wishes() -> [Value; 2] {
    let prefer = json!({ "type": "string", "examples": ["respond-async"] });
    [parameter("header", "Prefer", "`respond-async` is answered at once.", prefer), idempotency_key()]
}

pub(super) fn idempotency_key() -> Value {
    let about = "The same key with the same request makes one thing, however often it is sent within 24 hours.";
    let key = json!({ "type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX, "pattern": "^[!-~]+$" });
    parameter("header", "Idempotency-Key", about, key)
}

pub(super) fn ttl_secs() -> Value {
    query("ttl_secs", "As the field of the form, which counts before it.", life())
}

/// How long an upload lives. What is beyond the bounds is moved to them, so they are no bounds of the number.
fn life() -> Value {
    let about = format!(
        "Seconds until it is erased; {FILE_TTL_SECS_DEFAULT} where nothing is said, at least {FILE_TTL_SECS_MIN}, at most {FILE_TTL_SECS_MAX}."
    );
    json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX, "description": about })
}

/// The content of the body of `POST /v1/runs`.
pub(super) fn run_body(timeout_secs_max: u64) -> Value {
    let body = Object::new("One prompt.")
        .with("prompt", prompt())
        .maybe(
            "model",
            or_null(bounded("The model; the service has one for whoever names none.", MODEL_CHARS_MAX, RUN_MODEL)),
        )
        .maybe("system", system())
        .maybe("system_mode", system_mode())
        .maybe("effort", effort())
        .maybe("files", files())
        .maybe("timeout_secs", timeout(timeout_secs_max))
        .maybe("isolation", isolation())
        .maybe("output_schema", output_schema());
    json!({ "schema": body.schema(), "example": { "prompt": "say: hello" } })
}

/// The content of the body of `POST /v1/sessions`.
pub(super) fn session_body() -> Value {
    let agent = json!({ "type": "string", "pattern": "^[a-zA-Z0-9_-]{0,64}$", "description": "The agent by its name; the service has one for whoever names none." });
    let body = Object::new("What kind of session.")
        .maybe("agent", or_null(agent))
        .maybe("driver", or_null(word("How the agent is spoken to.", words(&DriverName::ALL))))
        .maybe("model", session_model())
        .maybe("effort", effort())
        .maybe("mode", mode())
        .maybe("system", system())
        .maybe("system_mode", system_mode())
        .maybe("mcp_servers", mcp_servers())
        .maybe("meta", meta())
        .maybe(
            "on_context_loss",
            or_null(word("What happens when the agent has forgotten the turns before.", words(&OnContextLoss::ALL))),
        )
        .maybe("isolation", isolation());
    json!({ "schema": body.schema(), "example": { "meta": { "ticket": 17 } } })
}

/// The content of the body of a change to a session.
pub(super) fn change_body() -> Value {
    let body = Object::new("What is to be changed: null takes it away, what is absent stays.")
        .maybe("model", session_model())
        .maybe("effort", effort())
        .maybe("mode", mode())
        .maybe("meta", meta());
    json!({ "schema": body.schema(), "example": { "meta": { "ticket": 18 } } })
}

/// The content of the body of a fork.
pub(super) fn fork_body() -> Value {
    let body = Object::new("What differs in the fork: null takes it away, what is absent is as in the session.")
        .maybe("model", session_model())
        .maybe("effort", effort())
        .maybe("mode", mode())
        .maybe("meta", meta());
    json!({ "schema": body.schema(), "example": { "meta": { "attempt": 2 } } })
}

fn session_model() -> Value {
    or_null(bounded("The model; null leaves it to the agent.", MODEL_CHARS_MAX, SESSION_MODEL))
}

fn mcp_servers() -> Value {
    let name = || json!({ "type": "string", "pattern": SERVER_NAME, "description": "Its name, which no other has." });
    let texts = |about: &str| {
        or_null(json!({ "type": "object", "additionalProperties": { "type": "string" }, "description": about }))
    };
    let stdio = Object::new("A program that the agent starts.")
        .maybe("type", or_null(word("A program.", ["stdio"])))
        .with("name", name())
        .with("command", text("The program: a path, or a name to look for."))
        .maybe("args", or_null(list("Its arguments.", &text("An argument."))))
        .maybe("env", texts("Variables it gets. Values are not told again."));
    let remote = Object::new("A server that the agent connects to.")
        .with("type", word("How it is spoken to; only where the agent declares that it can.", ["http", "sse"]))
        .with("name", name())
        .with("url", json!({ "type": "string", "pattern": "^https?://", "description": "Where it is." }))
        .maybe("headers", texts("What every request carries. Values are not told again."));
    let about = format!("Tool servers (MCP) for the agent; at most {TOOL_SERVERS_BYTES_MAX} bytes.");
    let server = json!({ "anyOf": [stdio.schema(), remote.schema()] });
    or_null(json!({ "type": "array", "items": server, "maxItems": TOOL_SERVERS_MAX, "description": about }))
}

fn system() -> Value {
    or_null(limited("System text.", SYSTEM_BYTES_MAX))
}

fn system_mode() -> Value {
    or_null(word("Whether it comes behind the agent's own or in its place.", words(&SystemMode::ALL)))
}

fn mode() -> Value {
    let about = "The agent's name for how it asks for permission; null takes the mode for unattended work.";
    or_null(bounded(about, MODE_CHARS_MAX, MODE))
}

fn meta() -> Value {
    let about = format!("The caller's own notes, which are only kept; at most {META_BYTES_MAX} bytes.");
    or_null(json!({ "type": "object", "description": about }))
}

/// The content of the body of a new turn.
pub(super) fn turn_body(timeout_secs_max: u64) -> Value {
    let body = Object::new("One prompt.")
        .with("prompt", prompt())
        .maybe("files", files())
        .maybe("timeout_secs", timeout(timeout_secs_max))
        .maybe("output_schema", output_schema());
    json!({ "schema": body.schema(), "example": { "prompt": "say: hello" } })
}

/// What an answer is to fit. A bound on its bytes has no word here.
fn output_schema() -> Value {
    let about = format!(
        "A JSON Schema (draft 2020-12) that the answer must fit, in at most {SCHEMA_BYTES_MAX} bytes; references stay in it (`#…`)."
    );
    or_null(json!({ "type": "object", "description": about }))
}

/// The content of the body of `POST /v1/tokens`.
pub(super) fn token_body() -> Value {
    let mut cidrs =
        list("From where it is good; everywhere where nothing is said.", &text("Such as `192.168.0.0/24`."));
    cidrs["maxItems"] = TOKEN_CIDRS_MAX.into();
    let mut hosts = list("Only these.", &text("A host with a port, such as `example.org:443`."));
    hosts["maxItems"] = ENDPOINTS_MAX.into();
    let network = json!({
        "anyOf": [word("By name.", ["open", "none"]), hosts, { "type": "null" }],
        "description": "What the app's agents may reach, within what their profile allows.",
    });
    let body = Object::new("Whose, and what it is good for.")
        .with("name", json!({ "type": "string", "pattern": APP_NAME, "description": "The app's name." }))
        .maybe("ip_cidrs", or_null(cidrs))
        .maybe("network", network)
        .maybe(
            "mcp_servers",
            or_null(word(
                "Whether the app's sessions may be given tool servers; `any` where nothing is said.",
                ["any", "none"],
            )),
        );
    json!({ "schema": body.schema(), "example": { "name": "kitchen" } })
}

/// The content of the body of `POST /v1/files`.
pub(super) fn upload_body() -> Value {
    let file = json!({ "type": "string", "contentMediaType": "application/octet-stream", "description": "The file, with its name." });
    let form = Object::new("One file.").with("file", file).maybe("ttl_secs", life());
    json!({ "schema": form.schema() })
}

fn prompt() -> Value {
    let about = format!("What is asked; it says something, in at most {PROMPT_BYTES_MAX} bytes.");
    json!({ "type": "string", "minLength": 1, "maxLength": PROMPT_BYTES_MAX, "pattern": r"[^\s\u0085]", "description": about })
}

fn limited(about: &str, bytes_max: usize) -> Value {
    let mut schema = text(&format!("{about} At most {bytes_max} bytes."));
    schema["maxLength"] = bytes_max.into();
    schema
}

fn bounded(about: &str, bytes_max: usize, pattern: &str) -> Value {
    let mut schema = limited(about, bytes_max);
    schema["pattern"] = pattern.into();
    schema
}

fn effort() -> Value {
    or_null(word("How hard the model should think.", words(&Effort::ALL)))
}

fn files() -> Value {
    let mut files = list("Uploads of the app, by their ids.", &id(FileId::PREFIX, "An upload."));
    files["maxItems"] = FILES_PER_PROMPT_MAX.into();
    or_null(files)
}

fn timeout(secs_max: u64) -> Value {
    let about = "Seconds the agent may work.";
    or_null(json!({ "type": "integer", "minimum": TIMEOUT_SECS_MIN, "maximum": secs_max, "description": about }))
}

fn isolation() -> Value {
    or_null(word("How well the agent must be kept apart at least.", words(&Isolation::WORDS)))
}

fn words<T>(all: &[(&'static str, T)]) -> impl Iterator<Item = &'static str> {
    all.iter().map(|(word, _)| *word)
}
