//! What each route of `/v1` takes and answers.

use axum::http::Method;
use clawdforge_api::problem::Code;
use clawdforge_core::id::{RunId, SessionId};

use super::operation::Operation;
use super::parts;

/// The groups of operations.
pub(super) const TAGS: [(&str, &str); 6] = [
    ("runs", "One prompt, with no memory before or after."),
    ("sessions", "Conversations with one agent."),
    ("turns", "One prompt in a session and all the agent does until it stops."),
    ("files", "Uploads, to be attached to runs and turns."),
    ("tokens", "What apps sign in with: the operator's business."),
    ("about", "What there is, what was used, what went wrong."),
];

const WAITED: &str = "When it has ended, also when it failed: `outcome` says what came of it.";
const STREAMED: &str = "Every event as it comes, to the end; where `Accept: text/event-stream` asks for it.";
const AT_ONCE: &str = "As it stands; where `Prefer: respond-async` asks for it.";
const LOCATION: (&str, &str, bool) = ("Location", "Where it is.", true);
const REPLAYED: (&str, &str, bool) = ("Idempotent-Replayed", "`true` where the request had been sent before.", false);
const APPLIED: (&str, &str, bool) = ("Preference-Applied", "`respond-async`.", true);

/// Where an answer has the id of what it is about.
const ID: &str = "$response.body#/id";
/// Where a turn has the id of its session.
const SESSION_ID: &str = "$response.body#/session_id";
const OF_RUN: [&str; 3] = ["getRun", "cancelRun", "followRun"];
const OF_SESSION: [&str; 7] =
    ["getSession", "changeSession", "closeSession", "forkSession", "followSession", "submitTurn", "listTurns"];
const OF_TURN: [&str; 4] = ["getTurn", "cancelTurn", "deleteTurn", "followTurn"];

/// Why work that was asked for can be refused.
const WORK: [Code; 5] = [Code::NotFound, Code::KeyReused, Code::Busy, Code::IsolationTooWeak, Code::OutcomeUnrecorded];

/// Every operation.
pub(super) fn all(timeout_secs_max: u64) -> Vec<Operation> {
    let mut all = runs(timeout_secs_max);
    all.extend(sessions());
    all.extend(turns(timeout_secs_max));
    all.extend(tokens());
    all.extend(rest());
    all
}

fn get(path: &'static str, name: &'static str, tag: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::GET, path, name, tag, summary)
}

fn post(path: &'static str, name: &'static str, tag: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::POST, path, name, tag, summary)
}

fn patch(path: &'static str, name: &'static str, tag: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::PATCH, path, name, tag, summary)
}

fn delete(path: &'static str, name: &'static str, tag: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::DELETE, path, name, tag, summary)
}

/// The three answers of work that takes time.
fn work(operation: Operation, schema: &str) -> Operation {
    operation
        .about("A caller who hangs up stops only the waiting.")
        .with(parts::wishes())
        .answers(200, WAITED, schema)
        .streams(STREAMED)
        .answers(202, AT_ONCE, schema)
        .headers(200, &[LOCATION, REPLAYED])
        .headers(202, &[LOCATION, REPLAYED, APPLIED])
        .refuses(&WORK)
}

fn runs(timeout_secs_max: u64) -> Vec<Operation> {
    vec![
        work(post("/v1/runs", "submitRun", "runs", "Run one prompt."), "Run")
            .body("application/json", parts::run_body(timeout_secs_max))
            .leads_to(200, &OF_RUN, &[("run", ID)])
            .leads_to(202, &OF_RUN, &[("run", ID)]),
        get("/v1/runs", "listRuns", "runs", "The app's runs, newest first, without what came of each.")
            .query(parts::page_by_id(RunId::PREFIX))
            .answers(200, "A page.", "RunPage"),
        get("/v1/runs/{run}", "getRun", "runs", "One run, with what came of it.")
            .of([parts::run()])
            .answers(200, "The run.", "Run"),
        post("/v1/runs/{run}/cancel", "cancelRun", "runs", "Have a run stopped, or taken out of the queue.")
            .of([parts::run()])
            .answers(202, "It is on record; the run ends soon.", "Run")
            .refuses(&[Code::AlreadyEnded]),
        get("/v1/runs/{run}/events", "followRun", "runs", "The events of a run as a stream, to its end.")
            .of([parts::run()])
            .query(parts::after())
            .streams("The events."),
    ]
}

