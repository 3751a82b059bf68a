//! Where the repository is on this machine.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The root of the repository this program was built from.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where builds of development put their programs: beside this one, wherever cargo was told to.
///
/// # Errors
/// When the system does not say where this program is.
pub fn built(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("where this program is")?;
    Ok(this.parent().unwrap_or(&root().join("target/debug")).join(name))
}
