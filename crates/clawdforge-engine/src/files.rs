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
use clawdforge_core::idempotency::{ContentHash, Fingerprint, IdempotencyKey};
use clawdforge_core::ledger::{LedgerEntry, LedgerFact};
use clawdforge_core::limits::FILE_NAME_CHARS_MAX;
use clawdforge_store::CommitError;
use tokio::io::AsyncWriteExt;

use crate::engine::Shared;
use crate::error::EngineError;
use crate::ids::Ids;
use crate::keys::{self, Submitted};

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
    content: ContentHash,
    bytes_max: u64,
}

/// How an upload is to be finished.
#[derive(Debug, Clone, Default)]
pub struct UploadWish {
    /// The sender's name for the file.
    pub name: String,
    /// How long it is wished to live, in seconds.
    pub ttl_secs: Option<i64>,
    /// The sender's word for the request, by which it may be sent again.
    pub key: Option<String>,
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
        self.content.take_in(chunk);
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

    /// Begins an upload of about so many bytes, unless there is plainly no room for them. One that is too large whatever the
    /// room is refused as that, when it turns out to be.
    pub async fn begin(&self, ids: &Ids, announced: Option<u64>) -> Result<Upload, EngineError> {
        if let Some(announced) = announced.filter(|announced| *announced <= self.bytes_max) {
            let dir = self.dir.clone();
            let free = tokio::task::spawn_blocking(move || free_bytes(&dir)).await;
            let free = free.map_err(|error| EngineError::Internal(format!("the disk could not be asked: {error}")))?;
            if free.is_some_and(|free| free < announced) {
                return Err(EngineError::DiskFull);
            }
        }
        let id = ids.make(FileId::new);
        let path = self.dir.join(format!("{id}{PART_SUFFIX}"));
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(UPLOAD_MODE).open(&path).await;
        let file = file.map_err(|error| io_error("create", &path, &error))?;
        Ok(Upload {
            id,
            file,
            part: PartFile { path, kept: false },
            size: 0,
            content: ContentHash::default(),
            bytes_max: self.bytes_max,
        })
    }

    /// Makes the bytes of an upload whole and durable under their name. They go again unless they are kept.
    async fn settle(&self, file: &mut tokio::fs::File, part: &mut PartFile, id: FileId) -> Result<(), EngineError> {
        let fail = |error: io::Error| io_error("finish an upload", &self.dir, &error);
        file.flush().await.map_err(fail)?;
        file.sync_all().await.map_err(fail)?;
        let whole = self.path(id);
        tokio::fs::rename(&part.path, &whole).await.map_err(fail)?;
        part.path = whole;
        sync_dir(&self.dir).await.map_err(fail)
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

impl Shared {
    /// Finishes an upload, or finds the one that the same request made before. The bytes of what is not kept go.
    pub(crate) async fn finish_upload(
        &self,
        upload: Upload,
        by: &AppToken,
        wish: UploadWish,
        request: RequestId,
    ) -> Result<Submitted<(File, Duration), File>, EngineError> {
        let Upload { id, mut file, mut part, size, content, .. } = upload;
        let key = wish.key.map(|key| IdempotencyKey { key, fingerprint: Fingerprint::of_upload(&wish.name, content) });
        let _alone = self.enter(by, key.as_ref()).await;
        if let Some(known) = self.known_upload(by, key.as_ref()).await? {
            return Ok(Submitted::Known(known));
        }
        self.files.settle(&mut file, &mut part, id).await?;
        let ttl = clamp_ttl(wish.ttl_secs);
        let now = self.ids.now();
        let file = File {
            id,
            app: by.app.id,
            name: shown_name(&wish.name, FILE_NAME_CHARS_MAX),
            size,
            created_at: now,
            expires_at: now.plus(ttl),
        };
        let commit = Commit {
            expects: key.as_ref().map(|key| keys::unused(by.app.id, key)).into_iter().collect(),
            writes: [Write::AddFile(file.clone())]
                .into_iter()
                .chain(key.clone().map(|key| self.keep(by.app.id, key, id.to_string())))
                .collect(),
            ledger: vec![LedgerEntry {
                at: now,
                principal: "app",
                app: Some(by.app.name.to_string()),
                request: Some(request),
                fact: LedgerFact::FileUploaded { file: id, size },
            }],
        };
        match self.recorder.plain(commit).await {
            Ok(()) => {}
            // The key was used for something else at the same time.
            Err(error @ CommitError::Unexpected { .. }) => {
                let known = self.known_upload(by, key.as_ref()).await?;
                return known.map(Submitted::Known).ok_or_else(|| error.into());
            }
            // A doubtful commit: the row is there, or it is not. Bytes that a row may name stay; without one they are
            // strays, which the next start removes.
            Err(error @ CommitError::Unknown(_)) => {
                let found = self.store.files.file(id).await;
                part.kept = !matches!(found, Ok(None));
                if !matches!(found, Ok(Some(_))) {
                    return Err(error.into());
                }
            }
            Err(error @ CommitError::Unavailable(_)) => return Err(error.into()),
        }
        part.kept = true;
        Ok(Submitted::New((file, ttl)))
    }

    /// What an upload made before; not found where its time is over and the key is still remembered.
    async fn known_upload(&self, by: &AppToken, key: Option<&IdempotencyKey>) -> Result<Option<File>, EngineError> {
        match self.known::<FileId>(by, key).await? {
            Some(id) => Ok(self.attachments(by, &[id]).await?.pop()),
            None => Ok(None),
        }
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

/// What the disk of a directory has left for us, for root with what is kept for root; none where it does not tell, as some
/// network file systems do not.
fn free_bytes(dir: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(dir).ok().filter(|found| found.f_blocks > 0)?;
    let blocks = if rustix::process::geteuid().is_root() { found.f_bfree } else { found.f_bavail };
    Some(blocks.saturating_mul(found.f_frsize))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_without_room_is_told_as_such_and_an_upload_that_does_not_fit_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("begun");
        std::fs::write(&path, "begun").unwrap();
        let mut upload = Upload {
            id: FileId::from_u128(1),
            // It takes nothing, as a disk does that is full.
            file: tokio::fs::OpenOptions::new().write(true).open("/dev/full").await.unwrap(),
            part: PartFile { path: path.clone(), kept: false },
            size: 0,
            content: ContentHash::default(),
            bytes_max: u64::MAX,
        };
        // The first piece is still on its way when it is taken.
        let first = upload.write(b"first").await;
        assert_eq!(first.and(upload.write(b"second").await), Err(EngineError::DiskFull));
        drop(upload);
        assert!(!path.exists());
    }
}
