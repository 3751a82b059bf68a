//! The data directory, which only the service's user may enter.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, bail};

/// Makes the directory if it is missing, and refuses one that others may enter.
pub fn prepare(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("the data directory {shown} cannot be made; choose another with --data-dir"))?;
    let found = std::fs::metadata(path).with_context(|| format!("the data directory {shown} cannot be read"))?;
    if found.mode() & 0o077 != 0 {
        bail!(
            "the data directory {shown} holds secrets, but others may enter it (mode {:o}); run: chmod 700 {shown}",
            found.mode() & 0o777
        );
    }
    Ok(())
}
