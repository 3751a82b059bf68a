//! The lines of `claude -p --output-format stream-json`, as recorded from 2.1.330, without the fields
//! nobody reads.

use std::io::{self, Write};
use std::time::Duration;

use clawdforge_core::answer::json_in;
use serde_json::{Value, json};

use super::voice::Voice;

/// Writes the messages of one turn.
pub(super) struct Wire<W> {
    out: W,
    model: String,
    /// The answer is wanted as data as well.
    has_schema: bool,
}

/// Ids are the same in every run, as everything the demo agent says.
const SESSION: &str = "00000000-0000-4000-8000-000000000001";

impl<W: Write> Voice for Wire<W> {
    fn begin(&mut self) -> io::Result<()> {
        let init = json!({
            "type": "system", "subtype": "init", "model": self.model, "tools": ["Read"],
            "permissionMode": "default", "apiKeySource": "none", "claude_code_version": super::VERSION,
        });
        self.line(init)?;
        self.line(json!({"type": "system", "subtype": "status", "status": "requesting"}))
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.delta(json!({"type": "text_delta", "text": text}))?;
        self.block(json!({"type": "text", "text": text}))
    }

    fn thinking(&mut self, thought: &str) -> io::Result<()> {
        self.block(json!({"type": "thinking", "thinking": thought, "signature": ""}))
    }

    fn tool_use(&mut self, call: &str, name: &str, input: &Value) -> io::Result<()> {
        self.block(json!({"type": "tool_use", "id": call, "name": name, "input": input}))
    }

    fn tool_result(&mut self, call: &str, content: &str, failed: bool) -> io::Result<()> {
        let part = json!({"type": "tool_result", "tool_use_id": call, "content": content, "is_error": failed});
        self.line(json!({"type": "user", "message": {"role": "user", "content": [part]}, "parent_tool_use_id": null}))
    }

    fn tick(&mut self) -> io::Result<()> {
        self.delta(json!({"type": "text_delta", "text": "."}))
    }

    fn retry(&mut self, status: u16, word: &str) -> io::Result<()> {
        self.line(json!({
            "type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 1, "retry_delay_ms": 0,
            "error_status": status, "error": word,
        }))
    }

    /// The result repeats the error.
    fn failed(&mut self, word: &str, text: &str, stop_reason: &str, status: Option<u16>) -> io::Result<()> {
        self.line(json!({
            "type": "assistant", "error": word, "is_api_error_message": true, "parent_tool_use_id": null,
            "message": {"model": "<synthetic>", "role": "assistant", "content": [{"type": "text", "text": text}]},
        }))?;
        self.result(json!({
            "subtype": "success", "is_error": true, "stop_reason": stop_reason, "terminal_reason": "api_error",
            "result": text, "api_error_status": status, "usage": usage(0, 0), "modelUsage": {},
        }))
    }

    fn answered(&mut self, answer: &str, prompt_chars: usize) -> io::Result<()> {
        let (input, output) = (tokens(prompt_chars), tokens(answer.chars().count()));
        let by_model = json!({&self.model: {"inputTokens": input, "outputTokens": output, "costUSD": 0}});
        let mut result = json!({
            "subtype": "success", "is_error": false, "stop_reason": "end_turn", "terminal_reason": "completed",
            "result": answer, "api_error_status": null, "usage": usage(input, output), "modelUsage": by_model,
        });
        // As with `claude`, what is no data is left out.
        if let Some((_, data)) = json_in(answer).filter(|_| self.has_schema) {
            result["structured_output"] = data;
        }
        self.result(result)
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    fn pause(&mut self, time: Option<Duration>) -> bool {
        match time {
            Some(time) => std::thread::sleep(time),
            None => loop {
                std::thread::park();
            },
        }
        true
    }

    // `claude -p` is not cancelled but ended, asks nobody, and has nothing but its one turn.

    fn ignore_cancel(&mut self) {}

    fn cancelled(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn ask(&mut self, _tool: &str) -> io::Result<String> {
        Ok("nobody to ask".to_owned())
    }

    fn memory(&self) -> Vec<String> {
        Vec::new()
    }

    fn forget(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn keep_for_later(&mut self, _line: &str) {}

    fn attachments(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<W: Write> Wire<W> {
    pub(super) fn new(out: W, model: String) -> Self {
        Self { out, model, has_schema: false }
    }

    /// The same for a turn that was asked for data.
    pub(super) fn with_schema(self, has_schema: bool) -> Self {
        Self { has_schema, ..self }
    }

    fn result(&mut self, mut result: Value) -> io::Result<()> {
        result["type"] = "result".into();
        result["num_turns"] = 1.into();
        result["total_cost_usd"] = 0.into();
        self.line(result)
    }

    fn block(&mut self, part: Value) -> io::Result<()> {
        let message = json!({"type": "message", "role": "assistant", "model": self.model, "content": [part]});
        self.line(json!({"type": "assistant", "message": message, "parent_tool_use_id": null}))
    }

    fn delta(&mut self, delta: Value) -> io::Result<()> {
        let event = json!({"type": "content_block_delta", "index": 0, "delta": delta});
        self.line(json!({"type": "stream_event", "event": event, "parent_tool_use_id": null}))
    }

    fn line(&mut self, mut message: Value) -> io::Result<()> {
        message["session_id"] = SESSION.into();
        let mut line = serde_json::to_vec(&message)?;
        line.push(b'\n');
        self.raw(&line)
    }
}

fn usage(input: usize, output: usize) -> Value {
    json!({
        "input_tokens": input, "output_tokens": output,
        "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
    })
}

/// A token for every four characters, as a rule of thumb has it.
fn tokens(chars: usize) -> usize {
    chars.div_ceil(4)
}
