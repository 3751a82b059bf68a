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

/// What all of them make of an empty database, in one step; written by the test that compares the two.
const WHOLE: &str = include_str!("../migrations/sqlite/whole.sql");

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
    let brought = match done {
        0 if found.tables == 0 => step(connection, &[(WHOLE, known)]).await,
        done if done < known => step(connection, &migrations_after(done)).await,
        _ => Ok(()),
    };
    brought.map_err(|error| open_error(path, &error))
}

/// The migrations behind the first `done`, with their numbers.
fn migrations_after(done: usize) -> Vec<(&'static str, usize)> {
    MIGRATIONS.into_iter().zip(1..).skip(done).collect()
}

/// Applies these. They are not flushed one by one: the first commit behind them takes them along, and where the power
/// fails before it, the next start applies them again.
async fn step(connection: &mut SqliteConnection, steps: &[(&'static str, usize)]) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("PRAGMA synchronous = NORMAL").execute(&mut *connection).await?;
    for (sql, version) in steps {
        apply(connection, sql, *version).await?;
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

/// One step and the version it leads to, in one transaction. On an error the caller drops the connection,
/// which undoes the transaction.
async fn apply(connection: &mut SqliteConnection, sql: &'static str, version: usize) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    sqlx::raw_sql(sql).execute(&mut *connection).await?;
    // A pragma takes no bound values; the number is ours.
    sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA user_version = {version}"))).execute(&mut *connection).await?;
    sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SqliteOptions, connect};

    /// Set, [`WHOLE`] is written anew instead of compared.
    const WRITE_VARIABLE: &str = "CLAWDFORGE_WRITE_SCHEMA";

    /// The tables and indexes that there are, as they were made, and whose the database is.
    async fn made_by(steps: &[(&'static str, usize)]) -> (Vec<String>, Found) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let options = connect::writer(&path, &SqliteOptions::at(&path)).create_if_missing(true);
        let mut connection = connect::writing(&options).await.unwrap();
        step(&mut connection, steps).await.unwrap();
        let query = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid";
        let rows = sqlx::query(query).fetch_all(&mut connection).await.unwrap();
        let made = rows.iter().map(|row| row.get(0)).collect();
        // Statements are all there is to compare.
        for table in
            sqlx::query("SELECT name FROM sqlite_schema WHERE type = 'table'").fetch_all(&mut connection).await.unwrap()
        {
            let count = format!("SELECT count(*) FROM {}", table.get::<String, _>(0));
            let row = sqlx::query(AssertSqlSafe(count)).fetch_one(&mut connection).await.unwrap();
            assert_eq!(row.get::<i64, _>(0), 0, "a migration that writes rows needs another way for new databases");
        }
        (made, Found::read(&mut connection).await.unwrap())
    }

    #[tokio::test]
    async fn a_new_database_is_what_all_migrations_make_of_an_empty_one() {
        let (migrated, found) = made_by(&migrations_after(0)).await;
        #[expect(clippy::disallowed_methods, reason = "how a developer asks for the file")]
        if std::env::var_os(WRITE_VARIABLE).is_some() {
            let head = "-- What all migrations make of an empty database: a new one gets it in one step. Not written by hand;\n\
                        -- behind a new migration: CLAWDFORGE_WRITE_SCHEMA=1 cargo test -p clawdforge-store-sql a_new_database\n\n\
                        PRAGMA application_id = 0x636c7764;\n";
            let statements: String = migrated.iter().map(|sql| format!("\n{sql};\n")).collect();
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite/whole.sql");
            std::fs::write(file, format!("{head}{statements}")).unwrap();
            panic!("written; compiled in it is compared the next time");
        }
        let (new, found_new) = made_by(&[(WHOLE, MIGRATIONS.len())]).await;
        assert_eq!(new, migrated);
        assert_eq!(
            (found.application_id, found.version, found.tables),
            (APPLICATION_ID, MIGRATIONS.len() as i64, found_new.tables)
        );
        assert_eq!((found_new.application_id, found_new.version), (found.application_id, found.version));
    }

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
