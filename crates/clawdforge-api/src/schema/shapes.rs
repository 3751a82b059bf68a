//! The schemas of resources, pages and problems.

use clawdforge_core::agent::FailureKind;
use clawdforge_core::id::{FileId, RequestId, RunId, SessionId, TurnId};
use clawdforge_core::isolation::Isolation;
use clawdforge_core::run::{Effort, SystemMode};
use clawdforge_core::session::{DriverName, OnContextLoss};
use clawdforge_core::turn::TurnState;
use serde_json::{Value, json};

use super::{Object, count, flag, id, list, money, named, or_null, text, time, word};
use crate::problem::Code;

/// Every schema of this file by its name.
pub(super) fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("Session", session()),
        ("Turn", turn()),
        ("Run", run()),
        ("Outcome", outcome()),
        ("Failure", failure()),
        ("Violation", violation()),
        ("Usage", usage()),
        ("Gap", gap()),
        ("File", file()),
        ("Agent", agent()),
        ("UsageSum", usage_sum()),
        ("Token", token().schema()),
        ("MintedToken", minted_token()),
        ("Problem", problem()),
        ("Fault", fault()),
        ("SessionPage", page("Session")),
        ("TurnPage", page("Turn")),
        ("RunPage", page("Run")),
        ("AgentPage", page("Agent")),
        ("EventPage", page("Event")),
        ("TokenPage", page("Token")),
    ]
}

fn page(of: &str) -> Value {
    Object::new("A page of things.")
        .with("data", list("The things.", &named(of)))
        .with("next_cursor", or_null(text("To be handed back as `cursor` for the next page; null on the last one.")))
        .schema()
}

fn session() -> Value {
    Object::new("A session.")
        .with("id", id(SessionId::PREFIX, "The session's id."))
        .with("state", word("How it stands.", ["open", "closed"]))
        .with("agent", text("The agent."))
        .with("driver", or_null(word("How the agent is spoken to.", words(&DriverName::ALL))))
        .with("model", or_null(text("The model by the agent's own name for it; null leaves it to the agent.")))
        .with(
            "effort",
            or_null(word("How hard the model should think; null leaves it to the agent.", words(&Effort::ALL))),
        )
        .with(
            "mode",
            or_null(text("The agent's name for how it asks for permission; null takes the mode for unattended work.")),
        )
        .with(
            "system_mode",
            or_null(word(
                "What becomes of the agent's own system prompt; null where the session has no text for it.",
                words(&SystemMode::ALL),
            )),
        )
        .with("mcp_servers", list("The names of its tool servers.", &text("A name.")))
        .with("meta", or_null(json!({ "type": "object", "description": "The caller's own notes." })))
        .with(
            "on_context_loss",
            or_null(word("What happens when the agent has forgotten the turns before.", words(&OnContextLoss::ALL))),
        )
        .with("isolation", isolation())
        .with("warm", flag("Whether its agent's process is there."))
        .with("turns", count("Turns accepted so far."))
        .with("created_at", time("When it was opened."))
        .with("last_turn_at", or_null(time("When the last turn was accepted.")))
        .with("closed_at", or_null(time("When it was closed.")))
        .with("forked_from", or_null(fork_point()))
        .schema()
}

fn fork_point() -> Value {
    Object::new("Where it left another session, all of which until then it knows.")
        .with("session_id", id(SessionId::PREFIX, "The other session, which may be erased by now."))
        .with("turn_index", count("The place of its last turn then."))
        .schema()
}

fn turn() -> Value {
    let turn = Object::new("A turn of a session.")
        .with("id", id(TurnId::PREFIX, "The turn's id."))
        .with("session_id", id(SessionId::PREFIX, "The session."))
        .with("index", json!({ "type": "integer", "minimum": 1, "description": "Its place in the session, from 1." }));
    progress(turn).schema()
}

fn run() -> Value {
    let run = Object::new("A run.")
        .with("id", id(RunId::PREFIX, "The run's id."))
        .with("agent", text("The agent."))
        .with("isolation", isolation());
    progress(run).schema()
}

/// How a turn or a run stands.
fn progress(object: Object) -> Object {
    let states = [TurnState::Queued, TurnState::Running, TurnState::Ended].map(TurnState::as_str);
    let outcomes = ["completed"].into_iter().chain(failure_codes());
    object
        .with("state", word("How it stands.", states))
        .with("outcome", or_null(word("`completed`, or the code of the failure; null until it has ended.", outcomes)))
        .with("queued_at", time("When it was accepted."))
        .with("started_at", or_null(time("When its agent was set to work.")))
        .with("ended_at", or_null(time("When it ended.")))
        .with("cancel_asked_at", or_null(time("When its app asked for it to be stopped.")))
        .maybe("result", named("Outcome"))
}

fn outcome() -> Value {
    Object::new("What came of a turn or a run: once it has ended, and where one is asked for and not a page.")
        .with("answer", or_null(text("The agent's answer; null on most failures.")))
        .maybe(
            "output",
            json!({ "description": "The answer as data, where an `output_schema` was asked for and it fits." }),
        )
        .with("stop_reason", or_null(text("The agent's word for why it stopped.")))
        .with("failure", or_null(named("Failure")))
        .with(
            "duration_ms",
            count("Milliseconds from the start of the agent, or from acceptance if none started, to the end."),
        )
        .with("usage", named("Usage"))
        .schema()
}

