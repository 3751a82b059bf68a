//! From the protocol's words to ours.

use std::collections::HashMap;

use agent_client_protocol::v1::schema::{
    self, ContentBlock, ContentChunk, PromptResponse, SessionUpdate, StopReason, ToolCall, ToolCallContent,
    ToolCallStatus, ToolCallUpdate,
};
use agent_client_protocol::{Error, ErrorCode};
use clawdforge_core::agent::{AgentSignal, Failure, FailureKind, TurnEnd, Usage};
use clawdforge_core::limits::{ANSWER_BYTES_MAX, EVENT_TEXT_BYTES_MAX};
use serde_json::Value;

use super::misspoken::Misspoken;
use super::quirks::Quirks;

/// Tool calls of one turn whose arguments or names are still expected. Further ones are told as they are.
const CALLS_OPEN_MAX: usize = 256;

/// Characters of an agent's error that a caller is shown.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// How Claude's adapter (0.101.0) and Codex' (2.6.0) begin to tell that the program behind them has died.
const CLAUDE_IS_GONE: &str = "The Claude Agent process exited unexpectedly";
const CODEX_IS_GONE: &str = "The Codex app-server ";

/// What is gathered over one turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The last message so far: a tool call or another message id begins a new one.
    answer: String,
    message: Option<String>,
    calls: HashMap<String, Call>,
    /// What tools have written so far, where an agent tells that apart from their results.
    outputs: HashMap<String, String>,
    /// What the conversation had cost before this turn, and until now.
    cost_before: Option<f64>,
    cost_now: Option<f64>,
    /// What the agent said of tokens at the end of the turn before, and of this one.
    told_before: Usage,
    told_now: Usage,
    quirks: Quirks,
    misspoken: Misspoken,
    /// The agent has said or done something, so it had the prompt.
    has_acted: bool,
}

/// A tool call that was not told yet, because agents send its arguments after it.
#[derive(Debug)]
struct Call {
    name: String,
    args: Value,
}

impl Turn {
    /// A turn of a conversation that has cost so much.
    pub(crate) fn after(cost: Option<f64>) -> Self {
        Self { cost_before: cost, cost_now: cost, ..Self::default() }
    }

    /// With what is special about the agent, and what it said of tokens at the end of the turn before.
    pub(super) fn of(mut self, quirks: Quirks, told: Usage) -> Self {
        self.misspoken = quirks.misspoken();
        self.quirks = quirks;
        self.told_now = told.clone();
        self.told_before = told;
        self
    }

    /// What the conversation has cost so far.
    pub(crate) fn cost(&self) -> Option<f64> {
        self.cost_now
    }

    /// What the agent said of tokens when it spoke of them last.
    pub(super) fn told_usage(&self) -> Usage {
        self.told_now.clone()
    }

    /// Whether an error says that the agent lost the conversation before it took the prompt, so that sending it again
    /// does nothing twice. What has acted had the prompt, and misses something else.
    pub(crate) fn is_lost_by(&self, error: &Error) -> bool {
        error.code == ErrorCode::RESOURCE_NOT_FOUND && !self.has_acted
    }

    /// What an update means to us, in order.
    pub(crate) fn update(&mut self, update: SessionUpdate) -> Vec<AgentSignal> {
        let heard = self.misspoken.hear(update);
        if self.misspoken.begins_anew() {
            self.answer.clear();
        }
        if heard.is_empty() {
            return vec![AgentSignal::Working];
        }
        heard.into_iter().flat_map(|update| self.translate(update)).collect()
    }