fn sessions() -> Vec<Operation> {
    vec![
        post("/v1/sessions", "openSession", "sessions", "Open a session. Its agent starts with it where a slot is free, else with the first turn.")
            .with([parts::idempotency_key()])
            .body("application/json", parts::session_body())
            .answers(201, "The session.", "Session")
            .headers(201, &[LOCATION, REPLAYED])
            .leads_to(201, &OF_SESSION, &[("session", ID)])
            .refuses(&[
                Code::Busy,
                Code::KeyReused,
                Code::UnknownAgent,
                Code::IsolationTooWeak,
                Code::NotOffered,
                Code::AgentUnavailable,
                Code::NotFound,
            ]),
        get("/v1/sessions", "listSessions", "sessions", "The app's sessions, newest first.")
            .query([parts::include_closed()])
            .query(parts::page_by_id(SessionId::PREFIX))
            .answers(200, "A page.", "SessionPage"),
        get("/v1/sessions/{session}", "getSession", "sessions", "One session.").of([parts::session()]).answers(
            200,
            "The session.",
            "Session",
        ),
        patch(
            "/v1/sessions/{session}",
            "changeSession",
            "sessions",
            "Change model, effort, mode or notes of a session.",
        )
        .about("Turns that begin from then on go by it; one under way goes on.")
        .of([parts::session()])
        .body("application/json", parts::change_body())
        .answers(200, "The session as it is now.", "Session")
        .refuses(&[Code::SessionClosed]),
        delete("/v1/sessions/{session}", "closeSession", "sessions", "Close a session; again changes nothing.")
            .about("What is under way ends, and its agent is gone with the answer.")
            .of([parts::session()])
            .answers(200, "The session, which is closed.", "Session")
            .refuses(&[Code::Stopping]),
        post("/v1/sessions/{session}/fork", "forkSession", "sessions", "Fork a session: a new one that knows what it knows now.")
            .about(
                "With its agent, its choices but for what the body changes, and a copy of its workspace. From then on neither \
                 sees the other's turns. Only while no turn of it is under way or waits, and where its agent offers forks.",
            )
            .of([parts::session()])
            .with([parts::idempotency_key()])
            .optional_body("application/json", parts::fork_body())
            .answers(201, "The fork.", "Session")
            .headers(201, &[LOCATION, REPLAYED])
            .refuses(&[
                Code::SessionClosed,
                Code::SessionBusy,
                Code::ForkImpossible,
                Code::Busy,
                Code::KeyReused,
                Code::IsolationTooWeak,
                Code::AgentUnavailable,
                Code::DiskFull,
            ]),
        get("/v1/sessions/{session}/events", "followSession", "sessions", "The events of a session.")
            .of([parts::session()])
            .query(parts::after())
            .query(parts::page_by_event())
            .answers(200, "A page of what is there.", "EventPage")
            .streams("A stream until the session is closed, where `Accept: text/event-stream` asks for it."),
    ]
}

