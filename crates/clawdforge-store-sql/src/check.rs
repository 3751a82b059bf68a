//! Looking at a database's health, for the operator.

use std::io;
use std::path::Path;

use clawdforge_store::ReadError;
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

use crate::connect;
use crate::fault::{Fault, fault};
use crate::private::with_suffix;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// SQLite's words for what is damaged; empty means healthy.
    pub problems: Vec<String>,
    /// Version of the schema.
    pub schema: u64,
    /// Size of a page in bytes.
    pub page_bytes: u64,
    /// Pages of the database.
    pub pages: u64,
    /// Pages among them that are free for new rows.
    pub free_pages: u64,
    /// Bytes of the write-ahead log. More than a few MiB for long means a reader that never ends.
    pub log_bytes: u64,
}

/// Checks the database at `path` without opening it as a store: works beside a running server.
///
/// # Errors
/// When there is no database that can be read; damage that was found is in [`Check::problems`].
pub async fn inspect(path: &Path) -> Result<Check, ReadError> {
    let unreadable = |error: &dyn std::error::Error| ReadError(format!("{}: {error}", path.display()));
    let path = std::path::absolute(path).map_err(|error| unreadable(&error))?;
    let mut connection = connect::reader(&path).connect().await.map_err(|error| unreadable(&error))?;
    let found = check(&mut connection, &path).await;
    connection.close().await.map_err(|error| unreadable(&error))?;
    found
}

pub(crate) async fn check(connection: &mut SqliteConnection, path: &Path) -> Result<Check, ReadError> {
    let read_error = |error: sqlx::Error| ReadError(error.to_string());
    let problems = problems(connection).await.map_err(read_error)?;
    let row = sqlx::query(
        "SELECT (SELECT user_version FROM pragma_user_version),
                (SELECT page_size FROM pragma_page_size),
                (SELECT page_count FROM pragma_page_count),
                (SELECT freelist_count FROM pragma_freelist_count)",
    )
    .fetch_one(connection)
    .await
    .map_err(read_error)?;
    let number = |index: usize| {
        let value = row.try_get::<i64, _>(index).map_err(read_error)?;
        u64::try_from(value).map_err(|error| ReadError(error.to_string()))
    };
    Ok(Check {
        problems,
        schema: number(0)?,
        page_bytes: number(1)?,
        pages: number(2)?,
        free_pages: number(3)?,
        log_bytes: log_bytes(path).map_err(|error| ReadError(error.to_string()))?,
    })
}

async fn problems(connection: &mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
    let rows = match sqlx::query("PRAGMA quick_check").fetch_all(connection).await {
        Ok(rows) => rows,
        // Some damage ends the check itself; that is a finding, not a failure to look.
        Err(error) if fault(&error) == Fault::Damaged => return Ok(vec![error.to_string()]),
        Err(error) => return Err(error),
    };
    let lines = rows.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

fn log_bytes(path: &Path) -> io::Result<u64> {
    match std::fs::metadata(with_suffix(path, "-wal")) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}
