//! How our connections are set up.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

use crate::SqliteOptions;
use crate::batch::MUST;

/// Page cache of the writer. A commit larger than this spills into the log before its end, which
/// costs speed, not safety; the memory counts against an idle service of 15 MB.
const WRITER_CACHE_KIB: u32 = 1024;

/// Page cache of each reader. Pages beyond it are in the kernel's cache anyway.
const READER_CACHE_KIB: u32 = 512;

/// Connections that read. Each is a thread and a cache; reads are short and mostly of fresh pages.
const READERS_MAX: u32 = 3;

/// How long to wait for another process, say an operator's `sqlite3` in a transaction. The writer
/// refuses its callers after it.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a read waits for one of the readers before it fails.
const READER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Size to which the log is cut back after a burst. Four times what it grows to in quiet hours
/// (SQLite moves it into the database from 1,000 pages on).
const LOG_BYTES_KEPT: u32 = 16 * 1024 * 1024;

/// The one connection that writes.
pub(crate) fn writer(path: &Path, options: &SqliteOptions) -> SqliteConnectOptions {
    let connection = common(path, WRITER_CACHE_KIB)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", LOG_BYTES_KEPT.to_string())
        // What was erased is overwritten, not only unlinked: retention is a promise.
        .pragma("secure_delete", "ON")
        .thread_name(|_| "store-writer".to_owned());
    match options.pages_max {
        Some(pages) => connection.pragma("max_page_count", pages.to_string()),
        None => connection,
    }
}

/// Opens a connection that writes.
pub(crate) async fn writing(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    sqlx::raw_sql(MUST).execute(&mut connection).await?;
    Ok(connection)
}

/// A connection that only reads.
pub(crate) fn reader(path: &Path) -> SqliteConnectOptions {
    common(path, READER_CACHE_KIB).read_only(true).thread_name(|_| "store-reader".to_owned())
}

/// The readers, opened when first needed.
pub(crate) fn readers(path: &Path) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .acquire_timeout(READER_WAIT_MAX)
        // A local connection neither grows old nor goes stale.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(reader(path))
}

fn common(path: &Path, cache_kib: u32) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_WAIT_MAX)
        .foreign_keys(true)
        // Negative means KiB; positive would mean pages.
        .pragma("cache_size", format!("-{cache_kib}"))
        .disable_statement_logging()
}