    fn translate(&mut self, update: SessionUpdate) -> Vec<AgentSignal> {
        self.has_acted |= matches!(
            update,
            SessionUpdate::AgentMessageChunk(_)
                | SessionUpdate::AgentThoughtChunk(_)
                | SessionUpdate::ToolCall(_)
                | SessionUpdate::ToolCallUpdate(_)
        );
        match update {
            SessionUpdate::AgentMessageChunk(chunk) => self.text(chunk),
            SessionUpdate::AgentThoughtChunk(chunk) => {
                let mut signals = self.told();
                signals.push(text_of(&chunk.content).map_or(AgentSignal::Working, AgentSignal::Thought));
                signals
            }
            SessionUpdate::ToolCall(call) => self.call(call),
            SessionUpdate::ToolCallUpdate(update) => self.call_update(update),
            SessionUpdate::UsageUpdate(usage) => {
                // Another currency cannot be added to dollars.
                if let Some(cost) = usage.cost.filter(|cost| cost.currency == "USD") {
                    self.cost_now = Some(cost.amount);
                }
                vec![AgentSignal::Working]
            }
            _ => vec![AgentSignal::Working],
        }
    }

    fn text(&mut self, chunk: ContentChunk) -> Vec<AgentSignal> {
        let mut signals = self.told();
        let Some(text) = text_of(&chunk.content) else {
            signals.push(AgentSignal::Working);
            return signals;
        };
        let message = chunk.message_id.map(|id| id.to_string());
        if message.is_some() && message != self.message {
            self.answer.clear();
            self.message = message;
        }
        // One byte more than can be returned is enough to know that it is too large.
        if self.answer.len() <= ANSWER_BYTES_MAX {
            self.answer.push_str(&text);
        }
        signals.push(AgentSignal::Text(text));
        signals
    }

    fn call(&mut self, call: ToolCall) -> Vec<AgentSignal> {
        let mut signals = self.told();
        self.answer.clear();
        let id = call.tool_call_id.to_string();
        let name = named(call.meta.as_ref(), call.name).unwrap_or(call.title);
        let args = call.raw_input.unwrap_or(Value::Null);
        let over = matches!(call.status, ToolCallStatus::Completed | ToolCallStatus::Failed);
        if over || !is_empty(&args) || self.calls.len() >= CALLS_OPEN_MAX {
            signals.push(AgentSignal::ToolCall { call: id.clone(), name, args });
        } else {
            self.calls.insert(id.clone(), Call { name, args });
        }
        if over {
            let failed = call.status == ToolCallStatus::Failed;
            signals.push(AgentSignal::ToolResult { call: id, result: result(call.raw_output, &call.content), failed });
        }
        if signals.is_empty() {
            signals.push(AgentSignal::Working);
        }
        signals
    }

    fn call_update(&mut self, update: ToolCallUpdate) -> Vec<AgentSignal> {
        let id = update.tool_call_id.to_string();
        let fields = update.fields;
        let over = matches!(fields.status, Some(ToolCallStatus::Completed | ToolCallStatus::Failed));
        if let Some(more) = terminal_output(update.meta.as_ref()) {
            self.wrote(&id, more);
        }
        let mut signals = Vec::new();
        if let Some(open) = self.calls.get_mut(&id) {
            // A title comes again and again as the agent learns more; a name is there from the start.
            if let Some(name) = named(update.meta.as_ref(), fields.name) {
                open.name = name;
            }
            if let Some(args) = fields.raw_input {
                open.args = args;
            }
            if (over || !is_empty(&open.args))
                && let Some(Call { name, args }) = self.calls.remove(&id)
            {
                signals.push(AgentSignal::ToolCall { call: id.clone(), name, args });
            }
        }
        if over {
            let failed = fields.status == Some(ToolCallStatus::Failed);
            let content = fields.content.unwrap_or_default();
            let written = self.outputs.remove(&id).map(Value::String);
            let result = match result(fields.raw_output, &content) {
                Value::Null => written.unwrap_or_default(),
                result => result,
            };
            signals.push(AgentSignal::ToolResult { call: id, result, failed });
        }
        if signals.is_empty() {
            signals.push(AgentSignal::Working);
        }
        signals
    }

    fn wrote(&mut self, call: &str, more: &str) {
        if self.outputs.len() >= CALLS_OPEN_MAX && !self.outputs.contains_key(call) {
            return;
        }
        let output = self.outputs.entry(call.to_owned()).or_default();
        // One byte more than is kept is enough to know that it is too large.
        if output.len() <= EVENT_TEXT_BYTES_MAX {
            output.push_str(more);
        }
    }

