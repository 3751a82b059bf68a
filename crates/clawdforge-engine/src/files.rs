//! The life of an upload: streamed to disk, committed, attached, swept.
//!
//! The bytes lie in `files/<id>` under the service's own name for them. They are complete and flushed
//! before the row that names them is committed, so a row never points at half a file; bytes without
//! a row are strays of a crash and removed at the next start.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clawdforge_core::app::AppToken;
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::file::{File, clamp_ttl, shown_name};
use clawdforge_core::id::{FileId, RequestId};
use clawdforge_core::ledger::{LedgerEntry, LedgerFact};
use clawdforge_core::limits::FILE_NAME_CHARS_MAX;
use tokio::io::AsyncWriteExt;

use crate::error::EngineError;
use crate::ids::Ids;
use crate::record::Recorder;

/// Name of the folder of uploads below the data directory.
const FILES_DIR: &str = "files";

/// What the name of an unfinished upload ends with.
const PART_SUFFIX: &str = ".part";

/// Uploads never change once they are whole, so nobody may write them, not even their owner by accident.
const UPLOAD_MODE: u32 = 0o400;

/// An upload under way. Dropping it removes what was written.
pub struct Upload {
    id: FileId,
    file: tokio::fs::File,
    part: PartFile,
    size: u64,
    bytes_max: u64,
}

/// Removes an unfinished file unless it was kept.
struct PartFile {
    path: PathBuf,
    kept: bool,
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file.path = %self.path.display(), %error, "an unfinished upload could not be removed");
        }
    }
}

impl Upload {
    /// Writes a piece of the upload.
    ///
    /// # Errors
    /// [`EngineError::UploadTooLarge`], [`EngineError::DiskFull`], or [`EngineError::Internal`].
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), EngineError> {
        self.size += chunk.len() as u64;
        if self.size > self.bytes_max {
            return Err(EngineError::UploadTooLarge(self.bytes_max));
        }
        self.file.write_all(chunk).await.map_err(|error| io_error("write an upload", &self.part.path, &error))
    }
}

/// The folder of uploads.
pub(crate) struct Files {
    dir: PathBuf,
    bytes_max: u64,
}

impl Files {
    pub fn new(data_dir: &Path, bytes_max: u64) -> Result<Self, EngineError> {
        let dir = data_dir.join(FILES_DIR);
        make_private_dir(&dir).map_err(|error| io_error("create", &dir, &error))?;
        Ok(Self { dir, bytes_max })
    }

    /// Where the bytes of a file lie.
    pub fn path(&self, id: FileId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    pub async fn begin(&self, ids: &Ids) -> Result<Upload, EngineError> {
        let id = ids.make(FileId::new);
        let path = self.dir.join(format!("{id}{PART_SUFFIX}"));
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(UPLOAD_MODE).open(&path).await;
        let file = file.map_err(|error| io_error("create", &path, &error))?;
        Ok(Upload { id, file, part: PartFile { path, kept: false }, size: 0, bytes_max: self.bytes_max })
    }

    pub async fn finish(
        &self,
        upload: Upload,
        by: &AppToken,
        sender_name: &str,
        ttl_wish_secs: Option<i64>,
        (ids, recorder, request): (&Ids, &Recorder, RequestId),
    ) -> Result<(File, Duration), EngineError> {
        let Upload { id, mut file, mut part, size, .. } = upload;
        let fail = |error: io::Error| io_error("finish an upload", &self.dir, &error);
        file.flush().await.map_err(fail)?;
        file.sync_all().await.map_err(fail)?;
        drop(file);
        let whole = self.path(id);
        tokio::fs::rename(&part.path, &whole).await.map_err(fail)?;
        part.path = whole;
        sync_dir(&self.dir).await.map_err(fail)?;

        let ttl = clamp_ttl(ttl_wish_secs);
        let now = ids.now();
        let file = File {
            id,
            app: by.app.id,
            name: shown_name(sender_name, FILE_NAME_CHARS_MAX),
            size,
            created_at: now,
            expires_at: now.plus(ttl),
        };
        let commit = Commit {
            expects: Vec::new(),
            writes: vec![Write::AddFile(file.clone())],
            ledger: vec![LedgerEntry {
                at: now,
                principal: "app",
                app: Some(by.app.name.to_string()),
                request: Some(request),
                fact: LedgerFact::FileUploaded { file: id, size },
            }],
        };
        recorder.plain(commit).await?;
        part.kept = true;
        Ok((file, ttl))
    }

    /// Removes the bytes of a file that no row names any more.
    pub async fn erase(&self, id: FileId) -> io::Result<()> {
        match tokio::fs::remove_file(self.path(id)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Names in the folder: ids of whole files, and paths of everything else.
    pub fn on_disk(&self) -> io::Result<(Vec<FileId>, Vec<PathBuf>)> {
        let (mut whole, mut other) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            match entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                Some(id) => whole.push(id),
                None => other.push(entry.path()),
            }
        }
        Ok((whole, other))
    }
}

/// Makes a directory that only its owner may enter, with its parents; fine if it is there.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Lets other users pass through a directory that they cannot list.
pub(crate) fn open_to_pass(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711))
}

async fn sync_dir(dir: &Path) -> io::Result<()> {
    tokio::fs::File::open(dir).await?.sync_all().await
}

fn io_error(doing: &str, path: &Path, error: &io::Error) -> EngineError {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return EngineError::DiskFull;
    }
    EngineError::Internal(format!("cannot {doing} ({}): {error}", path.display()))
}
