//! What is there when the campaign is over: the store of the stopped service, and what the agents noted.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use clawdforge_agent::demo::NOTES_FILE;
use clawdforge_core::event::EventBody;
use clawdforge_core::id::SessionId;
use clawdforge_store::Store;
use clawdforge_store_sql::SqliteOptions;

use super::evidence::{COMPLETED, Found, Happening, Seen};

/// The database below the data directory.
const DATABASE: &str = "clawdforge.sqlite";

/// Events read at once.
const EVENTS_PER_PAGE: usize = 1_000;

/// Reads the logs of these sessions and the notes of their agents.
///
/// # Errors
/// When the store cannot be read or its parts do not fit together.
pub async fn look(data_dir: &Path, sessions: &[String]) -> anyhow::Result<BTreeMap<String, Found>> {
    let opened = clawdforge_store_sql::open(SqliteOptions::at(data_dir.join(DATABASE))).await?;
    let check = opened.check().await?;
    ensure!(check.problems.is_empty(), "the database is damaged: {:?}", check.problems);
    let mut found = BTreeMap::new();
    for session in sessions {
        let events = events(&opened.store, session.parse()?).await?;
        let notes = data_dir.join("sessions").join(session).join("work").join(NOTES_FILE);
        let notes = match std::fs::read_to_string(&notes) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| notes.display().to_string()),
        };
        found.insert(session.clone(), Found { events, notes });
    }
    opened.close().await?;
    Ok(found)
}

async fn events(store: &Store, session: SessionId) -> anyhow::Result<Vec<Seen>> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let page = store.events.events_after(session, after, EVENTS_PER_PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.seq;
        all.extend(page.into_iter().map(|event| Seen {
            seq: event.seq,
            turn: event.turn.to_string(),
            what: happening(event.body),
        }));
    }
}

fn happening(body: EventBody) -> Happening {
    match body {
        EventBody::Prompt { text, .. } => {
            // The word of a prompt is what it has noted, in its first line.
            let word = text.lines().next().and_then(|line| line.strip_prefix("note: ")).unwrap_or(&text);
            Happening::Prompt(word.to_owned())
        }
        EventBody::Ended(outcome) => Happening::End {
            outcome: outcome.failure.map_or(COMPLETED, |failure| failure.kind.code()).to_owned(),
            said: outcome.answer.as_deref().and_then(|answer| answer.lines().last()).unwrap_or_default().to_owned(),
        },
        EventBody::Started
        | EventBody::Context { .. }
        | EventBody::Text { .. }
        | EventBody::Thinking { .. }
        | EventBody::ToolCall { .. }
        | EventBody::ToolResult { .. }
        | EventBody::Retry { .. }
        | EventBody::AskedAgain { .. }
        | EventBody::Unrecognised { .. } => Happening::Other,
    }
}