    /// Tool calls whose arguments never came, before something else is told.
    fn told(&mut self) -> Vec<AgentSignal> {
        let open = self.calls.drain();
        open.map(|(call, Call { name, args })| AgentSignal::ToolCall { call, name, args }).collect()
    }

    /// The end of the turn by the agent's answer to the prompt.
    pub(crate) fn ended(&mut self, answered: Result<PromptResponse, Error>) -> Vec<AgentSignal> {
        let usage = answered.as_ref().ok().and_then(|response| response.usage.as_ref());
        let usage = usage.map(|told| self.used(told)).unwrap_or_default();
        let used = usage.output_tokens.is_some_and(|tokens| tokens > 0);
        let reason = answered.as_ref().map_or(StopReason::Cancelled, |response| response.stop_reason);
        let mut signals = Vec::new();
        let misspoken = match self.misspoken.end(reason, used) {
            Ok(rest) => {
                signals.extend(rest.into_iter().flat_map(|update| self.translate(update)));
                None
            }
            Err(failure) => Some(failure),
        };
        signals.extend(self.told());
        let answer = Some(std::mem::take(&mut self.answer));
        let mut end = TurnEnd { answer, usage, ..TurnEnd::default() };
        match answered {
            Ok(_) if misspoken.is_some() => {
                end.answer = None;
                end.failure = misspoken;
            }
            Ok(response) => {
                end.stop_reason = Some(stop_reason(response.stop_reason).to_owned());
                if response.stop_reason == StopReason::Refusal {
                    end.failure = Some(Failure::new(FailureKind::Refused, "the model refused to answer"));
                }
            }
            Err(error) if is_unknown_stop_reason(&error) => end.stop_reason = Some("unknown".to_owned()),
            Err(error) => {
                // What was written before it is the same error in the agent's words, no answer.
                end.answer = None;
                end.failure = Some(failure(&error));
            }
        }
        end.usage.cost_usd = self.cost_now.map(|now| (now - self.cost_before.unwrap_or(0.0)).max(0.0));
        signals.push(AgentSignal::TurnEnded(end));
        signals
    }
}

impl Turn {
    /// What this turn alone used.
    fn used(&mut self, told: &schema::Usage) -> Usage {
        self.told_now = self.quirks.usage_told(told);
        self.quirks.usage_of_turn(&self.told_now, &self.told_before)
    }
}

/// Whether the program behind an adapter is gone and the adapter does not start it again, so that another link must take
/// the conversation up. Claude's adapter 0.101.0 (2026-11-25) says this once, then that it does not know the conversation;
/// Codex' starts its program again with the next prompt.
pub(crate) fn is_without_program(error: &Error) -> bool {
    failure(error).message.starts_with(CLAUDE_IS_GONE)
}

/// An agent's error as ours.
pub(crate) fn failure(error: &Error) -> Failure {
    let detail = error.data.as_ref().and_then(|data| {
        data.as_str().or_else(|| data["details"].as_str()).or_else(|| data["message"].as_str()).map(str::to_owned)
    });
    let said: String = match detail {
        Some(detail) if !error.message.contains(&detail) => format!("{}: {detail}", error.message),
        _ => error.message.clone(),
    };
    // The SDKs' words for their own error number; what happened stands behind it.
    let said = said.strip_prefix("Internal error: ").unwrap_or(&said);
    // Codex' adapter puts the end of an error stream behind its words, with colours; that is not for a caller.
    let said = said.split('\u{1b}').next().unwrap_or_default().trim_end();
    let said: String = said.chars().take(MESSAGE_CHARS_MAX).collect();
    let word = error.data.as_ref().and_then(|data| data["errorKind"].as_str()).unwrap_or_default();
    let kind = match (error.code, word) {
        (ErrorCode::AUTH_REQUIRED, _) => {
            return Failure::new(
                FailureKind::NotSignedIn,
                "nobody is signed in with the agent's provider; the operator signs in as `clawdforge doctor` says",
            );
        }
        _ if said.starts_with(CLAUDE_IS_GONE) || said.starts_with(CODEX_IS_GONE) => FailureKind::Crashed,
        (_, "rate_limit") => FailureKind::RateLimited,
        (_, "overloaded") => FailureKind::Overloaded,
        // Claude Code calls a 529 a server error like any other, and tells the difference in its sentence.
        (_, "server_error") if said.contains("529") => FailureKind::Overloaded,
        (_, "authentication_failed") => FailureKind::Unauthorized,
        (_, "model_not_found") => FailureKind::UnknownModel,
        (_, "invalid_request") => FailureKind::RequestRejected,
        _ => FailureKind::ProviderError,
    };
    Failure::new(kind, said)
}

