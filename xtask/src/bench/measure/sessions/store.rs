//! The store without anything before it: commits of events as the owner of a flooding turn makes them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clawdforge_core::app::App;
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::{Event, EventBody, EventSeq};
use clawdforge_core::id::{AppId, RequestId, SessionId, TurnId};
use clawdforge_core::session::{Conversation, DriverName, OnContextLoss, Session};
use clawdforge_core::time::Timestamp;
use clawdforge_core::turn::{Turn, TurnState};
use clawdforge_store::CommitDoor;
use clawdforge_store_sql::{SqliteOptions, open};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Effort;
use super::events::Flow;

/// Events in a commit, as many as a turn gathers.
const GROUP: usize = 256;

/// Any time will do.
const NOW: Timestamp = Timestamp::from_micros(1);

/// As many events in as many sessions as in the measurement through the service.
pub(super) async fn measure(place: &Path, at_once: usize, effort: &Effort) -> Result<Flow> {
    let opened = open(SqliteOptions::at(place.join("store.db"))).await?;
    let app = AppId::new(NOW, [1; 10]);
    let add = Write::AddApp(App { id: app, name: "bench".parse()? }, NOW);
    opened.store.door.commit(Commit { writes: vec![add], ..Commit::default() }).await?;
    let groups = (2 * effort.tool_calls * effort.floods).div_ceil(GROUP);

    let mut floods = JoinSet::new();
    let began = Instant::now();
    for place in 0..at_once {
        floods.spawn(flood(Arc::clone(&opened.store.door), app, place, groups));
    }
    while let Some(flood) = floods.join_next().await {
        flood??;
    }
    let time = began.elapsed();
    opened.close().await?;
    fs::remove_dir_all(place)?;
    Ok(Flow { events: at_once * groups * GROUP, time })
}

/// One session with one turn.
async fn flood(door: Arc<dyn CommitDoor>, app: AppId, place: usize, groups: usize) -> Result<()> {
    let random = [u8::try_from(place)?; 10];
    let (session, turn) = (SessionId::new(NOW, random), TurnId::new(NOW, random));
    let chosen = Conversation {
        model: None,
        effort: None,
        mode: None,
        system_mode: None,
        tool_servers: Vec::new(),
        meta: None,
        driver: DriverName::Acp,
        on_context_loss: OnContextLoss::default(),
        isolation_min: None,
    };
    let row = Session {
        id: session,
        app,
        app_name: "bench".to_owned(),
        agent: "demo".parse()?,
        created_at: NOW,
        conversation: Some(chosen),
        isolation: None,
    };
    let queued = Turn {
        id: turn,
        session,
        index: 1,
        state: TurnState::Queued,
        request: RequestId::new(NOW, random),
        queued_at: NOW,
        timeout: Duration::from_secs(60),
    };
    let writes = vec![Write::OpenSession(row), Write::QueueTurn(queued, None)];
    door.commit(Commit { writes, ..Commit::default() }).await?;
    let mut seq: EventSeq = 0;
    for _ in 0..groups {
        let mut events = Vec::with_capacity(GROUP);
        for number in 0..GROUP {
            seq += 1;
            let call = format!("toolu_{}", seq.div_ceil(2));
            let body = if number % 2 == 0 {
                EventBody::ToolCall { call, name: "Read".to_owned(), args: json!({}) }
            } else {
                EventBody::ToolResult { call, result: Value::from("done"), failed: false }
            };
            events.push(Event { session, seq, turn, at: NOW, body });
        }
        door.commit(Commit { writes: vec![Write::AppendEvents(events)], ..Commit::default() }).await?;
    }
    Ok(())
}
