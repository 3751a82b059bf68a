//! The lines of one turn: bare messages of the protocol, of both sides, in the order they were sent.

use std::collections::HashSet;

use clawdforge_core::agent::{AgentSignal, Failure, FailureKind, TurnEnd};
use serde_json::Value;

use super::failures::Refusal;
use crate::acp::translate::{Turn, is_without_program};
use crate::acp::wire::{Error, PromptResponse, SessionUpdate, StopReason};

/// Requests of the agent whose answers are expected. Beyond that they are not told apart from the prompt's.
const ASKED_MAX: usize = 1_024;

/// Bytes of a line that is no message which are shown.
const SHOWN_BYTES_MAX: usize = 256;

/// Reads the lines of one turn.
#[derive(Debug)]
pub(super) struct Stream {
    turn: Turn,
    /// The agent should know of turns before this one.
    has_memory: bool,
    /// The agent's own id of the conversation, once it is known to have the prompt.
    session: Option<String>,
    /// The number of the prompt, whose answer ends the turn.
    prompt: Option<Value>,
    /// Numbers of the agent's own requests, which it counts by itself: one may be that of the prompt.
    asked: HashSet<String>,
    refusal: Option<Refusal>,
    /// The adapter lives, and the program behind it has died.
    has_lost_program: bool,
    state: Context,
}

/// What the stream shows of the agent's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    AsExpected,
    /// It was begun anew, behind our back.
    Reset,
    /// The agent lost it before it took the prompt.
    Forgotten,
}

impl Stream {
    /// A turn of a conversation that has cost so much.
    pub(super) fn new(cost: Option<f64>, has_memory: bool) -> Self {
        Self {
            turn: Turn::after(cost),
            has_memory,
            session: None,
            prompt: None,
            asked: HashSet::new(),
            refusal: None,
            has_lost_program: false,
            state: Context::AsExpected,
        }
    }

    /// The agent's own id of the conversation that took the prompt.
    pub(super) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Whether what the agent knew is gone.
    pub(super) fn has_lost_context(&self) -> bool {
        self.state != Context::AsExpected
    }

    /// Whether the agent cannot go on with the conversation, and another start of it can.
    pub(super) fn has_lost_program(&self) -> bool {
        self.has_lost_program
    }

    /// What the conversation has cost so far.
    pub(super) fn cost(&self) -> Option<f64> {
        self.turn.cost()
    }

    /// The error that acpx itself has reported.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// What a line means, in order. The last of a turn is [`AgentSignal::TurnEnded`].
    pub(super) fn take(&mut self, line: &[u8]) -> Vec<AgentSignal> {
        let message = serde_json::from_slice::<Value>(line).ok().filter(Value::is_object);
        let Some(mut message) = message else {
            let shown = line.get(..SHOWN_BYTES_MAX).unwrap_or(line);
            return vec![AgentSignal::Unrecognised { raw: String::from_utf8_lossy(shown).into_owned() }];
        };
        match message["method"].as_str() {
            Some("session/prompt") => {
                self.session = message["params"]["sessionId"].as_str().map(str::to_owned);
                self.prompt = Some(message["id"].take());
                vec![AgentSignal::Working]
            }
            Some("session/new") if self.has_memory && self.state == Context::AsExpected => {
                self.state = Context::Reset;
                vec![AgentSignal::ContextReset]
            }
            Some("session/update") => self.update(message["params"].take()),
            Some(method) => {
                if !is_of_the_client(method) && !message["id"].is_null() && self.asked.len() < ASKED_MAX {
                    self.asked.insert(message["id"].to_string());
                }
                vec![AgentSignal::Working]
            }
            None => self.answer(message),
        }
    }

    fn update(&mut self, mut params: Value) -> Vec<AgentSignal> {
        // What comes before the prompt is a replay of what we have in our own log.
        if self.prompt.is_none() || params["sessionId"].as_str() != self.session() {
            return vec![AgentSignal::Working];
        }
        match serde_json::from_value::<SessionUpdate>(params["update"].take()) {
            Ok(update) => self.turn.update(update),
            // A kind that this version does not know.
            Err(_) => vec![AgentSignal::Working],
        }
    }

