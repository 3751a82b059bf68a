//! Shows what a turn tells: the answer on standard output, everything else on standard error.
//!
//! Where both are one terminal, they share its lines: [`Screen`] knows whether the answer has left one open.

use std::io::{self, Write};

use clawdforge_api::legacy::TurnEvent;
use serde_json::Value;

use super::super::io::Io;
use super::super::text::{beginning, printable, printable_lines};
use super::told::{End, Told};

/// Characters of a tool's arguments that are shown: a line of a terminal.
const ARGS_CHARS_MAX: usize = 100;

/// Characters of a tool's name that are shown.
const NAME_CHARS_MAX: usize = 40;

/// Faint letters, and the end of them.
const DIM: (&str, &str) = ("\x1b[2m", "\x1b[0m");

/// The stop reason of a turn about which there is nothing to say.
const USUAL_STOP: &str = "end_turn";

/// What one turn has shown so far.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// The last line of the answer is not ended.
    is_mid_line: bool,
}

impl Screen {
    /// Nothing was left on the line that a progress line would be drawn on.
    pub(super) fn is_at_line_start(&self) -> bool {
        !self.is_mid_line
    }

    pub(super) fn show(&mut self, told: &Told, io: &mut Io) -> io::Result<()> {
        match told {
            Told::Context(source) => self.context(source, io),
            Told::Event(event) => self.event(event, io),
            Told::Ended(end) => self.ended(end, io),
        }
    }

    /// Ends the line of the answer, if one is open.
    pub(super) fn end_line(&mut self, io: &mut Io) -> io::Result<()> {
        if self.is_mid_line {
            io.stdout.write_all(b"\n")?;
            self.is_mid_line = false;
        }
        io.stdout.flush()
    }

    fn context(&mut self, source: &str, io: &mut Io) -> io::Result<()> {
        let meaning = match source {
            "new" | "warm" => return Ok(()),
            "resumed" => "context: resumed (another process took up the agent's own record)".to_owned(),
            "rebuilt" => "context: rebuilt (the agent had forgotten; a fresh one was given the transcript)".to_owned(),
            other => format!("context: {other}"),
        };
        self.aside(io)?;
        io.say(&meaning);
        Ok(())
    }

    fn event(&mut self, event: &TurnEvent, io: &mut Io) -> io::Result<()> {
        match event.kind.as_str() {
            "text" => self.text(event.text().unwrap_or_default(), io),
            "thinking" => self.thinking(event.content.as_deref().unwrap_or_default(), io),
            "tool_call" => {
                let name = event.name.as_deref().unwrap_or("tool");
                let args = event.args.as_ref().filter(|args| !is_empty(args)).map(Value::to_string).unwrap_or_default();
                let name = beginning(name, NAME_CHARS_MAX);
                self.line(&format!("{name} {}", beginning(&args, ARGS_CHARS_MAX)), io)
            }
            other => self.line(&beginning(other, NAME_CHARS_MAX), io),
        }
    }

    fn text(&mut self, text: &str, io: &mut Io) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        io.write_text(text)?;
        self.is_mid_line = !text.ends_with('\n');
        io.stdout.flush()
    }

    /// Only for a person: in a file it would be taken for something that was said.
    fn thinking(&mut self, text: &str, io: &mut Io) -> io::Result<()> {
        if !io.stderr_is_terminal || text.is_empty() {
            return Ok(());
        }
        self.aside(io)?;
        let text = printable_lines(text);
        aside(io, &format!("{}{}{}\n", DIM.0, text.trim_end(), DIM.1));
        Ok(())
    }

    fn line(&mut self, text: &str, io: &mut Io) -> io::Result<()> {
        self.aside(io)?;
        aside(io, &format!("· {}\n", printable(text.trim_end())));
        Ok(())
    }

    fn ended(&mut self, end: &End, io: &mut Io) -> io::Result<()> {
        self.end_line(io)?;
        if end.stop_reason != USUAL_STOP {
            io.say(&format!("the agent stopped: {}", beginning(&end.stop_reason, NAME_CHARS_MAX)));
        }
        if end.is_cut {
            io.say("there was more than fits into a reply; the rest was left out");
        }
        Ok(())
    }

    /// Makes room for a line of standard error. In a file the answer stays in one piece.
    fn aside(&mut self, io: &mut Io) -> io::Result<()> {
        if io.stdout_is_terminal { self.end_line(io) } else { Ok(()) }
    }
}

fn is_empty(args: &Value) -> bool {
    matches!(args, Value::Object(fields) if fields.is_empty())
}

fn aside(io: &mut Io, text: &str) {
    // There is nowhere left to report that standard error is gone, and the answer has its own way.
    let _ = io.stderr.write_all(text.as_bytes()).and_then(|()| io.stderr.flush());
}
