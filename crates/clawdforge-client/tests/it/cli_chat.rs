//! `session chat`: what goes in, what comes out where, and every way it ends.

use std::future::pending;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use axum::response::Response;
use clawdforge_client::commands::Exit;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::cli::{Cli, ClosedPipe};
use crate::sdk_sessions::{STATE, answer, service};
use crate::streams::{Then, ended, event, failed, located, refused, streaming, text};
use crate::stub::{Asked, Stub, reply};

/// Methods and paths of everything asked.
fn lines(stub: &Stub) -> Vec<String> {
    stub.asked().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
}

const OPEN: &str = "POST /sessions";
const TURN: &str = "POST /v1/sessions/0190-a/turns";
const FOLLOW: &str = "GET /v1/sessions/0190-a/turns/trn_1/events";
const LOOK: &str = "GET /sessions/0190-a";
const CLOSE: &str = "DELETE /sessions/0190-a";

fn is_turn(asked: &Asked) -> bool {
    asked.path.ends_with("/turns")
}

/// A turn with these events, and what its end tells.
fn turn(events: &Value, end: &Value) -> Response {
    let mut told = String::new();
    let mut count = 0;
    for body in events.as_array().unwrap() {
        count += 1;
        told.push_str(&event(count, body["type"].as_str().unwrap(), body));
    }
    let mut end = end.clone();
    end["duration_ms"] = 1.into();
    told.push_str(&event(count + 1, "ended", &end));
    located(streaming(told, Then::Ends), "/v1/sessions/0190-a/turns/trn_1")
}

fn usual() -> Value {
    json!({ "stop_reason": "end_turn" })
}

/// A service that answers each prompt with itself.
async fn echo() -> Stub {
    Stub::with(|asked| {
        if !is_turn(asked) {
            return answer(asked);
        }
        turn(&json!([{"type": "text", "content": asked.json()["prompt"]}]), &usual())
    })
    .await
}

/// A service whose turns are answered with these statuses, one after the other; 0 is a connection that breaks within the
/// answer, and 1 a turn that fails.
async fn turns(statuses: &'static [u16]) -> Stub {
    let count = AtomicUsize::new(0);
    Stub::with(move |asked| {
        if asked.path.ends_with("/events") {
            return streaming([text(2, "lf"), ended(3)].concat(), Then::Ends);
        }
        if !is_turn(asked) {
            return answer(asked);
        }
        let place = "/v1/sessions/0190-a/turns/trn_1";
        match statuses[count.fetch_add(1, Ordering::Relaxed)] {
            0 => located(streaming(text(1, "ha"), Then::Breaks), place),
            1 => located(streaming(failed(1, "agent_crashed", "because"), Then::Ends), place),
            200 => turn(&json!([{"type": "text", "content": "fine"}]), &usual()),
            status => refused("a_code", status, None),
        }
    })
    .await
}

#[tokio::test]
async fn each_line_is_a_turn_of_a_session_that_is_closed_at_the_end() {
    let stub = echo().await;
    let input = &b"one\r\n\n  \n/help\n two words \n/compact\nlast"[..];
    let ended = Cli::of(&stub).stdin(input).run(&["session", "chat"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Done, "one\n two words \n/compact\nlast\n"));
    assert!(ended.stderr.contains("/quit") && !ended.stderr.contains("> "), "{ended:?}");
    assert!(ended.stderr.contains("session 0190-a"), "{ended:?}");
    assert_eq!(lines(&stub), [OPEN, TURN, TURN, TURN, TURN, CLOSE]);
    assert_eq!(stub.asked()[0].json(), json!({}));
}

#[tokio::test]
async fn what_was_asked_for_travels() {
    let stub = echo().await;
    let args = ["session", "chat", "--agent", "claude", "--model", "opus", "--timeout", "30"];
    assert_eq!(Cli::of(&stub).stdin(&b"hi\n"[..]).run(&args).await.exit, Exit::Done);
    assert_eq!(stub.asked()[0].json(), json!({"agent": "claude", "model": "opus"}));
    assert_eq!(stub.asked()[1].json(), json!({"prompt": "hi", "timeout_secs": 30}));
}