    fn answer(&mut self, mut message: Value) -> Vec<AgentSignal> {
        let id = &message["id"];
        if id.is_null() && message["error"].is_object() {
            self.refusal = Some(Refusal(message["error"].take()));
            return vec![AgentSignal::Working];
        }
        let is_of_the_prompt = message["result"]["stopReason"].is_string();
        let answers_the_agent = !is_of_the_prompt && self.asked.remove(&id.to_string());
        if answers_the_agent || self.prompt.as_ref() != Some(id) {
            return vec![AgentSignal::Working];
        }
        let answered = if message["error"].is_object() {
            let error = serde_json::from_value::<Error>(message["error"].take());
            Err(error.unwrap_or_else(|_| Error::internal_error()))
        } else {
            let reason = message["result"]["stopReason"].clone();
            match serde_json::from_value::<PromptResponse>(message["result"].take()) {
                Ok(response) => Ok(response),
                Err(_) if reason.is_string() => return self.ended_strangely(),
                Err(_) => Err(Error::internal_error()),
            }
        };
        if answered.as_ref().is_err_and(|error| self.turn.is_lost_by(error)) {
            self.state = Context::Forgotten;
            let message = "the agent lost the conversation before it took the prompt; send the prompt again";
            let failure = Some(Failure::new(FailureKind::Crashed, message));
            return vec![AgentSignal::TurnEnded(TurnEnd { failure, ..TurnEnd::default() })];
        }
        self.has_lost_program = answered.as_ref().is_err_and(is_without_program);
        self.turn.ended(answered)
    }

    /// The turn is over for a reason that this version does not know.
    fn ended_strangely(&mut self) -> Vec<AgentSignal> {
        let mut signals = self.turn.ended(Ok(PromptResponse::new(StopReason::EndTurn)));
        if let Some(AgentSignal::TurnEnded(end)) = signals.last_mut() {
            end.stop_reason = Some("unknown".to_owned());
        }
        signals
    }
}