fn failure() -> Value {
    Object::new("What went wrong with a turn or a run.")
        .with("code", word("The stable code.", failure_codes()))
        .with("message", text("What happened, and what to do."))
        .maybe("violations", list("Of `output_invalid`: where the answer does not fit, and how.", &named("Violation")))
        .maybe("stderr", text("The end of the agent's error stream."))
        .schema()
}

fn violation() -> Value {
    Object::new("One way in which an answer does not fit its schema.")
        .with("path", text("The place in the answer as a JSON pointer; empty for all of it."))
        .with("message", text("What is wrong there."))
        .schema()
}

/// The codes of failures.
pub(super) fn failure_codes() -> impl Iterator<Item = &'static str> {
    FailureKind::ALL.iter().map(|kind| kind.code())
}

fn usage() -> Value {
    Object::new("What a turn or a run used and cost, as the agent reported it; null where it did not.")
        .with("model", or_null(text("The model that answered.")))
        .with("input_tokens", or_null(count("Tokens read, without those from a cache.")))
        .with("output_tokens", or_null(count("Tokens written.")))
        .with("cache_read_tokens", or_null(count("Tokens read from a cache.")))
        .with("cache_write_tokens", or_null(count("Tokens written to a cache.")))
        .with("cost_usd", or_null(money("Cost in US dollars.")))
        .schema()
}

fn gap() -> Value {
    Object::new("Events that are not kept any more.")
        .with("from", count("The number of the first of them."))
        .with("to", count("The number of the last of them."))
        .schema()
}

fn file() -> Value {
    Object::new("An upload.")
        .with("id", id(FileId::PREFIX, "By which it is attached."))
        .with("name", text("The name it was sent with, without folders."))
        .with("size_bytes", count("Its size."))
        .with("created_at", time("When it was uploaded."))
        .with("expires_at", time("When it is erased."))
        .schema()
}

fn agent() -> Value {
    Object::new("An agent that sessions can be opened with.")
        .with("name", text("Its name, as `agent` of a new session."))
        .with("is_default", flag("Whether it is the one that sessions get which name none."))
        .with("is_present", flag("Whether its program was found."))
        .with("version", or_null(text("Its version, once known.")))
        .with(
            "drivers",
            list("How it can be spoken to, the preferred way first.", &word("A driver.", words(&DriverName::ALL))),
        )
        .with("takes_system_prompt", flag("Whether sessions can be given text for its system prompt."))
        .schema()
}

fn token() -> Object {
    let network = json!({
        "anyOf": [word("A rule by its name.", ["open", "none"]), list("Hosts with ports.", &text("Such as `example.org:443`.")), { "type": "null" }],
        "description": "What the app's agents may reach; null leaves it to their profile.",
    });
    Object::new("The token of an app, as the operator sees it.")
        .with("name", text("The app's name; an app has one token."))
        .with("ip_cidrs", list("From where it is good; empty is from everywhere.", &text("A range of addresses.")))
        .with("network", network)
        .with("mcp_servers", word("Whether the app's sessions may be given tool servers.", ["any", "none"]))
        .with("created_at", time("When it was minted."))
}

fn minted_token() -> Value {
    token().with("secret", text("The bearer, `cf_…`, shown only this once.")).schema()
}

fn usage_sum() -> Value {
    let about = "What an app's runs and turns used and cost, of those that ended in a span of time. What an agent did not report counts as nothing.";
    Object::new(about)
        .with("from", or_null(time("From this time on; null is from the beginning of the ledger.")))
        .with("to", or_null(time("Before this time; null is until now.")))
        .with("runs", count("Runs that ended."))
        .with("turns", count("Turns of sessions that ended."))
        .with("input_tokens", count("Tokens read, without those from a cache."))
        .with("output_tokens", count("Tokens written."))
        .with("cache_read_tokens", count("Tokens read from a cache."))
        .with("cache_write_tokens", count("Tokens written to a cache."))
        .with("cost_usd", money("Cost in US dollars."))
        .schema()
}

fn problem() -> Value {
    Object::new("An error, in the form of RFC 9457.")
        .with("type", json!({ "type": "string", "format": "uri-reference", "description": "Where its page is, relative to the service." }))
        .with("title", text("A sentence that is the same every time."))
        .with("status", json!({ "type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status." }))
        .with("detail", text("What happened this time, and what to do."))
        .with("instance", id(RequestId::PREFIX, "The request's id, by which the operator finds it in the log."))
        .with("code", word("The stable code, the last part of `type`.", Code::ALL.iter().map(|code| code.as_str())))
        .maybe("retry_after_ms", count("When to come back, in milliseconds."))
        .maybe("errors", list("The single faults of an `invalid_request`.", &named("Fault")))
        .schema()
}

fn fault() -> Value {
    Object::new("One fault of a request.")
        .with("field", text("Where it is, such as `body.prompt` or `query.limit`."))
        .with("detail", text("What is wrong there."))
        .with("input", json!({ "description": "What was found, if it is short." }))
        .schema()
}

fn isolation() -> Value {
    or_null(word("How well its agent is kept apart.", words(&Isolation::WORDS)))
}

fn words<T>(all: &[(&'static str, T)]) -> impl Iterator<Item = &'static str> {
    all.iter().map(|(word, _)| *word)
}
