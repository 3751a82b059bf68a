//! Opening and closing a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clawdforge_store::{ReadError, Store};
use sqlx::Connection;
use sqlx::sqlite::SqlitePool;
use tokio::task::JoinHandle;

use crate::check::{self, Check};
use crate::fault::{Fault, fault};
use crate::private::{self, Lock};
use crate::readers::Windows;
use crate::writer::{Door, Writer};
use crate::{connect, schema};

/// Where the database lies and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// The database file. Its folder must exist; the file is created when missing, mode 0600.
    pub path: PathBuf,
    /// Most pages (4 KiB each) the database may have; commits beyond are refused as on a full disk.
    /// `None` leaves it to the disk.
    pub pages_max: Option<u32>,
    /// Opens it also where no lock can keep a second server out. Whoever says so sees to it that there is none.
    pub without_locks: bool,
}

impl SqliteOptions {
    /// The database at `path`, as large as the disk allows.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), pages_max: None, without_locks: false }
    }
}

/// Why a store could not be opened, by what an operator would do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Give the service a folder it may write to, with room.
    #[error("{} cannot be written: {reason}; its folder must exist, have room, and belong to the service's user", path.display())]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// The system's word for it.
        reason: String,
    },
    /// Restore the database from a backup.
    #[error("{} is damaged: {reason}; restore it from a backup, or move it away to start empty", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// SQLite's word for it.
        reason: String,
    },
    /// Point the service elsewhere.
    #[error("{} is the database of another program; choose another path", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Go back to the newer version of the service.
    #[error("{} was written by a newer version (schema {found}, this one knows {known}); run that version", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The schema it has.
        found: i64,
        /// The newest schema this version knows.
        known: usize,
    },
    /// Stop the other server.
    #[error("{} is in use by another server; stop it, or choose another folder with --data-dir", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Choose a folder on another file system.
    #[error("{} has no protection from a second server: {reason}; choose a local folder with --data-dir, or allow it with --start-despite no-locks and start one server only", path.display())]
    NoLocks {
        /// The file.
        path: PathBuf,
        /// What was measured, and where.
        reason: String,
    },
    /// Read the reason.
    #[error("{} could not be opened: {reason}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
}

/// A store that did not close in good order. Nothing acknowledged is lost: it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store did not close in good order: {0}")]
pub struct CloseError(pub String);

/// An open store. Dropping it without [`close`](Self::close) loses nothing that was acknowledged;
/// the writer ends when the last handle to its door is gone.
pub struct Opened {
    /// The door and the windows, to be handed out.
    pub store: Store,
    path: PathBuf,
    door: Arc<Door>,
    readers: SqlitePool,
    writer: JoinHandle<Result<(), sqlx::Error>>,
}

/// The right to a database that is not open yet: while it is held, no other server has it.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    options: SqliteOptions,
    lock: Lock,
}

/// Opens the store, creating or upgrading the database as needed, and starts its writer. Needs a
/// Tokio runtime with time enabled.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(options: SqliteOptions) -> Result<Opened, OpenError> {
    Claim::take(options).await?.open().await
}

impl Claim {
    /// Takes the right to a database, which need not be there.
    ///
    /// # Errors
    /// [`OpenError::Locked`], [`OpenError::NoLocks`], [`OpenError::NotWritable`]; [`OpenError::Other`] where there is no
    /// working directory for a path that needs one.
    pub async fn take(options: SqliteOptions) -> Result<Self, OpenError> {
        // SQLite would read a path that begins with `file:` as a URI; an absolute path never does.
        let path = std::path::absolute(&options.path)
            .map_err(|error| OpenError::Other { path: options.path.clone(), reason: error.to_string() })?;
        let lock = Lock::take(&path, options.without_locks).await?;
        Ok(Self { path, options, lock })
    }

    /// Opens the store, as [`open`](open()) does.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(self) -> Result<Opened, OpenError> {
        let Self { path, options, lock } = self;
        private::make_private(&path)?;

        let writing = connect::writer(&path, &options);
        let mut connection = connect::writing(&writing).await.map_err(|error| open_error(&path, &error))?;
        if let Err(error) = schema::bring_up_to_date(&mut connection, &path).await {
            // The error that matters is the first; a connection that cannot even close is gone as well.
            let _ = connection.close().await;
            return Err(error);
        }

        let readers = connect::readers(&path);
        let (door, writer) = Writer::start(writing, connection, readers.clone(), lock);
        let (door, windows) = (Arc::new(door), Arc::new(Windows::new(readers.clone())));
        let store = Store {
            door: door.clone(),
            tokens: windows.clone(),
            agent_users: windows.clone(),
            files: windows.clone(),
            sessions: windows.clone(),
            events: windows.clone(),
            keys: windows.clone(),
            ledger: windows,
        };
        Ok(Opened { store, path, door, readers, writer })
    }
}

#[cfg(test)]
impl Opened {
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    pub(crate) fn writer(&self) -> &JoinHandle<Result<(), sqlx::Error>> {
        &self.writer
    }
}

impl Opened {
    /// Resolves when nothing can be written any more: the writer failed for good. A full or failing disk is
    /// not that; the writer goes on when the disk does.
    pub async fn broken(&self) {
        self.door.closed().await;
    }

    /// Reads the whole database and compares its parts: seconds for each gigabyte.
    ///
    /// # Errors
    /// When the database cannot be read at all; damage that was found is in [`Check::problems`].
    pub async fn check(&self) -> Result<Check, ReadError> {
        let mut connection = self.readers.acquire().await.map_err(|error| ReadError(error.to_string()))?;
        check::check(&mut connection, &self.path).await
    }

    /// Lets the commits that already came in happen, refuses later ones, moves the log into the
    /// database and gives the files back. Reads fail from now on.
    ///
    /// # Errors
    /// When the log could not be moved; the next start does it.
    pub async fn close(self) -> Result<(), CloseError> {
        self.door.close().await;
        let ended = self.writer.await;
        // By the writer already, unless it failed before.
        self.readers.close().await;
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(CloseError(error.to_string())),
            Err(panic) => Err(CloseError(panic.to_string())),
        }
    }
}

/// Tells an operator's cases apart.
pub(crate) fn open_error(path: &Path, error: &sqlx::Error) -> OpenError {
    let (path, reason) = (path.to_owned(), error.to_string());
    match fault(error) {
        Fault::NotWritable | Fault::Full => OpenError::NotWritable { path, reason },
        Fault::Damaged => OpenError::Corrupt { path, reason },
        Fault::Busy => OpenError::Locked { path },
        Fault::Conflict | Fault::Unwritable | Fault::Other => OpenError::Other { path, reason },
    }
}
