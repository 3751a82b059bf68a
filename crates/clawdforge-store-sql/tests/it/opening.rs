//! Opening and closing: who may, who else can read, and what an operator is told.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use clawdforge_core::commit::{Commit, Write};
use clawdforge_store::CommitError;
use clawdforge_store_sql::{OpenError, SqliteOptions, open};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;

use crate::support::{Fixture, app, at};

async fn error_of(path: &Path) -> OpenError {
    match open(SqliteOptions::at(path)).await {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

/// Runs SQL on a database behind the store's back.
async fn tamper(path: &Path, sql: &'static str) {
    let mut connection = SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn files_of(fixture: &Fixture) -> Vec<(String, u32)> {
    let mut files: Vec<_> = std::fs::read_dir(fixture.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), mode(&entry.path())))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn every_file_of_the_store_is_for_its_owner_only() {
    let fixture = Fixture::with_app().await;
    fixture.store().tokens.live_tokens().await.unwrap();
    let expected = ["store.db", "store.db-shm", "store.db-wal", "store.db.lock"].map(|name| (name.to_owned(), 0o600));
    assert_eq!(files_of(&fixture), expected);
}

#[tokio::test]
async fn a_database_that_others_could_read_is_taken_away_from_them() {
    let fixture = Fixture::with_app().await;
    let path = fixture.path();
    fixture.opened.close().await.unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let opened = open(SqliteOptions::at(&path)).await.unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(opened.store.tokens.app(&app().name).await.unwrap(), Some(app()));
}

#[tokio::test]
async fn a_closed_store_leaves_one_file_with_everything_in_it() {
    let fixture = Fixture::with_app().await;
    let (store, path) = (fixture.store().clone(), fixture.path());
    fixture.store().tokens.live_tokens().await.unwrap();
    fixture.opened.close().await.unwrap();
    let names: Vec<_> = std::fs::read_dir(fixture.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "only the database and its lock file: {names:?}");
    assert_eq!(store.door.commit(Commit::default()).await, Err(CommitError::Unavailable("it is closed".to_owned())));
    assert!(store.tokens.live_tokens().await.is_err());
    drop(open(SqliteOptions::at(path)).await.unwrap());
}

#[tokio::test]
async fn commits_that_came_in_before_the_close_still_happen() {
    let fixture = Fixture::new().await;
    let store = fixture.store().clone();
    let mut early = store.door.commit(Commit { writes: vec![Write::AddApp(app(), at(1))], ..Commit::default() });
    let polled = std::future::poll_fn(|context| std::task::Poll::Ready(early.as_mut().poll(context))).await;
    assert!(polled.is_pending());
    let fixture = fixture.reopen().await;
    assert_eq!(early.await, Ok(()));
    assert_eq!(fixture.store().tokens.app(&app().name).await.unwrap(), Some(app()));
}

#[tokio::test]
async fn a_second_server_on_the_same_database_is_refused_until_the_first_is_gone() {
    let fixture = Fixture::new().await;
    let path = fixture.path();
    let error = error_of(&path).await;
    assert_eq!(error, OpenError::Locked { path: path.clone() });
    assert!(error.to_string().contains("in use by another server"), "{error}");

    fixture.opened.close().await.unwrap();
    open(SqliteOptions::at(&path)).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn what_a_dead_server_leaves_locked_for_a_moment_is_waited_for() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("db");
    // As a child of the dead one does, between its birth and its program.
    let held = std::fs::File::create(dir.path().join("db.lock")).unwrap();
    held.try_lock().unwrap();
    let mut opening = std::pin::pin!(open(SqliteOptions::at(&path)));
    let early = tokio::time::timeout(Duration::from_millis(50), opening.as_mut()).await;
    assert!(early.is_err(), "it is neither opened nor refused yet");
    drop(held);
    opening.await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let fixture = Fixture::with_app().await;
    let path = fixture.path();
    fixture.opened.close().await.unwrap();
    tamper(&path, "PRAGMA user_version = 99").await;
    let error = error_of(&path).await;
    assert_eq!(error, OpenError::NewerSchema { path: path.clone(), found: 99, known: 13 });
    assert!(error.to_string().contains("newer version (schema 99, this one knows 13)"), "{error}");

    tamper(&path, "PRAGMA user_version = 13").await;
    let opened = open(SqliteOptions::at(&path)).await.unwrap();
    assert_eq!(opened.store.tokens.app(&app().name).await.unwrap(), Some(app()));
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    tamper(&path, "CREATE TABLE bookmarks (url TEXT)").await;
    assert_eq!(error_of(&path).await, OpenError::Foreign { path });
}

#[tokio::test]
async fn a_file_that_is_no_database_is_reported_as_damaged_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    let garbage = "not a database ".repeat(1_000);
    std::fs::write(&path, &garbage).unwrap();
    let error = error_of(&path).await;
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("restore it from a backup"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), garbage);
}

