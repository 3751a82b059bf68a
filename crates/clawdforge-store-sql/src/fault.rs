//! What SQLite's errors mean to us. The only file that knows its result codes
//! (<https://sqlite.org/rescode.html>).

/// A failure of SQLite, by what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The rows do not fit those that are there: twice the same, or a parent is missing.
    Conflict,
    /// A value cannot be kept: it is larger than SQLite takes, or has no JSON.
    Unwritable,
    /// No room on the disk, or the database reached its limit of pages.
    Full,
    /// Another process holds the database.
    Busy,
    /// The file cannot be opened or written: permissions, a missing folder, a read-only disk.
    NotWritable,
    /// The file is damaged or no database at all.
    Damaged,
    /// Anything else: the disk failed, memory ran out, or a bug of ours.
    Other,
}

/// Tells what an error means.
pub(crate) fn fault(error: &sqlx::Error) -> Fault {
    if matches!(error, sqlx::Error::Encode(_)) {
        return Fault::Unwritable;
    }
    let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<u32>().ok());
    // The low byte is the primary code; the rest says more than we need.
    match code.map(|code| code & 0xff) {
        Some(3 | 8 | 14 | 23) => Fault::NotWritable, // PERM, READONLY, CANTOPEN, AUTH
        Some(5 | 6) => Fault::Busy,                  // BUSY, LOCKED
        Some(11 | 26) => Fault::Damaged,             // CORRUPT, NOTADB
        Some(13) => Fault::Full,                     // FULL
        Some(18) => Fault::Unwritable,               // TOOBIG
        Some(19) => Fault::Conflict,                 // CONSTRAINT
        _ => Fault::Other,
    }
}
