//! What a prompt tells the demo agent to do: one step a line, or nothing at all.

use std::time::Duration;

use super::leave::Kind;

/// One thing to do, in the order of the prompt's lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Say(String),
    Json(String),
    Think(String),
    UseTool { name: String, args: String },
    Read(String),
    Note(String),
    Tell(About),
    Sleep(Duration),
    Hang,
    Linger,
    Chatter(Duration),
    IgnoreTerm,
    Crash(u8),
    Die(String),
    Flood(u64),
    Garbage,
    Stderr(String),
    Grandchild,
    Leave(Kind),
    CloseStdout,
    ApiError(u16),
    NotSignedIn,
    NoAnswer,
    Refuse,
    IgnoreCancel,
    Ask(String),
    AskOnCancel(String),
    Recall,
    Forget,
    Attached,
    CallServer { server: String, tool: String, args: String },
    Later(String),
}

/// What the agent can tell of its own surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    EnvNames,
    EnvValue(String),
    /// What it can reach that is not its own: words for [`clawdforge_process::sandbox::try_all`].
    Attacks(String),
    /// The same for one of [`clawdforge_process::sandbox::try_one`].
    Try(String),
    /// Whether it can connect to a host and port by itself.
    Connecting(String),
    /// What its proxy says to being asked for a host and port.
    Proxy(String),
    Args,
    Cwd,
    System,
    Model,
    Effort,
    Mode,
    ToolServers,
}

/// The steps of a prompt. Lines that are no step are ignored; a prompt without any step is plain.
pub(super) fn parse(prompt: &str) -> Vec<Step> {
    prompt.lines().filter_map(|line| step(line.trim())).collect()
}

fn step(line: &str) -> Option<Step> {
    match line.split_once(':') {
        Some((word, rest)) => step_with(word.trim_end(), rest.trim()),
        None => bare_step(line),
    }
}

fn bare_step(line: &str) -> Option<Step> {
    Some(match line {
        "env" => Step::Tell(About::EnvNames),
        "args" => Step::Tell(About::Args),
        "cwd" => Step::Tell(About::Cwd),
        "system" => Step::Tell(About::System),
        "model" => Step::Tell(About::Model),
        "effort" => Step::Tell(About::Effort),
        "mode" => Step::Tell(About::Mode),
        "tool servers" => Step::Tell(About::ToolServers),
        "hang" => Step::Hang,
        "linger" => Step::Linger,
        "ignore term" => Step::IgnoreTerm,
        "garbage" => Step::Garbage,
        "grandchild" => Step::Grandchild,
        "close stdout" => Step::CloseStdout,
        "not signed in" => Step::NotSignedIn,
        "no answer" => Step::NoAnswer,
        "refuse" => Step::Refuse,
        "ignore cancel" => Step::IgnoreCancel,
        "recall" => Step::Recall,
        "forget" => Step::Forget,
        "attached" => Step::Attached,
        _ => return None,
    })
}

fn step_with(word: &str, rest: &str) -> Option<Step> {
    let millis = || rest.parse().ok().map(Duration::from_millis);
    Some(match word {
        "say" => Step::Say(rest.to_owned()),
        "json" => Step::Json(rest.to_owned()),
        "think" => Step::Think(rest.to_owned()),
        "use tool" => {
            let (name, args) = rest.split_once(char::is_whitespace).unwrap_or((rest, "{}"));
            Step::UseTool { name: name.to_owned(), args: args.trim().to_owned() }
        }
        "call server" => {
            let mut words = rest.splitn(3, char::is_whitespace).map(|word| word.trim().to_owned());
            let (server, tool) = (words.next()?, words.next()?);
            Step::CallServer { server, tool, args: words.next().unwrap_or_else(|| "{}".to_owned()) }
        }
        "read" => Step::Read(rest.to_owned()),
        "later" => Step::Later(rest.to_owned()),
        "note" => Step::Note(rest.to_owned()),
        "ask" => Step::Ask(rest.to_owned()),
        "ask on cancel" => Step::AskOnCancel(rest.to_owned()),
        "env" => Step::Tell(About::EnvValue(rest.to_owned())),
        "connect" => Step::Tell(About::Connecting(rest.to_owned())),
        "proxy" => Step::Tell(About::Proxy(rest.to_owned())),
        "attack" => Step::Tell(About::Attacks(rest.to_owned())),
        "try" => Step::Tell(About::Try(rest.to_owned())),
        "leave" => Step::Leave(Kind::named(rest)?),
        "sleep" => Step::Sleep(millis()?),
        "chatter" => Step::Chatter(millis()?),
        "crash" => Step::Crash(rest.parse().ok()?),
        "die" => Step::Die(rest.to_owned()),
        "flood" => Step::Flood(rest.parse().ok()?),
        "stderr" => Step::Stderr(rest.to_owned()),
        "api error" => Step::ApiError(rest.parse().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_taken_line_by_line_and_other_lines_are_left_alone() {
        let prompt =
            "Please:\n  think: hm \nsay: a: b\nuse tool: Bash {\"command\": \"ls\"}\nhang\nhanging: 3\nsleep: soon";
        assert_eq!(
            parse(prompt),
            [
                Step::Think("hm".into()),
                Step::Say("a: b".into()),
                Step::UseTool { name: "Bash".into(), args: "{\"command\": \"ls\"}".into() },
                Step::Hang,
            ]
        );
    }

    #[test]
    fn an_ordinary_prompt_has_no_steps() {
        assert_eq!(parse("What is in attachment-1.txt?\nAnswer as JSON: {\"a\": 1}"), []);
    }
}
