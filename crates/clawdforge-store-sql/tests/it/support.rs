//! A store in a folder of its own, and things to put into it. Equal numbers make equal ids.

use std::path::PathBuf;
use std::time::Duration;

use clawdforge_core::app::{App, AppToken, TokenHash};
use clawdforge_core::commit::{Commit, Expect, Write};
use clawdforge_core::event::{Event, EventBody, TurnOutcome};
use clawdforge_core::file::File;
use clawdforge_core::id::{AppId, FileId, RequestId, RunId, SessionId, TokenId, TurnId};
use clawdforge_core::isolation::Isolation;
use clawdforge_core::ledger::{LedgerEntry, LedgerFact};
use clawdforge_core::network::NetworkRule;
use clawdforge_core::session::Session;
use clawdforge_core::time::Timestamp;
use clawdforge_core::turn::{Turn, TurnState};
use clawdforge_store::{CommitError, LedgerQuery, Order, Store};
use clawdforge_store_sql::{Opened, SqliteOptions, open};
use tempfile::TempDir;

pub struct Fixture {
    pub folder: TempDir,
    pub opened: Opened,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::with_pages_max(None).await
    }

    pub async fn with_pages_max(pages_max: Option<u32>) -> Self {
        let folder = TempDir::new().unwrap();
        let options = SqliteOptions { pages_max, ..SqliteOptions::at(folder.path().join("store.db")) };
        let opened = open(options).await.unwrap();
        Self { folder, opened }
    }

    /// A store that knows the app of [`app`].
    pub async fn with_app() -> Self {
        let fixture = Self::new().await;
        fixture.write([Write::AddApp(app(), at(1))]).await.unwrap();
        fixture
    }

    /// Closes the store and opens the same files again.
    pub async fn reopen(self) -> Self {
        let options = SqliteOptions::at(self.path());
        self.opened.close().await.unwrap();
        Self { folder: self.folder, opened: open(options).await.unwrap() }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    pub fn store(&self) -> &Store {
        &self.opened.store
    }

    pub async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        self.store().door.commit(commit).await
    }

    pub async fn write(&self, writes: impl IntoIterator<Item = Write>) -> Result<(), CommitError> {
        self.commit(writing(writes)).await
    }

    /// Commits nothing but a precondition.
    pub async fn expect(&self, expect: Expect) -> Result<(), CommitError> {
        self.commit(Commit { expects: vec![expect], ..Commit::default() }).await
    }

    /// The whole ledger, oldest first, as `kind` words.
    pub async fn ledger_kinds(&self) -> Vec<String> {
        self.store().ledger.ledger(all_lines()).await.unwrap().into_iter().map(|line| line.kind).collect()
    }
}

pub const fn unexpected(index: usize) -> CommitError {
    CommitError::Unexpected { index }
}

pub fn writing(writes: impl IntoIterator<Item = Write>) -> Commit {
    Commit { writes: writes.into_iter().collect(), ..Commit::default() }
}

pub fn all_lines() -> LedgerQuery {
    LedgerQuery { app: None, kind: None, order: Order::OldestFirst, cursor: None, limit: 1_000 }
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

pub fn app() -> App {
    App { id: AppId::from_u128(1), name: "cauldron".parse().unwrap() }
}

pub fn token_id(number: u128) -> TokenId {
    TokenId::from_u128(number)
}

pub fn token(number: u128, app: App) -> AppToken {
    AppToken {
        id: token_id(number),
        app,
        hash: TokenHash::of(&format!("cf_{number}")),
        ip_cidrs: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        network: NetworkRule::only(&["example.com:443"]).ok(),
        created_at: at(2),
        may_give_tool_servers: true,
    }
}

pub fn file_id(number: u128) -> FileId {
    FileId::from_u128(number)
}

pub fn file(number: u128, expires: i64) -> File {
    File {
        id: file_id(number),
        app: app().id,
        name: "résumé \"final\".pdf".to_owned(),
        size: 5_000_000_000,
        created_at: at(3),
        expires_at: at(expires),
    }
}

pub fn session_id(number: u128) -> SessionId {
    SessionId::from_u128(number)
}

pub fn session(number: u128) -> Session {
    Session {
        id: session_id(number),
        app: app().id,
        app_name: "cauldron".to_owned(),
        agent: "claude".parse().unwrap(),
        conversation: None,
        isolation: Some(Isolation::Landlock),
        created_at: at(4),
    }
}

pub fn turn_id(number: u128) -> TurnId {
    TurnId::from_u128(number)
}

/// The only turn of the session of the same number.
pub fn turn(number: u128) -> Turn {
    Turn {
        id: turn_id(number),
        session: session_id(number),
        index: 1,
        state: TurnState::Queued,
        request: RequestId::from_u128(number),
        queued_at: at(4),
        timeout: Duration::from_millis(90_500),
    }
}

/// Opens the session of a number with its turn.
pub fn accept(number: u128) -> [Write; 2] {
    [Write::OpenSession(session(number)), Write::QueueTurn(turn(number), None)]
}

pub fn text(session: u128, seq: u64, content: &str) -> Event {
    Event {
        session: session_id(session),
        seq,
        turn: turn_id(session),
        at: at(5),
        body: EventBody::Text { content: content.to_owned() },
    }
}

pub fn outcome() -> TurnOutcome {
    TurnOutcome {
        answer: Some("42".to_owned()),
        output: Some(serde_json::json!(42)),
        stop_reason: Some("end_turn".to_owned()),
        failure: None,
        stderr: String::new(),
        duration_ms: 1_234,
        usage: clawdforge_core::agent::Usage::default(),
        events_dropped: 0,
    }
}

pub fn line(seconds: i64, app: &str, fact: LedgerFact) -> LedgerEntry {
    LedgerEntry {
        at: at(seconds),
        principal: "app",
        app: Some(app.to_owned()),
        request: Some(RequestId::from_u128(9)),
        fact,
    }
}

pub fn erased(number: u128) -> LedgerFact {
    LedgerFact::RunErased(RunId::from_u128(number))
}
