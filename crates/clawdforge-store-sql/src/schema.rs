//! Bringing a database to this version's schema.
//!
//! The number of migrations a database has seen is its `user_version`, which lies in the file's
//! header and changes in the same transaction as the tables. So a start on an up-to-date database
//! costs one query, and a migration that was cut off never happened. Migrations are append-only.

use std::path::Path;

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use crate::OpenError;
use crate::open::open_error;

/// All migrations in order; the first brings an empty database to version 1.
const MIGRATIONS: [&str; 13] = [
    include_str!("../migrations/sqlite/0001_first.sql"),
    include_str!("../migrations/sqlite/0002_conversations.sql"),
    include_str!("../migrations/sqlite/0003_hosts.sql"),
    include_str!("../migrations/sqlite/0004_isolation.sql"),
    include_str!("../migrations/sqlite/0005_counts.sql"),
    include_str!("../migrations/sqlite/0006_isolation_min.sql"),
    include_str!("../migrations/sqlite/0007_network.sql"),
    include_str!("../migrations/sqlite/0008_cancel.sql"),
    include_str!("../migrations/sqlite/0009_idempotency.sql"),
    include_str!("../migrations/sqlite/0010_mode.sql"),
    include_str!("../migrations/sqlite/0011_equipment.sql"),
    include_str!("../migrations/sqlite/0012_tool_servers.sql"),
    include_str!("../migrations/sqlite/0013_forks.sql"),
];

/// Marks our databases; set by the first migration.
const APPLICATION_ID: i64 = 0x636c_7764;

/// Applies what the database lacks. It reads the list of tables, too, so that a file that is no
/// database is noticed here.
pub(crate) async fn bring_up_to_date(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let found = Found::read(connection).await.map_err(|error| open_error(path, &error))?;
    let known = MIGRATIONS.len();
    if found.tables > 0 && found.application_id != APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    let done = match usize::try_from(found.version) {
        Ok(done) if done <= known => done,
        _ => return Err(OpenError::NewerSchema { path: path.to_owned(), found: found.version, known }),
    };
    if done < known {
        upgrade(connection, done).await.map_err(|error| open_error(path, &error))?;
    }
    Ok(())
}

/// Applies all migrations but the first `done`. They are not flushed one by one: the first commit behind them takes them
/// along, and where the power fails before it, the next start applies them again.
async fn upgrade(connection: &mut SqliteConnection, done: usize) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("PRAGMA synchronous = NORMAL").execute(&mut *connection).await?;
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        apply(connection, migration, index + 1).await?;
    }
    sqlx::raw_sql("PRAGMA synchronous = FULL").execute(&mut *connection).await?;
    Ok(())
}

struct Found {
    application_id: i64,
    version: i64,
    tables: i64,
}

impl Found {
    async fn read(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let row = sqlx::query(
            "SELECT (SELECT application_id FROM pragma_application_id),
                    (SELECT user_version FROM pragma_user_version),
                    (SELECT count(*) FROM sqlite_schema)",
        )
        .fetch_one(connection)
        .await?;
        Ok(Self { application_id: row.try_get(0)?, version: row.try_get(1)?, tables: row.try_get(2)? })
    }
}

/// One migration and its number, in one transaction. On an error the caller drops the connection,
/// which undoes the transaction.
async fn apply(connection: &mut SqliteConnection, migration: &'static str, version: usize) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    sqlx::raw_sql(migration).execute(&mut *connection).await?;
    // A pragma takes no bound values; the number is ours.
    sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA user_version = {version}"))).execute(&mut *connection).await?;
    sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SqliteOptions, connect};

    #[tokio::test]
    async fn commits_behind_the_migrations_are_flushed() {
        const FULL: i64 = 2;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let options = connect::writer(&path, &SqliteOptions::at(&path)).create_if_missing(true);
        let mut connection = connect::writing(&options).await.unwrap();
        bring_up_to_date(&mut connection, &path).await.unwrap();
        let row = sqlx::query("PRAGMA synchronous").fetch_one(&mut connection).await.unwrap();
        assert_eq!(row.get::<i64, _>(0), FULL);
    }
}