fn turns(timeout_secs_max: u64) -> Vec<Operation> {
    let one = || [parts::session(), parts::turn()];
    let turn = "/v1/sessions/{session}/turns/{turn}";
    let cancelled = |operation: Operation| {
        operation
            .of(one())
            .answers(202, "It is on record; the turn ends soon, or when it is its turn.", "Turn")
            .refuses(&[Code::AlreadyEnded])
    };
    vec![
        work(
            post("/v1/sessions/{session}/turns", "submitTurn", "turns", "Give a session a prompt.")
                .of([parts::session()]),
            "Turn",
        )
        .body("application/json", parts::turn_body(timeout_secs_max))
        .leads_to(200, &OF_TURN, &[("session", SESSION_ID), ("turn", ID)])
        .leads_to(202, &OF_TURN, &[("session", SESSION_ID), ("turn", ID)])
        .refuses(&[Code::SessionClosed, Code::Deferred]),
        get("/v1/sessions/{session}/turns", "listTurns", "turns", "The turns of a session, in their order.")
            .of([parts::session()])
            .query(parts::page_by_number())
            .answers(200, "A page.", "TurnPage"),
        get(turn, "getTurn", "turns", "One turn, with what came of it.").of(one()).answers(200, "The turn.", "Turn"),
        cancelled(delete(turn, "deleteTurn", "turns", "Have a turn stopped, or taken out of the queue.")),
        cancelled(post(
            "/v1/sessions/{session}/turns/{turn}/cancel",
            "cancelTurn",
            "turns",
            "Have a turn stopped, or taken out of the queue.",
        )),
        get(
            "/v1/sessions/{session}/turns/{turn}/events",
            "followTurn",
            "turns",
            "The events of a turn as a stream, to its end.",
        )
        .of(one())
        .query(parts::after())
        .streams("The events."),
    ]
}

fn tokens() -> Vec<Operation> {
    let name = "$response.body#/name";
    let operations = vec![
        post("/v1/tokens", "mintToken", "tokens", "Mint the token of an app.")
            .about("Its secret is shown only in this answer. An app has one token; revoke it to mint another.")
            .body("application/json", parts::token_body())
            .answers(201, "The token, with its secret.", "MintedToken")
            .headers(201, &[LOCATION])
            .leads_to(201, &["getToken", "revokeToken"], &[("name", name)])
            .refuses(&[Code::NameTaken, Code::TooManyTokens]),
        get("/v1/tokens", "listTokens", "tokens", "The live tokens by name, without their secrets.")
            .query(parts::page_by_name())
            .answers(200, "A page.", "TokenPage"),
        get("/v1/tokens/{name}", "getToken", "tokens", "The live token of an app.").of([parts::name()]).answers(
            200,
            "The token.",
            "Token",
        ),
        delete("/v1/tokens/{name}", "revokeToken", "tokens", "Revoke the token of an app.")
            .about("Work under way goes on; a new token of the same name is the same app's.")
            .of([parts::name()])
            .answers_nothing("It is good for nothing any more."),
    ];
    operations.into_iter().map(Operation::for_the_operator).collect()
}

fn rest() -> Vec<Operation> {
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    vec![
        post("/v1/files", "uploadFile", "files", "Upload one file, to attach it by its id.")
            .with([parts::ttl_secs(), parts::idempotency_key()])
            .body("multipart/form-data", parts::upload_body())
            .answers(201, "The upload.", "File")
            .headers(201, &[LOCATION, REPLAYED])
            .leads_to(201, &["getFile"], &[("file", ID)])
            .refuses(&[Code::UploadTooLarge, Code::DiskFull, Code::KeyReused, Code::NotFound]),
        get("/v1/files/{file}", "getFile", "files", "What is known of an upload that has not expired.")
            .of([parts::file()])
            .answers(200, "The upload.", "File"),
        get("/v1/agents", "listAgents", "about", "The agents that sessions can be opened with, by name.").answers(
            200,
            "All of them.",
            "AgentPage",
        ),
        get("/v1/usage", "sumUsage", "about", "What the app's runs and turns used and cost.")
            .query(parts::span())
            .answers(200, "The sum.", "UsageSum"),
        get("/problems/{code}", "getProblem", "about", "The page about a problem.")
            .for_everybody()
            .with([parts::code(&codes)])
            .answers_text("The page, in Markdown.", "text/markdown")
            .refuses(&[Code::NoSuchRoute]),
    ]
}
