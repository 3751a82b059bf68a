//! The transcript of a conversation, for an agent that has forgotten it.

use std::fmt::Write;

use clawdforge_core::event::{EventBody, EventSeq};
use clawdforge_core::id::SessionId;
use clawdforge_core::limits::TRANSCRIPT_BYTES_MAX;
use clawdforge_store::{EventReads, ReadError};

/// Events read at once.
const PAGE: usize = 200;

const HEAD: &str = "This is the transcript of our conversation so far, which you no longer have. Go on from here; do not \
                    answer it again.\n";

/// What was said in the turns that an agent was set to work on, up to event number `last`, or `None` where
/// there was none. Of a transcript that is too long, the beginning is cut.
pub(super) async fn transcript(
    events: &dyn EventReads,
    session: SessionId,
    last: EventSeq,
) -> Result<Option<String>, ReadError> {
    let (mut text, mut prompt, mut started) = (String::new(), None, false);
    let mut after = 0;
    while after < last {
        let page = events.events_after(session, after, PAGE).await?;
        let Some(end) = page.last().map(|event| event.seq) else { break };
        for event in page.into_iter().filter(|event| event.seq <= last) {
            match event.body {
                EventBody::Prompt { text, .. } => prompt = Some(text),
                EventBody::Started => {
                    started = true;
                    if let Some(prompt) = prompt.take() {
                        say(&mut text, "User", &prompt);
                    }
                }
                EventBody::Ended(outcome) if started => {
                    let code = outcome.code();
                    match outcome.answer.filter(|answer| !answer.is_empty()) {
                        Some(answer) => say(&mut text, "You", &answer),
                        None => say(&mut text, "You", &format!("[no answer: {code}]")),
                    }
                    started = false;
                }
                _ => {}
            }
        }
        cut(&mut text);
        after = end;
    }
    Ok((!text.is_empty()).then(|| format!("{HEAD}{text}")))
}

fn say(text: &mut String, who: &str, what: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "\n{who}:\n{what}\n");
}

fn cut(text: &mut String) {
    if text.len() > TRANSCRIPT_BYTES_MAX {
        let from = text.ceil_char_boundary(text.len() - TRANSCRIPT_BYTES_MAX);
        text.replace_range(..from, "[the beginning is cut]\n… ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_that_is_too_long_keeps_its_end() {
        let mut text = "é".repeat(TRANSCRIPT_BYTES_MAX);
        text.push_str("the end");
        cut(&mut text);
        assert!(text.starts_with("[the beginning is cut]\n… é") && text.ends_with("éthe end"), "{}", text.len());
        assert!(text.len() < TRANSCRIPT_BYTES_MAX + 40);
        let mut short = "short".to_owned();
        cut(&mut short);
        assert_eq!(short, "short");
    }
}
