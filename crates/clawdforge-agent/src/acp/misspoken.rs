//! Failures of a provider that agents tell as if they were an answer, and by what they are known.
//!
//! - Codex' adapter 2.6.0 with Codex 0.166.0 (2026-11-25; its function `createErrorEvent`): every failure but a 401
//!   arrives as an `agent_message_chunk` without a message id, which answers have, and the turn ends with `end_turn`.
//!   Before it comes a `session_info_update` with `_meta.codex.threadStatus.type = "systemError"`; a turn that
//!   succeeds says `idle` there. That word decides, never the text.
//! - Copilot 1.0.102 (2026-11-25): every failure is one chunk that begins with `Error: `, the last of its turn, and the
//!   tokens it counts have not grown. All three must be so: an answer that begins like this has cost tokens. What is
//!   not known for a failure by that is an answer: one after a call of a tool in the same turn, which has cost some.
//!   Before it, each try that failed is a chunk of its own, always of the same words. One that had begun to answer when it
//!   broke off leaves what it said in front of them, and the next begins anew; so the failure that ends such tries
//!   need not be a chunk that stands alone.

use agent_client_protocol::v1::schema::{ContentBlock, ContentChunk, SessionUpdate, StopReason};
use clawdforge_core::agent::{Failure, FailureKind};
use serde_json::{Map, Value};

/// Bytes of an error that are kept.
const WORDS_BYTES_MAX: usize = 8 * 1024;

/// Characters of an error that a caller is shown.
const SHOWN_CHARS_MAX: usize = 2_000;

/// How Copilot's failures begin.
const COPILOT_ERROR: &str = "Error: ";

/// What Copilot says while it tries again.
const COPILOT_RETRY: &str = "Info: Request failed due to a transient API error. Retrying...";

/// What it says while it tries again, where the try before had begun to answer.
const COPILOT_RETRY_ANEW: &str = "Info: Response was interrupted due to a server error. Retrying...";

/// What stands in front of a status in the words of an error.
const STATUS_MARKS: [&str; 4] = ["last status: ", "unexpected status ", "(HTTP ", "Last error: "];

/// Listens for such failures in the updates of one turn.
#[derive(Debug, Default)]
pub(super) struct Misspoken {
    /// What Codex has said since it reported that its turn failed.
    system_error: Option<String>,
    /// It is Copilot.
    copilot: bool,
    /// Copilot's last chunk, where it may be a failure.
    held: Option<ContentChunk>,
    /// The last update was a text.
    speaking: bool,
    /// A try of Copilot's had begun to answer, and broke off.
    interrupted: bool,
    /// What was said until now is no part of the answer.
    anew: bool,
}

impl Misspoken {
    pub(super) fn of_copilot() -> Self {
        Self { copilot: true, ..Self::default() }
    }

    /// Whether what was said until now is no part of the answer, asked once.
    pub(super) fn begins_anew(&mut self) -> bool {
        std::mem::take(&mut self.anew)
    }

    /// What of an update, and of those held back before it, is to be told as it is.
    pub(super) fn hear(&mut self, update: SessionUpdate) -> Vec<SessionUpdate> {
        match update {
            SessionUpdate::SessionInfoUpdate(info) => {
                let released = match thread_status(info.meta.as_ref()) {
                    Some("systemError") => {
                        self.system_error.get_or_insert_default();
                        None
                    }
                    // It went on after all: what it said was no end.
                    Some(_) => self.system_error.take().filter(|words| !words.is_empty()).map(spoken),
                    None => None,
                };
                released.into_iter().chain([SessionUpdate::SessionInfoUpdate(info)]).collect()
            }
            SessionUpdate::AgentMessageChunk(chunk) => self.hear_text(chunk),
            other => {
                // Tells of nothing the agent does, and comes at any time.
                let silent = matches!(other, SessionUpdate::UsageUpdate(_));
                self.speaking &= silent;
                let mut heard = if silent { Vec::new() } else { self.release() };
                heard.push(other);
                heard
            }
        }
    }

    fn hear_text(&mut self, chunk: ContentChunk) -> Vec<SessionUpdate> {
        let text = match &chunk.content {
            ContentBlock::Text(text) => text.text.as_str(),
            _ => "",
        };
        if let Some(words) = &mut self.system_error
            && chunk.message_id.is_none()
        {
            if words.len() <= WORDS_BYTES_MAX {
                words.push_str(text);
            }
            return Vec::new();
        }
        if self.copilot && text == COPILOT_RETRY {
            return self.release();
        }
        if self.copilot && text == COPILOT_RETRY_ANEW {
            (self.interrupted, self.anew) = (true, true);
            return self.release();
        }
        let mut heard = self.release();
        let alone = !std::mem::replace(&mut self.speaking, true);
        if self.copilot && (alone || self.interrupted) && text.starts_with(COPILOT_ERROR) {
            self.held = Some(chunk);
        } else {
            heard.push(SessionUpdate::AgentMessageChunk(chunk));
        }
        heard
    }

