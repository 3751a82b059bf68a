//! Writing files that only the service's own user may read, and reading small ones.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

/// Writes a file of mode 0600, in place of what was there.
pub(crate) async fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).await?;
    file.write_all(bytes).await?;
    file.flush().await
}

/// Writes a file of mode 0600 where an agent may have been before: whatever is there is removed, a link is not
/// followed.
pub(crate) async fn write_anew(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match tokio::fs::symlink_metadata(path).await {
        Ok(found) if found.is_dir() => tokio::fs::remove_dir_all(path).await?,
        Ok(_) => tokio::fs::remove_file(path).await?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await?;
    file.write_all(bytes).await?;
    file.flush().await
}

/// The text of a file of at most so many bytes; `None` where it is larger, no text, or not to be read. An agent may
/// have been there: no link is followed, on the whole way, and nothing is waited for.
pub(crate) async fn small_text(path: &Path, bytes_max: u64) -> Option<String> {
    let path = path.to_owned();
    let read = move || {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat2(CWD, &path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).ok()?;
        if FileType::from_raw_mode(fstat(&file).ok()?.st_mode) != FileType::RegularFile {
            return None;
        }
        let mut bytes = Vec::new();
        File::from(file).take(bytes_max + 1).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        (text.len() as u64 <= bytes_max && !text.contains('\0')).then_some(text)
    };
    tokio::task::spawn_blocking(read).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_an_agent_put_in_a_files_place_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (outside, path) = (folder.path().join("outside"), folder.path().join("file"));
        std::fs::write(&outside, "precious").unwrap();
        std::os::unix::fs::symlink(&outside, &path).unwrap();
        write_anew(&path, b"ours").await.unwrap();
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir_all(path.join("deep")).unwrap();
        for _ in 0..2 {
            write_anew(&path, b"ours").await.unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "ours");
        }
    }

    #[tokio::test]
    async fn what_an_agent_put_in_a_files_place_is_not_read_through() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        let text = |path: &str| {
            let path = real.join(path);
            async move { small_text(&path, 8).await }
        };
        std::fs::create_dir(real.join("dir")).unwrap();
        std::fs::write(real.join("dir/file"), "precious").unwrap();
        assert_eq!(text("dir/file").await.as_deref(), Some("precious"));
        std::fs::write(real.join("dir/larger"), "precious!").unwrap();
        std::os::unix::fs::symlink(real.join("dir/file"), real.join("link")).unwrap();
        std::os::unix::fs::symlink(real.join("dir"), real.join("way")).unwrap();
        rustix::fs::mknodat(CWD, real.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        for path in ["link", "way/file", "pipe", "dir/larger", "dir", "none"] {
            assert_eq!(text(path).await, None, "{path}");
        }
    }
}
