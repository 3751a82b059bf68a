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

/// The text of a file of at most so many bytes; `None` where it is larger, no text, or not to be read.
pub(crate) async fn small_text(path: &Path, bytes_max: u64) -> Option<String> {
    let mut bytes = Vec::new();
    let file = OpenOptions::new().read(true).open(path).await.ok()?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).await.ok()?;
    let text = String::from_utf8(bytes).ok()?;
    (text.len() as u64 <= bytes_max && !text.contains('\0')).then_some(text)
}