    /// At the end of the turn: the failure it was, or what is still to be told. `used` is whether the turn has cost tokens.
    pub(super) fn end(&mut self, reason: StopReason, used: bool) -> Result<Vec<SessionUpdate>, Failure> {
        if reason == StopReason::EndTurn {
            if let Some(words) = self.system_error.take() {
                return Err(failure(&words));
            }
            if let Some(ContentChunk { content: ContentBlock::Text(text), .. }) = self.held.as_ref().filter(|_| !used) {
                return Err(failure(text.text.strip_prefix(COPILOT_ERROR).unwrap_or(&text.text)));
            }
        }
        let said = self.system_error.take().filter(|words| !words.is_empty()).map(spoken);
        Ok(self.release().into_iter().chain(said).collect())
    }

    fn release(&mut self) -> Vec<SessionUpdate> {
        self.held.take().map(SessionUpdate::AgentMessageChunk).into_iter().collect()
    }
}

fn thread_status(meta: Option<&Map<String, Value>>) -> Option<&str> {
    meta?.get("codex")?.get("threadStatus")?["type"].as_str()
}

fn spoken(words: String) -> SessionUpdate {
    SessionUpdate::AgentMessageChunk(ContentChunk::new(words.into()))
}

/// The kind is read from the words, where a status stands in them.
fn failure(words: &str) -> Failure {
    let words = words.trim();
    // Codex hands on the body of a 400 as it came.
    let body: Option<Value> = serde_json::from_str(words).ok().filter(Value::is_object);
    let said = body.as_ref().and_then(|body| body["error"]["message"].as_str()).unwrap_or(words);
    let kind = match status(words) {
        Some(401) => FailureKind::Unauthorized,
        Some(403) => FailureKind::Forbidden,
        Some(404) => FailureKind::UnknownModel,
        Some(413) => FailureKind::RequestTooLarge,
        Some(429) => FailureKind::RateLimited,
        Some(529) => FailureKind::Overloaded,
        Some(400..=499) => FailureKind::RequestRejected,
        None if body.is_some() => FailureKind::RequestRejected,
        _ => FailureKind::ProviderError,
    };
    let said = if said.is_empty() { "the agent reported a failure without saying which" } else { said };
    Failure::new(kind, said.chars().take(SHOWN_CHARS_MAX).collect::<String>())
}

