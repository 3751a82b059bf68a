//! Performs the steps of a prompt and writes the answer.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use clawdforge_core::limits::AGENT_LINE_BYTES_MAX;
use clawdforge_core::run::SystemMode;
use clawdforge_process::sandbox::{try_all, try_one};
use serde_json::{Value, json};

use super::flags::Flags;
use super::script::{self, About, Step};
use super::voice::Voice;
use super::{FAILED, NOTES_FILE, grandchild, leave, reach, signals, tool_server};

/// Longest plain prompt that is repeated whole.
const ECHO_CHARS_MAX: usize = 2_000;

/// Time between two signs of life of `chatter`.
const TICK: Duration = Duration::from_millis(50);

/// One turn of the demo agent.
pub(super) struct Player<V> {
    args: Vec<OsString>,
    flags: Flags,
    system: Option<String>,
    wire: V,
    answer: Vec<String>,
    calls: usize,
    lingers: bool,
}

/// What comes after a step.
enum Flow {
    Next,
    /// The turn is over with what was written.
    Done(u8),
    /// The program exits without a result.
    Exit(u8),
    /// The turn was cancelled while time passed.
    Cancelled,
}

/// How a turn ended.
pub(super) enum Played {
    /// In order, with a result; the exit code of a program that has only this turn.
    Done(u8),
    /// The program is to exit without a result.
    Gone(u8),
}

impl<V: Voice> Player<V> {
    pub(super) fn new(args: Vec<OsString>, flags: Flags, system: Option<String>, wire: V) -> Self {
        Self { args, flags, system, wire, answer: Vec::new(), calls: 0, lingers: false }
    }

    /// Plays a prompt to its end.
    pub(super) fn play(mut self, prompt: &str) -> io::Result<Played> {
        self.wire.begin()?;
        let steps = script::parse(prompt);
        if steps.is_empty() {
            self.say(echo(prompt))?;
        }
        for step in steps {
            match self.perform(step)? {
                Flow::Next => {}
                Flow::Done(code) => return Ok(Played::Done(code)),
                Flow::Exit(code) => return Ok(Played::Gone(code)),
                Flow::Cancelled => {
                    self.wire.cancelled()?;
                    return Ok(Played::Done(0));
                }
            }
        }
        let answer = if self.answer.is_empty() { "done".to_owned() } else { self.answer.join("\n") };
        self.wire.answered(&answer, prompt.chars().count())?;
        if self.lingers {
            self.wire.pause(None);
        }
        Ok(Played::Done(0))
    }

    fn perform(&mut self, step: Step) -> io::Result<Flow> {
        match step {
            Step::Say(text) => self.say(text)?,
            Step::Json(text) => self.say(format!("```json\n{text}\n```"))?,
            Step::Think(thought) => self.wire.thinking(&thought)?,
            Step::UseTool { name, args } => self.use_tool(&name, &args)?,
            Step::Read(file) => self.read(&file)?,
            Step::Note(text) => note(&self.wire.folder()?, &text)?,
            Step::Tell(about) => {
                let told = self.tell(&about)?;
                self.say(told)?;
            }
            Step::Sleep(time) if !self.wire.pause(Some(time)) => return Ok(Flow::Cancelled),
            Step::Sleep(_) => {}
            Step::Hang => {
                self.wire.pause(None);
                return Ok(Flow::Cancelled);
            }
            Step::IgnoreCancel => self.wire.ignore_cancel(),
            Step::Ask(tool) => {
                let answer = self.wire.ask(&tool)?;
                self.say(answer)?;
            }
            Step::AskOnCancel(tool) => {
                self.wire.pause(None);
                let answer = self.wire.ask(&tool)?;
                self.say(answer)?;
                return Ok(Flow::Cancelled);
            }
            Step::Recall => {
                let memory = self.wire.memory();
                self.say(if memory.is_empty() { "nothing".to_owned() } else { memory.join(" | ") })?;
            }
            Step::Forget => self.wire.forget()?,
            Step::Attached => {
                let links = self.wire.attachments();
                self.say(if links.is_empty() { "nothing".to_owned() } else { links.join(" | ") })?;
            }
            Step::CallServer { server, tool, args } => {
                let args = serde_json::from_str(&args).unwrap_or(Value::String(args));
                let said = tool_server::call(self.wire.tool_servers(), &server, &tool, &args)?;
                self.say(said)?;
            }
            Step::Later(line) => self.wire.keep_for_later(&line),
            Step::Linger => self.lingers = true,
            Step::Chatter(time) => return self.chatter(time),
            Step::Flood(lines) => return self.flood(lines),
            Step::Garbage => self.garbage()?,
            Step::Stderr(text) => writeln!(io::stderr(), "{text}")?,
            Step::IgnoreTerm => signals::ignore_terminate()?,
            Step::Grandchild => {
                let pid = grandchild::start()?;
                self.say(pid.to_string())?;
            }
            Step::Leave(kind) => {
                let left = leave::leave(kind, &self.wire.folder()?)?;
                self.say(left)?;
            }
            Step::CloseStdout => close_stdout()?,
            Step::Crash(code) => return Ok(Flow::Exit(code)),
            Step::Die(signal) => signals::die_by(&signal)?,
            Step::NoAnswer => return Ok(Flow::Exit(0)),
            Step::ApiError(status) => return self.api_error(status),
            Step::NotSignedIn => {
                self.wire.failed(
                    "authentication_failed",
                    "Not logged in · Please run /login",
                    "stop_sequence",
                    None,
                )?;
                return Ok(Flow::Done(FAILED));
            }
            Step::Refuse => {
                let text = "API Error: the demo agent's safeguards flagged this message.";
                self.wire.failed("invalid_request", text, "refusal", None)?;
                return Ok(Flow::Done(FAILED));
            }
        }
        Ok(Flow::Next)
    }

