//! The admin token: given by the operator, or made once and kept in a file only the service's user
//! may read. It is never printed.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clawdforge_core::app::{ADMIN_TOKEN_PREFIX, ROTATED_ADMIN_TOKEN_PREFIX, is_generated};
use clawdforge_core::secret::{ExposeSecret, SecretString};
use clawdforge_engine::Ids;

use crate::config::Config;

/// Name of the file in the data directory.
pub const FILE: &str = "admin-token";

/// The admin token and where the operator finds it.
pub struct AdminToken {
    pub secret: SecretString,
    pub place: Place,
}

/// Where the operator finds the admin token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this file, which was there.
    File(PathBuf),
    /// In this file, made just now.
    NewFile(PathBuf),
    /// In the configuration: the operator knows where.
    Given,
}

/// The configured token, else the one in the data directory, else a new one there.
pub fn find_or_make(config: &Config, ids: &Ids) -> anyhow::Result<AdminToken> {
    if let Some(secret) = &config.admin_token {
        let place = config.admin_token_file.clone().map_or(Place::Given, Place::File);
        return Ok(AdminToken { secret: secret.clone(), place });
    }
    let path = config.data_dir.join(FILE);
    if let Some(secret) = read(&config.data_dir)? {
        return Ok(AdminToken { secret, place: Place::File(path) });
    }
    let secret = ids.token(ADMIN_TOKEN_PREFIX);
    write_private(&path, &secret)?;
    Ok(AdminToken { secret, place: Place::NewFile(path) })
}

/// The one in the data directory, if there is any.
pub fn read(data_dir: &Path) -> anyhow::Result<Option<SecretString>> {
    let path = data_dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => {
            bail!("{} is empty; remove it, and the next start makes a new admin token", path.display())
        }
        Ok(text) => Ok(Some(text.trim().to_owned().into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("the admin token in {} cannot be read", path.display())),
    }
}

impl AdminToken {
    /// Whether somebody might guess it: it was not generated.
    pub fn is_guessable(&self) -> bool {
        let text = self.secret.expose_secret();
        ![ADMIN_TOKEN_PREFIX, ROTATED_ADMIN_TOKEN_PREFIX].iter().any(|prefix| is_generated(prefix, text))
    }
}

/// Writes a secret to a new file of mode 0600, on disk before it is used.
pub fn write_private(path: &Path, secret: &SecretString) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(secret.expose_secret().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
