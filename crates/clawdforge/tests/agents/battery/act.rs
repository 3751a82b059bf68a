//! What a subject is made to do in a turn: by its model, or where it has none, by the prompt itself.

use std::time::Duration;

use clawdforge_testkit::mock_model::{Ending, ModelRequest, Reply};
use serde_json::Value;

use super::agent::Agent;
use super::stage::Stage;

/// What is told in the first turn, and asked for in later ones.
pub const TOLD: &str = "The word is plum.";

/// Begins what the agent says of [`TOLD`] if that was told to it anew, in front of the question.
pub const TOLD_ANEW: &str = "(told)";

/// What stands in the attached file.
pub const ATTACHED: &str = "the colour is teal";

/// The file that the tool makes in the workspace.
pub const MADE_FILE: &str = "notes.txt";

/// Between two words of a model that talks on.
const WORDS_PAUSE: Duration = Duration::from_millis(50);

/// Bytes of a flood's text: a piece of it, which is what floods, has a 64th of them.
const FLOOD_TEXT_BYTES: usize = 12_800;

/// Between two pieces of a flood: some hundred a second, which is more than any model says. Without it the agents pile up what the
/// machine of the tests cannot work off.
const FLOOD_PAUSE: Duration = Duration::from_millis(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Listens to [`TOLD`].
    Listen,
    /// Says what it was told, and how it comes to know.
    Recall,
    /// Makes [`MADE_FILE`] with a tool.
    UseTool,
    /// Reads the file that is attached, with a tool where it did not come with the prompt.
    ReadAttachment,
    /// Talks without an end, and lets itself be stopped.
    TalkOn,
    /// The same as fast as it can.
    Flood,
    /// Speaks as nobody should: the demo agent beside its answer, a model in place of it.
    Garbage,
    /// Says nothing, for ever. The demo agent does not let itself be stopped, and has left a process.
    Hang,
}

impl Act {
    /// Sees to it that the subject does this; the prompt to send comes back.
    pub fn prepare(self, stage: &Stage) -> &'static str {
        let agent = stage.subject.agent();
        if agent == Agent::Demo {
            return self.demo_prompt();
        }
        stage.model.script(move |request| self.reply(agent, request));
        match self {
            Self::Listen => TOLD,
            Self::Recall => "What is the word?",
            Self::UseTool => "Make a note.",
            Self::ReadAttachment => "Read it.",
            Self::TalkOn | Self::Flood | Self::Garbage | Self::Hang => "Tell me a story.",
        }
    }

    fn demo_prompt(self) -> &'static str {
        match self {
            Self::Listen => TOLD,
            Self::Recall => "recall",
            Self::UseTool => "use tool: Bash {\"command\": \"make a note\"}\nnote: made\nsay: done",
            Self::ReadAttachment => "attached\nread: attachments/turn-1/attachment-1.txt",
            Self::TalkOn => "say: I begin\nhang",
            Self::Flood => "flood: 1000000000000",
            Self::Garbage => "garbage\nsay: still here",
            Self::Hang => "ignore cancel\nignore term\ngrandchild\nhang",
        }
    }

    fn reply(self, agent: Agent, request: &ModelRequest) -> Reply {
        let used = request.tool_answers();
        match self {
            Self::Listen => Reply::text("I will remember that."),
            Self::Recall => Reply::text(recalled(request)),
            Self::UseTool if used.is_empty() => agent.runs(&format!("echo made > {MADE_FILE} && pwd")),
            Self::ReadAttachment if used.is_empty() => match attachment_in(request) {
                Some(path) => agent.runs(&format!("cat '{path}'")),
                None => Reply::text(knows_attachment(request)),
            },
            Self::UseTool => Reply::text("done"),
            Self::ReadAttachment => Reply::text(knows_attachment(request)),
            Self::TalkOn => Reply::text("on and on and on").ending(Ending::Endless).slow(WORDS_PAUSE),
            Self::Flood => Reply::text("more ".repeat(FLOOD_TEXT_BYTES / 5)).ending(Ending::Endless).slow(FLOOD_PAUSE),
            Self::Garbage => Reply::text("It began well, until then").ending(Ending::Garbled),
            Self::Hang => Reply::stalled(),
        }
    }
}

/// What a model says that is asked for the word: whether it knows it from before, or was told anew.
fn recalled(request: &ModelRequest) -> String {
    let messages = request.messages();
    let newest = messages.iter().rposition(|message| message["role"] == "user").unwrap_or(0);
    let (before, now) = messages.split_at(newest);
    let holds = |messages: &[Value]| messages.iter().any(|message| message["content"].to_string().contains(TOLD));
    match (holds(before), holds(now)) {
        (true, _) => TOLD.to_owned(),
        (false, true) => format!("{TOLD_ANEW} {TOLD}"),
        (false, false) => "nothing".to_owned(),
    }
}

/// Where the attachment lies, if all that came is a link.
fn attachment_in(request: &ModelRequest) -> Option<String> {
    let text = request.body["messages"].to_string();
    if text.contains(ATTACHED) {
        return None;
    }
    let end = "/attachments/turn-1/attachment-1.txt";
    let at = text.find(end)?;
    // Some write it as a link, some as a path.
    let from = text[..at].rfind([' ', ':', '(', '"'])? + 1;
    Some(text[from..at].to_owned() + end)
}

fn knows_attachment(request: &ModelRequest) -> &'static str {
    if request.body["messages"].to_string().contains(ATTACHED) { ATTACHED } else { "nothing" }
}