    fn say(&mut self, text: String) -> io::Result<()> {
        self.wire.text(&text)?;
        self.answer.push(text);
        Ok(())
    }

    /// What the agent knows of its own surroundings.
    fn tell(&self, about: &About) -> io::Result<String> {
        Ok(match about {
            About::EnvNames => {
                let mut names: Vec<_> = environment().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
                names.sort_unstable();
                json!(names).to_string()
            }
            About::EnvValue(wanted) => environment()
                .find(|(name, _)| name == wanted.as_str())
                .map_or_else(|| "not set".to_owned(), |(_, value)| value.to_string_lossy().into_owned()),
            About::Attacks(words) => try_all(words.split_whitespace().map(OsString::from))
                .unwrap_or_else(|| "these are no attacks".to_owned())
                .trim_end()
                .to_owned(),
            About::Try(words) => try_one(words.split_whitespace().map(OsString::from))
                .unwrap_or_else(|| "this is nothing to try".to_owned()),
            About::Connecting(target) => reach::directly(target),
            About::Proxy(target) => {
                let proxy = environment().find(|(name, _)| name == "HTTPS_PROXY");
                reach::through(proxy.and_then(|(_, value)| value.into_string().ok()).as_deref(), target)
            }
            About::Args => json!(self.args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>()).to_string(),
            About::Cwd => self.wire.folder()?.to_string_lossy().into_owned(),
            About::System => match (&self.system, self.flags.system_mode) {
                (None, _) => "none".to_owned(),
                (Some(text), SystemMode::Append) => format!("append: {text}"),
                (Some(text), SystemMode::Replace) => format!("replace: {text}"),
            },
            About::Model => self.flags.model.clone().unwrap_or_else(|| "none".to_owned()),
            About::Effort => self.flags.effort.clone().unwrap_or_else(|| "none".to_owned()),
            About::ToolServers => json!(self.wire.tool_servers()).to_string(),
            About::Mode => self.flags.mode.clone().unwrap_or_else(|| "none".to_owned()),
        })
    }

    fn use_tool(&mut self, name: &str, args: &str) -> io::Result<()> {
        let args = serde_json::from_str(args).unwrap_or_else(|_| Value::String(args.to_owned()));
        let call = self.next_call();
        self.wire.tool_use(&call, name, &args)?;
        self.wire.tool_result(&call, "done", false)
    }

    fn read(&mut self, file: &str) -> io::Result<()> {
        let call = self.next_call();
        self.wire.tool_use(&call, "Read", &json!({"file_path": file}))?;
        match std::fs::read(self.wire.folder()?.join(file)) {
            Ok(bytes) => {
                let content = String::from_utf8_lossy(&bytes).into_owned();
                self.wire.tool_result(&call, &content, false)?;
                self.say(content)
            }
            Err(error) => {
                let said = format!("{file} could not be read: {error}");
                self.wire.tool_result(&call, &said, true)?;
                self.say(said)
            }
        }
    }

    fn next_call(&mut self) -> String {
        self.calls += 1;
        format!("toolu_{}", self.calls)
    }

