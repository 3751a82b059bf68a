//! Shows what a turn or run tells as it comes: the answer on standard output, everything else on standard error.
//!
//! Where both are one terminal, they share its lines: [`Screen`] knows who has left one open.

use std::io::{self, Write};

use clawdforge_core::event::{ContextSource, EventBody, TurnOutcome};
use serde_json::Value;

use super::io::Io;
use super::text::{beginning, printable, printable_lines};
use crate::events::{Event, EventKind};

/// Characters of a tool's arguments that are shown: a line of a terminal.
const ARGS_CHARS_MAX: usize = 100;

/// Characters of a tool's name that are shown.
const NAME_CHARS_MAX: usize = 40;

/// Faint letters, and the end of them.
const DIM: (&str, &str) = ("\x1b[2m", "\x1b[0m");

/// The stop reason of a turn about which there is nothing to say.
const USUAL_STOP: &str = "end_turn";

/// Whose eyes the agent's reasoning is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    /// A person's only: in a file it would be taken for something that was said.
    OnTerminals,
    /// Everybody's.
    Always,
}

/// What one turn has shown so far.
#[derive(Debug)]
pub(super) struct Screen {
    thinking: Thinking,
    /// The last line of the answer is not ended.
    is_mid_answer: bool,
    /// The last line of the reasoning is not ended.
    is_mid_thought: bool,
    has_answered: bool,
}

impl Screen {
    pub(super) fn new(thinking: Thinking) -> Self {
        Self { thinking, is_mid_answer: false, is_mid_thought: false, has_answered: false }
    }

    /// Nothing was left on the line that a progress line would be drawn on.
    pub(super) fn is_at_line_start(&self) -> bool {
        !self.is_mid_answer && !self.is_mid_thought
    }

    pub(super) fn show(&mut self, event: &Event, io: &mut Io) -> io::Result<()> {
        let body = match &event.kind {
            EventKind::Recorded(event) => &event.body,
            EventKind::Gap(gap) => {
                let lost = format!("events {} to {} are not kept any more", gap.from, gap.to);
                return self.say(&lost, io);
            }
            EventKind::Unknown => return self.line(&beginning(event.name(), NAME_CHARS_MAX), io),
        };
        match body {
            EventBody::Text { content } => self.text(content, io),
            EventBody::Thinking { content } => self.thought(content, io),
            EventBody::Context { source } => self.context(*source, io),
            EventBody::ToolCall { name, args, .. } => {
                let args = if is_empty(args) { String::new() } else { args.to_string() };
                let name = beginning(name, NAME_CHARS_MAX);
                self.line(&format!("{name} {}", beginning(&args, ARGS_CHARS_MAX)), io)
            }
            EventBody::Retry { reason, .. } => {
                self.line(&format!("the agent tries again: {}", beginning(reason, ARGS_CHARS_MAX)), io)
            }
            EventBody::AskedAgain { violations, .. } => {
                let first = violations
                    .first()
                    .map_or_else(String::new, |first| format!(" (at \"{}\": {})", first.path, first.message));
                self.line(&format!("the answer does not fit the schema, so the agent is asked again{first}"), io)
            }
            EventBody::Ended(outcome) => self.ended(outcome, io),
            EventBody::Prompt { .. }
            | EventBody::Started
            | EventBody::ToolResult { .. }
            | EventBody::Unrecognised { .. } => Ok(()),
        }
    }

    /// Ends the lines that are open.
    pub(super) fn end_line(&mut self, io: &mut Io) -> io::Result<()> {
        self.end_thought(io);
        self.end_answer(io)
    }

    fn end_answer(&mut self, io: &mut Io) -> io::Result<()> {
        if self.is_mid_answer {
            io.stdout.write_all(b"\n")?;
            self.is_mid_answer = false;
        }
        io.stdout.flush()
    }

    fn end_thought(&mut self, io: &mut Io) {
        if std::mem::take(&mut self.is_mid_thought) {
            aside(io, "\n");
        }
    }

    fn context(&mut self, source: ContextSource, io: &mut Io) -> io::Result<()> {
        let meaning = match source {
            ContextSource::New | ContextSource::Warm => return Ok(()),
            ContextSource::Resumed => "context: resumed (another process took up the agent's own record)",
            ContextSource::Rebuilt => {
                "context: rebuilt (the agent had forgotten; a fresh one was given the transcript)"
            }
            ContextSource::Reset => "context: reset (the agent had forgotten, which was noticed too late)",
        };
        self.say(meaning, io)
    }

    fn text(&mut self, text: &str, io: &mut Io) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.end_thought(io);
        io.write_text(text)?;
        self.has_answered = true;
        self.is_mid_answer = !text.ends_with('\n');
        io.stdout.flush()
    }

    fn thought(&mut self, text: &str, io: &mut Io) -> io::Result<()> {
        let is_for_nobody = self.thinking == Thinking::OnTerminals && !io.stderr_is_terminal;
        if is_for_nobody || text.is_empty() {
            return Ok(());
        }
        if !self.is_mid_thought {
            self.make_room(io)?;
        }
        self.is_mid_thought = !text.ends_with('\n');
        // Each piece is dimmed for itself, so that nothing stays dim wherever it ends.
        let shown = match io.stderr_is_terminal {
            true => format!("{}{}{}", DIM.0, printable_lines(text), DIM.1),
            false => text.to_owned(),
        };
        aside(io, &shown);
        Ok(())
    }

    fn line(&mut self, text: &str, io: &mut Io) -> io::Result<()> {
        self.make_room(io)?;
        aside(io, &format!("· {}\n", printable(text.trim_end())));
        Ok(())
    }

    fn say(&mut self, text: &str, io: &mut Io) -> io::Result<()> {
        self.make_room(io)?;
        io.say(text);
        Ok(())
    }

    fn ended(&mut self, outcome: &TurnOutcome, io: &mut Io) -> io::Result<()> {
        if let (false, None, Some(answer)) = (self.has_answered, &outcome.failure, &outcome.answer) {
            self.text(answer, io)?;
        }
        self.end_line(io)?;
        let stop = outcome.stop_reason.as_deref().unwrap_or(USUAL_STOP);
        if outcome.failure.is_none() && stop != USUAL_STOP {
            io.say(&format!("the agent stopped: {}", beginning(stop, NAME_CHARS_MAX)));
        }
        if outcome.events_dropped > 0 {
            io.say(&format!("there was more than is kept; {} events were left out", outcome.events_dropped));
        }
        Ok(())
    }

    /// Makes room for a line of standard error. In a file the answer stays in one piece.
    fn make_room(&mut self, io: &mut Io) -> io::Result<()> {
        self.end_thought(io);
        if io.stdout_is_terminal { self.end_answer(io) } else { Ok(()) }
    }
}

fn is_empty(args: &Value) -> bool {
    matches!(args, Value::Object(fields) if fields.is_empty()) || args.is_null()
}

fn aside(io: &mut Io, text: &str) {
    // There is nowhere left to report that standard error is gone, and the answer has its own way.
    let _ = io.stderr.write_all(text.as_bytes()).and_then(|()| io.stderr.flush());
}
