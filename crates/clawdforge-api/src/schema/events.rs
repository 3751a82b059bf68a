//! The schemas of events: one for each kind, and `Event` for any of them.

use clawdforge_core::event::ContextSource;
use clawdforge_core::id::{FileId, TurnId};
use clawdforge_core::run::Effort;
use serde_json::{Map, Value, json};

use super::shapes::failure_codes;
use super::{Object, count, flag, id, list, named, or_null, text, time, word};
use crate::v1::{CLOSED, ERROR, GAP};

/// What an event's `type`, and its name in a stream, can be, with the name of its schema. A new kind of event comes
/// here; the test that fills every kind of the domain misses it otherwise.
pub const EVENT_NAMES: [(&str, &str); 11] = [
    ("prompt", "PromptEvent"),
    ("started", "StartedEvent"),
    ("context", "ContextEvent"),
    ("text", "TextEvent"),
    ("thinking", "ThinkingEvent"),
    ("tool_call", "ToolCallEvent"),
    ("tool_result", "ToolResultEvent"),
    ("retry", "RetryEvent"),
    ("asked_again", "AskedAgainEvent"),
    ("unrecognised", "UnrecognisedEvent"),
    ("ended", "EndedEvent"),
];

/// Every schema of this file by its name.
pub(super) fn all() -> Vec<(&'static str, Value)> {
    let kinds = EVENT_NAMES.iter().map(|(kind, name)| (*name, body(kind).schema()));
    [("Event", any()), ("StreamEvent", in_stream())].into_iter().chain(kinds).collect()
}

/// What is between two empty lines of a stream. Of `text/event-stream` the schema is that of each event, by its fields.
fn in_stream() -> Value {
    let names = EVENT_NAMES.iter().map(|(kind, _)| *kind).chain([GAP, CLOSED, ERROR]);
    let data =
        ["Event", "Gap", "Problem"].map(named).into_iter().chain([json!({ "type": "object", "maxProperties": 0 })]);
    let data = json!({
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": { "anyOf": data.collect::<Vec<_>>() },
        "description": "The event; of `gap`, what is not kept any more; of `error`, why the stream breaks off; of `closed`, nothing.",
    });
    Object::new("One server-sent event.")
        .maybe(
            "id",
            json!({ "type": "string", "pattern": "^[0-9]+$", "description": "Its number; by it a stream goes on." }),
        )
        .with("event", word("What happened.", names))
        .with("data", data)
        .schema()
}

fn any() -> Value {
    let one_of: Vec<_> = EVENT_NAMES.iter().map(|(_, name)| named(name)).collect();
    let mapping: Map<_, _> =
        EVENT_NAMES.iter().map(|(kind, name)| ((*kind).to_owned(), named(name)["$ref"].clone())).collect();
    json!({
        "description": "One event of a session, turn or run. In a stream, `seq` is the event's id and `type` its name.",
        "oneOf": one_of,
        "discriminator": { "propertyName": "type", "mapping": mapping },
    })
}

/// What every event has.
fn event(kind: &str, about: &'static str) -> Object {
    Object::new(about)
        .with("seq", json!({ "type": "integer", "minimum": 1, "description": "Its number in its session: 1, 2, 3 …" }))
        .with("at", time("When it was recorded."))
        .with("turn_id", id(TurnId::PREFIX, "The turn it belongs to."))
        .with("type", json!({ "type": "string", "const": kind }))
}

fn body(kind: &str) -> Object {
    let of = |about| event(kind, about);
    match kind {
        "prompt" => of("The caller asked.")
            .with("text", text("What was asked."))
            .with("model", text("The model asked for."))
            .maybe("system", text("System text."))
            .with("system_mode", word("What became of the agent's own system prompt.", ["append", "replace"]))
            .maybe("effort", word("Effort asked for.", Effort::ALL.map(|(word, _)| word)))
            .maybe("files", list("Attached uploads.", &id(FileId::PREFIX, "An upload.")))
            .maybe("output_schema", json!({ "type": "object", "description": "The schema that the answer is to fit." }))
            .maybe(
                "instruction",
                text("What the service put behind the text, where the agent has to be told of the schema in words."),
            ),
        "started" => of("An agent was set to work on the turn."),
        "context" => of("What the agent knows of the turns before; in sessions only.").with("source", source()),
        "text" => of("A piece of the answer.").with("content", text("The text.")),
        "thinking" => of("A piece of the agent's reasoning.").with("content", text("The text.")),
        "tool_call" => of("The agent used a tool.")
            .with("call", text("The agent's id of the call."))
            .with("name", text("The tool."))
            .with("args", json!({ "description": "What it was given." })),
        "tool_result" => of("A tool answered.")
            .with("call", text("The id of the call."))
            .with("result", json!({ "description": "What it gave back." }))
            .with("failed", flag("Whether it failed.")),
        "retry" => of("The agent tries its model again.")
            .with("attempt", count("Number of the coming try."))
            .maybe("status", count("HTTP status of the failure."))
            .with("reason", text("The agent's word for it.")),
        "asked_again" => {
            of("The answer did not fit the schema, so the agent was asked again, in the same conversation.")
                .with("attempt", count("Which time: 1, 2 …"))
                .with("violations", list("What was wrong with the answer.", &named("Violation")))
                .with("text", text("What it was told."))
        }
        "unrecognised" => of("Output nobody understood, cut.").with("raw", text("The beginning of it.")),
        _ => ended(of("The turn is over; nothing follows it in the turn.")),
    }
}

fn source() -> Value {
    let sources =
        [ContextSource::New, ContextSource::Warm, ContextSource::Resumed, ContextSource::Rebuilt, ContextSource::Reset];
    word("Where it has it from.", sources.map(ContextSource::as_str))
}

fn ended(event: Object) -> Object {
    let failure = Object::new("What went wrong.")
        .with("kind", word("The stable code.", failure_codes()))
        .with("message", text("What happened, and what to do."))
        .maybe("violations", list("Of `output_invalid`: where the answer does not fit, and how.", &named("Violation")));
    event
        .maybe("answer", text("The answer; absent on most failures."))
        .maybe(
            "output",
            json!({ "description": "The answer as data, where an `output_schema` was asked for and it fits." }),
        )
        .maybe("stop_reason", or_null(text("The agent's word for why it stopped.")))
        .maybe("failure", failure.schema())
        .maybe("stderr", text("The end of the agent's error stream, on failure."))
        .with(
            "duration_ms",
            count("Milliseconds from the start of the agent, or from acceptance if none started, to the end."),
        )
        .with("usage", named("Usage"))
        .maybe("events_dropped", count("Events beyond the limit that were counted but not kept."))
}