    fn chatter(&mut self, time: Duration) -> io::Result<Flow> {
        let start = Instant::now();
        while start.elapsed() < time {
            self.wire.tick()?;
            if !self.wire.pause(Some(TICK)) {
                return Ok(Flow::Cancelled);
            }
        }
        Ok(Flow::Next)
    }

    fn flood(&mut self, lines: u64) -> io::Result<Flow> {
        for line in 1..=lines {
            self.wire.text(&format!("line {line}"))?;
            if !self.wire.pause(Some(Duration::ZERO)) {
                return Ok(Flow::Cancelled);
            }
        }
        Ok(Flow::Next)
    }

    /// Everything that is no message: bytes that are no text, text that is no JSON, JSON that is no
    /// message, a line beyond every limit.
    fn garbage(&mut self) -> io::Result<()> {
        self.wire.raw(b"\xff\xfe\x00 not text\n")?;
        self.wire.raw(b"{\"type\":\"assistant\",\"message\":{\"content\":[\n")?;
        self.wire.raw(b"{\"type\":\"no_such_type\"}\n\n")?;
        self.wire.raw(&[b'x'; 64 * 1024].repeat(AGENT_LINE_BYTES_MAX / (64 * 1024) + 1))?;
        self.wire.raw(b"\n")
    }

    fn api_error(&mut self, status: u16) -> io::Result<Flow> {
        let (word, text) = match status {
            401 => ("authentication_failed", "Invalid API key · Fix external API key"),
            403 => ("authentication_failed", "Failed to authenticate. API Error: 403 not allowed"),
            404 => ("model_not_found", "There's an issue with the selected model. It may not exist."),
            413 => ("invalid_request", "Request too large (max 32MB)."),
            429 => {
                ("rate_limit", "API Error: Request rejected (429) · Number of requests has exceeded your rate limit")
            }
            529 => ("overloaded", "API Error: 529 Overloaded."),
            500.. => ("server_error", "API Error: Internal server error."),
            _ => ("unknown", "API Error: bad request"),
        };
        if matches!(status, 401 | 429 | 500..) {
            self.wire.retry(status, word)?;
        }
        self.wire.failed(word, text, "stop_sequence", Some(status))?;
        Ok(Flow::Done(FAILED))
    }
}

#[expect(clippy::disallowed_methods, reason = "this program is the agent, whose environment is what it was given")]
fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// The answer to a prompt without any step.
fn echo(prompt: &str) -> String {
    let prompt = prompt.trim();
    match prompt.chars().count() {
        chars if chars > ECHO_CHARS_MAX => format!("You said {chars} characters."),
        _ => format!("You said: {prompt}"),
    }
}

/// Adds a line to the notes in the workspace. One write, so that a line is there whole or not at all, whenever the
/// agent dies.
fn note(folder: &Path, text: &str) -> io::Result<()> {
    let mut notes = std::fs::OpenOptions::new().create(true).append(true).open(folder.join(NOTES_FILE))?;
    notes.write_all(format!("{text}\n").as_bytes())
}

/// Lets go of the pipe to the service while living on.
fn close_stdout() -> io::Result<()> {
    let nothing = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(nothing)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::wire::Wire;

    fn result(prompt: &str) -> (u8, Value) {
        let mut out = Vec::new();
        let wire = Wire::new(&mut out, "demo".to_owned());
        let played = Player::new(Vec::new(), Flags::default(), None, wire).play(prompt).unwrap();
        let (Played::Done(code) | Played::Gone(code)) = played;
        let last = out.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap();
        (code, serde_json::from_slice(last).unwrap())
    }

    #[test]
    fn a_plain_prompt_is_repeated_and_a_long_one_counted() {
        let (code, said) = result("\n/hello\n");
        assert_eq!((code, &said["result"]), (0, &json!("You said: /hello")));
        let (_, said) = result(&"é".repeat(ECHO_CHARS_MAX + 1));
        assert_eq!(said["result"], "You said 2001 characters.");
    }

    #[test]
    fn the_answer_is_what_was_said_in_order() {
        let (_, said) = result("say: one\nthink: x\njson: {\"a\": 1}\nmodel");
        assert_eq!(said["result"], "one\n```json\n{\"a\": 1}\n```\nnone");
        assert_eq!(result("think: x").1["result"], "done");
    }

    #[test]
    fn an_api_error_ends_the_turn_as_claude_does() {
        let (code, said) = result("api error: 429\nsay: never");
        assert_eq!((code, &said["is_error"], &said["subtype"]), (1, &json!(true), &json!("success")));
        assert_eq!(said["api_error_status"], 429);
    }
}