/// The SDK could not read the stop reason: the turn is over for a reason this version does not know.
fn is_unknown_stop_reason(error: &Error) -> bool {
    let data = error.data.as_ref();
    error.code == ErrorCode::PARSE_ERROR
        && data.is_some_and(|data| data["phase"] == "deserialization" && data.to_string().contains("stopReason"))
}

fn stop_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::EndTurn => "end_turn",
        StopReason::MaxTokens => "max_tokens",
        StopReason::MaxTurnRequests => "max_turn_requests",
        StopReason::Refusal => "refusal",
        StopReason::Cancelled => "cancelled",
        _ => "unknown",
    }
}

fn text_of(content: &ContentBlock) -> Option<String> {
    match content {
        ContentBlock::Text(text) if !text.text.is_empty() => Some(text.text.clone()),
        _ => None,
    }
}

/// What a tool gave back: its raw output, else the texts it is shown with.
fn result(raw: Option<Value>, content: &[ToolCallContent]) -> Value {
    if let Some(raw) = raw.filter(|raw| !is_empty(raw)) {
        return raw;
    }
    let texts: Vec<String> = content
        .iter()
        .filter_map(|part| match part {
            ToolCallContent::Content(content) => text_of(&content.content),
            _ => None,
        })
        .collect();
    if texts.is_empty() { Value::Null } else { Value::String(texts.join("\n")) }
}

/// The tool's own name: where the protocol has it, or where Claude's adapter (0.101) puts it. A title is made
/// for people and may be the whole command.
fn named(meta: Option<&serde_json::Map<String, Value>>, name: Option<String>) -> Option<String> {
    name.or_else(|| Some(meta?.get("claudeCode")?["toolName"].as_str()?.to_owned()))
}

/// What a command has written, where Codex' adapter (2.6.0, seen 2026-11-25) puts it: its results are empty.
fn terminal_output(meta: Option<&serde_json::Map<String, Value>>) -> Option<&str> {
    meta?.get("terminal_output_delta")?["data"].as_str()
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
}

#[cfg(test)]
mod tests {
    use agent_client_protocol::v1::schema::TextContent;

    use super::*;

    #[test]
    fn a_conversation_is_lost_before_the_prompt_only_where_the_agent_had_not_acted_on_it() {
        let missing = Error::new(i32::from(ErrorCode::RESOURCE_NOT_FOUND), "not found");
        let mut turn = Turn::after(None);
        assert!(turn.is_lost_by(&missing));
        assert!(!turn.is_lost_by(&Error::internal_error()));
        let said = ContentChunk::new(ContentBlock::Text(TextContent::new("hi")));
        turn.update(SessionUpdate::AgentMessageChunk(said));
        assert!(!turn.is_lost_by(&missing), "a file it looked for, say");
    }

    #[test]
    fn what_was_said_before_a_try_that_broke_off_is_no_part_of_the_answer() {
        let mut turn = Turn { misspoken: Misspoken::of_copilot(), ..Turn::default() };
        for text in ["It began", "Info: Response was interrupted due to a server error. Retrying...", "Plum", "."] {
            let chunk = ContentChunk::new(ContentBlock::Text(TextContent::new(text)));
            turn.update(SessionUpdate::AgentMessageChunk(chunk));
        }
        assert_eq!(turn.answer, "Plum.");
    }
}