fn status(words: &str) -> Option<u16> {
    let marked = STATUS_MARKS.iter().filter_map(|mark| Some(words.split_once(mark)?.1));
    let number = |text: &str| text.get(..3)?.parse::<u16>().ok().filter(|status| (400..600).contains(status));
    marked.chain([words]).find_map(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status_update(word: &str) -> Value {
        json!({"sessionUpdate": "session_info_update", "_meta": {"codex": {"threadStatus": {"type": word}}}})
    }

    fn chunk(text: &str) -> Value {
        json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}})
    }

    fn answer(text: &str) -> Value {
        let mut chunk = chunk(text);
        chunk["messageId"] = json!("msg_1");
        chunk
    }

    fn usage_update() -> Value {
        json!({"sessionUpdate": "usage_update", "used": 8671, "size": 128_000})
    }

    /// The texts that are told of a turn with these updates, and the failure it ends with.
    fn turn(mut listener: Misspoken, updates: &[Value], used: bool) -> (String, Option<Failure>) {
        turn_ending(&mut listener, updates, used, StopReason::EndTurn)
    }

    fn turn_ending(
        listener: &mut Misspoken,
        updates: &[Value],
        used: bool,
        reason: StopReason,
    ) -> (String, Option<Failure>) {
        let parsed = updates.iter().map(|update| serde_json::from_value(update.clone()).unwrap());
        let mut told: Vec<SessionUpdate> = parsed.flat_map(|update| listener.hear(update)).collect();
        let failure = match listener.end(reason, used) {
            Ok(rest) => {
                told.extend(rest);
                None
            }
            Err(failure) => Some(failure),
        };
        let texts = told.into_iter().filter_map(|update| match update {
            SessionUpdate::AgentMessageChunk(ContentChunk { content: ContentBlock::Text(text), .. }) => Some(text.text),
            _ => None,
        });
        (texts.collect(), failure)
    }

    #[test]
    fn a_turn_of_codex_that_ends_in_a_system_error_has_failed() {
        for (words, kind, said) in [
            (
                "exceeded retry limit, last status: 429 Too Many Requests\n\n",
                FailureKind::RateLimited,
                "exceeded retry limit, last status: 429 Too Many Requests",
            ),
            (
                "We’re currently experiencing high demand, which may cause temporary errors.\n\n",
                FailureKind::ProviderError,
                "We’re currently experiencing high demand, which may cause temporary errors.",
            ),
            (
                "{\"error\": {\"message\": \"no such field\", \"type\": \"x\"}}\n\n",
                FailureKind::RequestRejected,
                "no such field",
            ),
            ("unexpected status 403 Forbidden: no", FailureKind::Forbidden, "unexpected status 403 Forbidden: no"),
            ("", FailureKind::ProviderError, "the agent reported a failure without saying which"),
        ] {
            let updates = [status_update("active"), answer("I begin"), status_update("systemError"), chunk(words)];
            let (told, failure) = turn(Misspoken::default(), &updates, false);
            assert_eq!(told, "I begin");
            assert_eq!(failure, Some(Failure::new(kind, said)));
        }
    }

    #[test]
    fn the_same_words_without_the_system_error_are_an_answer() {
        let words = "exceeded retry limit, last status: 429 Too Many Requests";
        for updates in [
            vec![status_update("active"), answer(words), status_update("idle")],
            vec![status_update("active"), chunk(words), status_update("idle")],
            vec![status_update("systemError"), answer(words)],
            vec![status_update("systemError"), chunk(words), status_update("active"), status_update("idle")],
        ] {
            let last = updates.last().cloned();
            let (told, failure) = turn(Misspoken::default(), &updates, true);
            assert_eq!(told, words);
            assert_eq!(failure.is_some(), last == Some(answer(words)), "{updates:?}");
        }
    }

    #[test]
    fn a_turn_that_was_cancelled_is_not_failed_by_what_was_said_on_the_way() {
        let updates = [status_update("systemError"), chunk("stopped")];
        let told = turn_ending(&mut Misspoken::default(), &updates, false, StopReason::Cancelled);
        assert_eq!(told, ("stopped".to_owned(), None));
        let told = turn_ending(&mut Misspoken::of_copilot(), &[chunk("Error: stopped")], false, StopReason::Cancelled);
        assert_eq!(told, ("Error: stopped".to_owned(), None));
    }

    #[test]
    fn a_last_chunk_of_copilot_that_is_an_error_and_has_cost_nothing_is_a_failure() {
        for (words, kind) in [
            (
                "Authentication failed with provider at http://127.0.0.1:1/v1 (HTTP 401).\n  Check",
                FailureKind::Unauthorized,
            ),
            (
                "Failed to get response from the AI model; retried 5 times (total retry wait time: 54.98 seconds) Last error: 429 no",
                FailureKind::RateLimited,
            ),
            (
                "Failed to get response from the AI model; retried 5 times Last error: 500 no",
                FailureKind::ProviderError,
            ),
            ("400 no", FailureKind::RequestRejected),
        ] {
            let error = chunk(&format!("Error: {words}"));
            let updates = [chunk(COPILOT_RETRY), usage_update(), chunk(COPILOT_RETRY), usage_update(), error];
            let (told, failure) = turn(Misspoken::of_copilot(), &updates, false);
            assert_eq!((told.as_str(), failure), ("", Some(Failure::new(kind, words))));
        }
    }

    #[test]
    fn an_answer_of_copilot_may_begin_like_an_error() {
        let error = || chunk("Error: 400 no");
        let tool = || json!({"sessionUpdate": "tool_call", "toolCallId": "c1", "title": "x", "status": "pending"});
        for (listener, updates, used) in [
            (Misspoken::of_copilot(), vec![error()], true),
            (Misspoken::of_copilot(), vec![error(), chunk(" is what it says")], false),
            (Misspoken::of_copilot(), vec![chunk("It says "), error()], false),
            (Misspoken::of_copilot(), vec![error(), tool()], false),
            (Misspoken::default(), vec![error()], false),
        ] {
            let (told, failure) = turn(listener, &updates, used);
            assert!(told.contains("Error: 400 no"), "{updates:?}");
            assert_eq!(failure, None, "{updates:?}");
        }
    }

    #[test]
    fn tries_of_copilot_that_broke_off_in_their_answer_end_in_a_failure() {
        let broken = || [chunk("It began"), chunk(COPILOT_RETRY_ANEW)];
        let error =
            chunk("Error: Failed to get response from the AI model; retried 5 times Last error: Failed to parse");
        let tries: Vec<Value> = broken().into_iter().chain(broken()).chain([chunk("It began"), error]).collect();
        let (told, failure) = turn(Misspoken::of_copilot(), &tries, false);
        assert_eq!(
            (told.as_str(), failure.map(|it| it.kind)),
            ("It beganIt beganIt began", Some(FailureKind::ProviderError))
        );
        let mended: Vec<Value> = broken().into_iter().chain([chunk("Plum.")]).collect();
        assert_eq!(turn(Misspoken::of_copilot(), &mended, true), ("It beganPlum.".to_owned(), None));
    }

    #[test]
    fn a_try_that_failed_is_no_part_of_the_answer_of_copilot() {
        let updates = [chunk(COPILOT_RETRY), usage_update(), chunk("Plum."), usage_update()];
        assert_eq!(turn(Misspoken::of_copilot(), &updates, true), ("Plum.".to_owned(), None));
        assert_eq!(turn(Misspoken::default(), &updates, true).0, format!("{COPILOT_RETRY}Plum."));
    }
}
