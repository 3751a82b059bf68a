//! Writing files that only the service's own user may read, and reading small ones.

use std::io;
use std::path::Path;

use tokio::fs::OpenOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

/// The text of a file of at most so many bytes; `None` where it is larger, no text, or not to be read.
pub(crate) async fn small_text(path: &Path, bytes_max: u64) -> Option<String> {
    let mut bytes = Vec::new();
    let file = OpenOptions::new().read(true).open(path).await.ok()?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).await.ok()?;
    let text = String::from_utf8(bytes).ok()?;
    (text.len() as u64 <= bytes_max && !text.contains('\0')).then_some(text)
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
}