/// Requests that acpx makes of the agent; every other is the agent's own.
fn is_of_the_client(method: &str) -> bool {
    let session = method.strip_prefix("session/").is_some_and(|rest| rest != "request_permission");
    session || matches!(method, "initialize" | "authenticate" | "logout")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PROMPT: &str =
        r#"{"jsonrpc":"2.0","id":3,"method":"session/prompt","params":{"sessionId":"s2","prompt":[]}}"#;
    const NEW: &str = r#"{"jsonrpc":"2.0","id":2,"method":"session/new","params":{"cwd":"/w","mcpServers":[]}}"#;

    fn chunk(session: &str, text: &str) -> String {
        let update = json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}});
        json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session, "update": update}})
            .to_string()
    }

    fn read(stream: &mut Stream, lines: &[&str]) -> Vec<AgentSignal> {
        let signals = lines.iter().flat_map(|line| stream.take(line.as_bytes()));
        signals.filter(|signal| *signal != AgentSignal::Working).collect()
    }

    fn end(signals: &[AgentSignal]) -> &TurnEnd {
        match signals.last() {
            Some(AgentSignal::TurnEnded(end)) => end,
            other => panic!("not over: {other:?}"),
        }
    }

    #[test]
    fn a_cold_turn_is_read_from_its_handshake_to_its_result() {
        let mut stream = Stream::new(None, false);
        let signals = read(
            &mut stream,
            &[
                r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#,
                r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":1}}"#,
                NEW,
                r#"{"jsonrpc":"2.0","id":2,"result":{"sessionId":"s2"}}"#,
                &chunk("s2", "a replay"),
                PROMPT,
                &chunk("s1", "of another conversation"),
                &chunk("s2", "hello"),
                r#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s2","update":{"sessionUpdate":"new_kind"}}}"#,
                r#"{"jsonrpc":"2.0","id":3,"result":{"stopReason":"end_turn","usage":{"totalTokens":3,"inputTokens":2,"outputTokens":1}}}"#,
            ],
        );
        assert_eq!(signals.first(), Some(&AgentSignal::Text("hello".into())));
        assert_eq!(signals.len(), 2);
        let end = end(&signals);
        assert_eq!((end.answer.as_deref(), end.stop_reason.as_deref()), (Some("hello"), Some("end_turn")));
        assert_eq!(
            (end.usage.output_tokens, stream.session(), stream.has_lost_context()),
            (Some(1), Some("s2"), false)
        );
    }

    #[test]
    fn a_conversation_begun_anew_is_told_once_where_there_was_one() {
        let mut stream = Stream::new(None, true);
        assert_eq!(read(&mut stream, &[NEW, NEW, PROMPT]), [AgentSignal::ContextReset]);
        assert!(stream.has_lost_context());
    }

    #[test]
    fn an_answer_to_the_agents_own_request_of_the_same_number_is_not_the_prompts() {
        let mut stream = Stream::new(None, true);
        let ask = r#"{"jsonrpc":"2.0","id":3,"method":"session/request_permission","params":{}}"#;
        let allowed = r#"{"jsonrpc":"2.0","id":3,"result":{"outcome":{"outcome":"selected","optionId":"yes"}}}"#;
        let read_file = r#"{"jsonrpc":"2.0","id":3,"method":"fs/read_text_file","params":{}}"#;
        let refused = r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32603,"message":"no"}}"#;
        assert_eq!(read(&mut stream, &[PROMPT, ask, allowed, read_file, refused]), []);
        let over = read(&mut stream, &[r#"{"jsonrpc":"2.0","id":3,"result":{"stopReason":"cancelled"}}"#]);
        assert_eq!(end(&over).stop_reason.as_deref(), Some("cancelled"));
    }

    #[test]
    fn errors_of_the_agent_end_the_turn_and_errors_of_acpx_are_kept() {
        let mut stream = Stream::new(None, true);
        let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"gone","data":{"detailCode":"AGENT_DISCONNECTED"}}}"#;
        assert_eq!(read(&mut stream, &[PROMPT, error]), []);
        assert_eq!(stream.refusal().unwrap().failure("demo").kind, FailureKind::Crashed);

        let limited = r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32603,"message":"Internal error: x","data":{"errorKind":"rate_limit"}}}"#;
        let over = read(&mut Stream::new(None, true), &[PROMPT, limited]);
        assert_eq!(end(&over).failure.as_ref().unwrap().kind, FailureKind::RateLimited);

        let mut stream = Stream::new(None, true);
        let gone = r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32002,"message":"Resource not found"}}"#;
        let over = read(&mut stream, &[PROMPT, gone]);
        assert_eq!(
            (end(&over).failure.as_ref().unwrap().kind, stream.has_lost_context()),
            (FailureKind::Crashed, true)
        );
    }

    #[test]
    fn a_turn_whose_program_died_behind_its_adapter_keeps_the_conversation_and_tells_of_it() {
        for (message, is_gone) in [("The Claude Agent process exited unexpectedly", true), ("something else", false)] {
            let mut stream = Stream::new(None, true);
            let error = json!({"jsonrpc": "2.0", "id": 3, "error": {"code": -32603, "message": message}}).to_string();
            let over = read(&mut stream, &[PROMPT, &error]);
            assert!(end(&over).failure.is_some());
            assert_eq!((stream.has_lost_program(), stream.has_lost_context()), (is_gone, false), "{message}");
            assert_eq!(stream.session(), Some("s2"));
        }
    }

    #[test]
    fn a_stop_reason_nobody_knows_and_lines_that_are_no_messages_are_told() {
        let mut stream = Stream::new(None, false);
        let signals = read(
            &mut stream,
            &[
                "not json",
                "[1]",
                PROMPT,
                &chunk("s2", "hi"),
                r#"{"jsonrpc":"2.0","id":3,"result":{"stopReason":"bored"}}"#,
            ],
        );
        assert_eq!(signals[0], AgentSignal::Unrecognised { raw: "not json".into() });
        assert_eq!(signals[1], AgentSignal::Unrecognised { raw: "[1]".into() });
        let end = end(&signals);
        assert_eq!(
            (end.stop_reason.as_deref(), end.answer.as_deref(), &end.failure),
            (Some("unknown"), Some("hi"), &None)
        );
    }
}