#[tokio::test]
async fn quit_ends_it_and_nothing_after_it_is_sent() {
    let stub = echo().await;
    let ended = Cli::of(&stub).stdin(&b"one\n/quit\ntwo\n"[..]).run(&["session", "chat"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Done, "one\n"));
    assert_eq!(lines(&stub), [OPEN, TURN, CLOSE]);
}

#[tokio::test]
async fn a_session_that_is_attached_to_is_looked_at_first_and_stays_open() {
    let stub = echo().await;
    let ended = Cli::of(&stub).stdin(&b"one\n"[..]).run(&["session", "chat", "0190-a"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Done, "one\n"));
    assert_eq!(lines(&stub), [LOOK, TURN]);

    let closed = Stub::answering(200, &STATE.replace(r#""closed_at":null"#, r#""closed_at":9"#)).await;
    let missing = Stub::answering(404, r#"{"detail":"session not found","error":"session not found"}"#).await;
    for stub in [closed, missing] {
        let ended = Cli::of(&stub).stdin(&b"one\n"[..]).run(&["session", "chat", "0190-a"]).await;
        assert_eq!((ended.exit, lines(&stub)), (Exit::Refused, vec![LOOK.to_owned()]), "{ended:?}");
    }
}

/// Everything an agent can do in a turn.
async fn busy_agent() -> Stub {
    Stub::with(|asked| {
        let events = json!([
            {"type": "context", "source": "rebuilt"},
            {"type": "thinking", "content": "hm\u{1b}[2J\nlet"},
            {"type": "thinking", "content": " me see"},
            {"type": "text", "content": "I read"},
            {"type": "tool_call", "call": "1", "name": "Read", "args": {"path": "a\u{7}b"}},
            {"type": "tool_result", "call": "1", "result": "x".repeat(5_000)},
            {"type": "tool_call", "call": "2", "name": "Write", "args": {"text": "y".repeat(5_000)}},
            {"type": "tool_call", "call": "3", "name": "List", "args": {}},
            {"type": "plan", "content": "p"},
            {"type": "text", "content": " it\u{1b}[2J."},
        ]);
        let end = json!({"stop_reason": "max_tokens", "events_dropped": 3});
        if is_turn(asked) { turn(&events, &end) } else { answer(asked) }
    })
    .await
}

#[tokio::test]
async fn in_a_pipe_the_answer_is_alone_and_whole_on_standard_output() {
    let stub = busy_agent().await;
    let ended = Cli::of(&stub).stdin(&b"go\n"[..]).run(&["session", "chat"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Done, "I read it\u{1b}[2J.\n"));
    let said: Vec<&str> = ended.stderr.lines().collect();
    let write = format!("· Write {}…", &format!(r#"{{"text":"{}"#, "y".repeat(200))[..100]);
    assert_eq!(
        said[1..],
        [
            "clawdforge: context: rebuilt (the agent had forgotten; a fresh one was given the transcript)",
            r#"· Read {"path":"a\u0007b"}"#,
            &write,
            "· List",
            "· plan",
            "clawdforge: the agent stopped: max_tokens",
            "clawdforge: there was more than is kept; 3 events were left out",
        ]
    );
}

#[tokio::test]
async fn on_a_terminal_thinking_is_dimmed_and_nothing_steers_it() {
    let stub = busy_agent().await;
    let ended = Cli::of(&stub).terminal().stdin(&b"go\n"[..]).run(&["session", "chat"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Done, "I read\n it\u{fffd}[2J.\n"));
    assert!(
        ended.stderr.contains("\u{1b}[2mhm\u{fffd}[2J\nlet\u{1b}[0m\u{1b}[2m me see\u{1b}[0m\n"),
        "{:?}",
        ended.stderr
    );
    assert!(ended.stderr.contains("> "), "{:?}", ended.stderr);
    let own = ended.stderr.replace("\u{1b}[2m", "").replace("\u{1b}[0m", "").replace("\r\u{1b}[K", "");
    assert!(!own.contains('\u{1b}'), "{own:?}");
}

#[tokio::test]
async fn on_one_terminal_everything_has_lines_of_its_own() {
    let stub = busy_agent().await;
    let ended = Cli::of(&stub).one_terminal().stdin(&b"go\n"[..]).run(&["session", "chat"]).await;
    // What a progress line takes away must be a progress line, or nothing.
    let mut erased: Vec<&str> = ended.stdout.split("\r\u{1b}[K").collect();
    erased.pop();
    assert!(!erased.is_empty());
    for erased in erased {
        let line = erased.rsplit('\n').next().unwrap_or_default();
        assert!(matches!(line, "" | "> " | "running… 0 s"), "{line:?} was erased: {:?}", ended.stdout);
    }
    let shown = ended.stdout.replace("\r\u{1b}[K", "").replace("running… 0 s", "");
    for lines in [" me see\u{1b}[0m\nI read\n· Read {", "· List\n· plan\n it\u{fffd}[2J.\nclawdforge: the agent"] {
        assert!(shown.contains(lines), "{lines:?} is missing: {shown:?}");
    }
}

#[tokio::test]
async fn a_usual_turn_says_nothing_but_the_answer() {
    for context in ["new", "warm"] {
        let stub = Stub::with(move |asked| {
            let events = json!([{"type": "context", "source": context}, {"type": "text", "content": "a\n"}]);
            if is_turn(asked) { turn(&events, &usual()) } else { answer(asked) }
        })
        .await;
        let ended = Cli::of(&stub).stdin(&b"go\n"[..]).run(&["session", "chat"]).await;
        assert_eq!((ended.stdout.as_str(), ended.stderr.lines().count()), ("a\n", 1), "{ended:?}");
    }
}

#[tokio::test]
async fn a_turn_that_fails_is_told_and_the_chat_goes_on() {
    let stub = turns(&[1, 503, 422, 500, 200]).await;
    let ended = Cli::of(&stub).stdin(&b"1\n2\n3\n4\n5\n"[..]).run(&["session", "chat"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Done, "fine\n"));
    assert_eq!(ended.stderr.matches("because").count(), 4, "{ended:?}");
    assert!(ended.stderr.contains("the turn failed: because"), "{ended:?}");
    assert_eq!(lines(&stub), [OPEN, TURN, TURN, TURN, TURN, TURN, CLOSE]);
}

#[tokio::test]
async fn an_answer_goes_on_where_its_connection_broke() {
    let stub = turns(&[0, 200]).await;
    let ended = Cli::of(&stub).stdin(&b"1\n2\n"[..]).run(&["session", "chat"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Done, "half\nfine\n"), "{ended:?}");
    assert_eq!(lines(&stub), [OPEN, TURN, FOLLOW, TURN, CLOSE]);
}

#[tokio::test]
async fn what_no_later_turn_can_mend_ends_the_chat() {
    for statuses in [&[401][..], &[403], &[404], &[410]] {
        let stub = turns(statuses).await;
        let ended = Cli::of(&stub).stdin(&b"1\n2\n"[..]).run(&["session", "chat"]).await;
        assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Refused, ""), "{statuses:?}");
        assert_eq!(ended.stderr.matches("because").count(), 1, "{ended:?}");
        assert_eq!(lines(&stub), [OPEN, TURN], "there is nothing to close");
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_closed_is_named() {
    let stub = Stub::with(|asked| if asked.method == "DELETE" { reply(500, "") } else { answer(asked) }).await;
    let ended = Cli::of(&stub).run(&["session", "chat"]).await;
    assert_eq!(ended.exit, Exit::Done);
    assert!(ended.stderr.contains("session 0190-a may still be open"), "{ended:?}");
    assert_eq!(lines(&stub), [OPEN, CLOSE], "it is tried once");
}

#[tokio::test]
async fn input_that_is_no_prompt_and_a_reader_that_went_away_end_it_with_the_session_closed() {
    let too_long = io::Read::take(io::repeat(b'x'), 9 * 1024 * 1024).chain(&b"\nmore\n"[..]);
    let stub = echo().await;
    for (cli, exit, hint) in [
        (Cli::of(&stub).stdin(&b"\xff\xfe\nmore\n"[..]), Exit::Usage, "UTF-8"),
        (Cli::of(&stub).stdin(too_long), Exit::Usage, "longer"),
    ] {
        let ended = cli.run(&["session", "chat"]).await;
        assert_eq!((ended.exit, ended.stdout.as_str()), (exit, ""), "{hint}");
        assert!(ended.stderr.contains(hint), "{ended:?}");
    }
    assert_eq!(lines(&stub), [OPEN, CLOSE, OPEN, CLOSE]);

    let stub = echo().await;
    let ended = Cli::of(&stub).stdout(ClosedPipe).stdin(&b"hi\nmore\n"[..]).run(&["session", "chat"]).await;
    assert_eq!((ended.exit, ended.stderr.lines().count()), (Exit::Failed, 1), "{ended:?}");
    assert_eq!(lines(&stub), [OPEN, TURN, CLOSE]);
}

#[tokio::test]
async fn a_prompt_of_the_longest_length_is_sent_whole() {
    let stub = echo().await;
    let prompt = "x".repeat(8 * 1024 * 1024);
    let input = io::Cursor::new(format!("{prompt}\r\n").into_bytes());
    let ended = Cli::of(&stub).stdin(input).run(&["session", "chat"]).await;
    assert_eq!((ended.exit, ended.stdout.len()), (Exit::Done, prompt.len() + 1));
}

/// A terminal at which somebody types when a test says so.
struct Keyboard(mpsc::Receiver<&'static [u8]>);

impl Read for Keyboard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The typist going away is the end of the input.
        let typed = self.0.recv().unwrap_or_default();
        buffer[..typed.len()].copy_from_slice(typed);
        Ok(typed.len())
    }
}

#[tokio::test]
async fn an_interrupt_during_a_turn_stops_the_waiting_and_the_next_one_ends_the_chat() {
    let reached = Arc::new(Notify::new());
    let reach = Arc::clone(&reached);
    let stub = Stub::with_slow(move |asked| {
        let reach = Arc::clone(&reach);
        Box::pin(async move {
            if is_turn(&asked) && asked.json()["prompt"] == "hang" {
                reach.notify_one();
                pending::<()>().await;
            }
            if !is_turn(&asked) {
                return answer(&asked);
            }
            turn(&json!([{"type": "text", "content": "still here"}]), &usual())
        })
    })
    .await;
    let (typist, keyboard) = mpsc::channel();
    let cli = Cli::of(&stub).terminal().stdin(Keyboard(keyboard));
    let (stdout, stderr) = (cli.stdout.clone(), cli.stderr.clone());
    let stays_at_the_terminal = typist.clone();
    typist.send(&b"hang\n"[..]).unwrap();
    let first = async move { reached.notified().await };
    let second = async move {
        stderr.wait_for("the turn goes on").await;
        typist.send(&b"hello\n"[..]).unwrap();
        stdout.wait_for("still here\n").await;
        stderr.wait_for("\u{1b}[K> ").await;
    };
    let interrupts = stream::once(first).chain(stream::once(second));
    let ended = cli.interrupts(interrupts).run(&["session", "chat"]).await;
    assert_eq!((ended.exit.code(), ended.stdout.as_str()), (130, "still here\n"), "{ended:?}");
    drop(stays_at_the_terminal);
    assert_eq!(lines(&stub), [OPEN, TURN, TURN, CLOSE]);
}

#[tokio::test]
async fn an_interrupt_is_heard_while_the_session_is_opened_and_while_it_is_closed() {
    for (method, expected) in [("POST", vec![OPEN]), ("DELETE", vec![OPEN, CLOSE])] {
        let reached = Arc::new(Notify::new());
        let reach = Arc::clone(&reached);
        let stub = Stub::with_slow(move |asked| {
            let reach = Arc::clone(&reach);
            Box::pin(async move {
                if asked.method == method {
                    reach.notify_one();
                    pending::<()>().await;
                }
                answer(&asked)
            })
        })
        .await;
        let ended = Cli::of(&stub).interrupt(async move { reached.notified().await }).run(&["session", "chat"]).await;
        let exit = if method == "POST" { Exit::Interrupted } else { Exit::Done };
        assert_eq!(ended.exit, exit, "{ended:?}");
        assert_eq!(lines(&stub), expected);
    }
}

#[tokio::test]
async fn standard_input_at_its_end_is_a_chat_without_a_turn() {
    let stub = service().await;
    assert_eq!(Cli::of(&stub).run(&["session", "chat"]).await.exit, Exit::Done);
    assert_eq!(lines(&stub), [OPEN, CLOSE]);
}