#[tokio::test]
async fn a_database_whose_list_of_tables_is_damaged_is_reported_at_the_start() {
    let fixture = Fixture::with_app().await;
    let path = fixture.path();
    fixture.opened.close().await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100..4_096].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let error = error_of(&path).await;
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_folder_is_named_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("missing/store.db");
    let error = error_of(&path).await;
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("missing/store.db") && text.contains("its folder must exist"), "{text}");
}

#[tokio::test]
async fn a_folder_in_place_of_the_database_is_not_writable() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    std::fs::create_dir(&path).unwrap();
    let error = error_of(&path).await;
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_database_of_the_first_version_keeps_its_runs_and_takes_conversations() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    let first = concat!(
        include_str!("../../migrations/sqlite/0001_first.sql"),
        "PRAGMA user_version = 1;
         INSERT INTO apps VALUES ('app_00000000000000000000000001', 'cauldron', 1);
         INSERT INTO sessions VALUES ('ses_00000000000000000000000001', 'app_00000000000000000000000001', 'cauldron',
                                      'claude', 'run', 1);
         INSERT INTO turns (id, session, place, state, request, queued_at, timeout_us)
                VALUES ('trn_00000000000000000000000001', 'ses_00000000000000000000000001', 1, 'queued',
                        'req_00000000000000000000000001', 1, 1);",
    );
    tamper(&path, first).await;
    let opened = open(SqliteOptions::at(&path)).await.unwrap();
    let unfinished = opened.store.sessions.unfinished_turns().await.unwrap();
    assert_eq!((unfinished.len(), &unfinished[0].session.conversation), (1, &None));
    let prompt = opened.store.sessions.queued_prompt(unfinished[0].turn.id).await.unwrap();
    assert_eq!(prompt, None);
    assert_eq!(opened.store.sessions.open_conversations().await, Ok(0));
    opened.close().await.unwrap();
}

#[tokio::test]
async fn a_database_of_before_sessions_were_given_anything_keeps_its_conversations_and_tokens() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    let before = concat!(
        include_str!("../../migrations/sqlite/0001_first.sql"),
        include_str!("../../migrations/sqlite/0002_conversations.sql"),
        include_str!("../../migrations/sqlite/0003_hosts.sql"),
        include_str!("../../migrations/sqlite/0004_isolation.sql"),
        include_str!("../../migrations/sqlite/0005_counts.sql"),
        include_str!("../../migrations/sqlite/0006_isolation_min.sql"),
        include_str!("../../migrations/sqlite/0007_network.sql"),
        include_str!("../../migrations/sqlite/0008_cancel.sql"),
        include_str!("../../migrations/sqlite/0009_idempotency.sql"),
        "PRAGMA user_version = 9;
         INSERT INTO apps VALUES ('app_00000000000000000000000001', 'cauldron', 1);
         INSERT INTO tokens (id, app, hash, ip_cidrs, created_at)
                VALUES ('tok_00000000000000000000000001', 'app_00000000000000000000000001', zeroblob(32), '[]', 1);
         INSERT INTO sessions (id, app, app_name, agent, kind, created_at, model, driver, on_context_loss)
                VALUES ('ses_00000000000000000000000001', 'app_00000000000000000000000001', 'cauldron', 'claude',
                        'conversation', 1, 'opus', 'acp', 'rebuild');",
    );
    tamper(&path, before).await;
    let opened = open(SqliteOptions::at(&path)).await.unwrap();
    let session = clawdforge_core::id::SessionId::from_u128(1);
    let record = opened.store.sessions.conversation(session).await.unwrap().unwrap();
    let chosen = record.session.conversation.unwrap();
    assert_eq!((chosen.model.as_deref(), chosen.mode, chosen.system_mode), (Some("opus"), None, None));
    assert!(chosen.tool_servers.is_empty());
    assert_eq!(opened.store.sessions.equipment(session).await, Ok(clawdforge_core::session::Equipment::default()));
    let tokens = opened.store.tokens.live_tokens().await.unwrap();
    assert!(tokens.len() == 1 && tokens[0].may_give_tool_servers, "{tokens:?}");
    opened.close().await.unwrap();
}
