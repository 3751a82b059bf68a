//! What the service refuses to start with: each a sentence, what helps, and the word that allows it.
//!
//! All that is wrong is told together, before anything is made or opened. What is wanted of the isolation of agents is
//! judged in `crate::isolation`, the data directory itself where it is made.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clawdforge_core::app::{ADMIN_TOKEN_PREFIX, is_generated};
use clawdforge_core::secret::ExposeSecret;
use rustix::process::geteuid;

use super::{DATABASE, admin_token, demo, guessing};
use crate::config::{Config, Risk};

/// Where container engines mount secrets; they choose the mode, and nobody else is in there.
pub const MOUNTED_SECRETS: &str = "/run/secrets";

/// Why the service does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of what kind it is.
    pub risk: Risk,
    /// What is wrong.
    pub what: String,
    /// What helps: an imperative.
    pub todo: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Risk::ALL.iter().find(|(_, risk)| *risk == self.risk).map_or("", |(word, _)| word);
        write!(f, "{}; {}, or allow it with --start-despite {word}", self.what, self.todo)
    }
}

/// Fails with everything that is wrong and not allowed.
pub fn none(config: &Config) -> anyhow::Result<()> {
    let found = all(config)?;
    let told: Vec<String> = found.iter().map(Refusal::to_string).collect();
    anyhow::ensure!(told.is_empty(), "{}", told.join("\n"));
    Ok(())
}

/// Everything that is wrong and not allowed.
///
/// # Errors
/// When a file cannot be looked at.
pub fn all(config: &Config) -> anyhow::Result<Vec<Refusal>> {
    let mut found: Vec<Refusal> = of_admin_token(config)?.into_iter().collect();
    found.extend(of_files(config)?);
    found.retain(|refusal| !config.start_despite.contains(&refusal.risk));
    Ok(found)
}

/// An admin token with which others should not be able to reach the service.
///
/// # Errors
/// When the one in the data directory cannot be read.
pub fn of_admin_token(config: &Config) -> anyhow::Result<Option<Refusal>> {
    if config.listen.ip().to_canonical().is_loopback() {
        return Ok(None);
    }
    let stored = admin_token::read(&config.data_dir)?;
    let given = config.admin_token.as_ref();
    Ok(judge(config.listen, given.or(stored.as_ref()).map(|token| token.expose_secret()), &config.data_dir))
}

fn judge(listen: SocketAddr, token: Option<&str>, data_dir: &Path) -> Option<Refusal> {
    let todo = format!(
        "keep it on 127.0.0.1, or have a new one made by `clawdforge admin-token rotate --data-dir {}`",
        data_dir.display()
    );
    // Where there is none yet, this start would make it.
    if token.is_none_or(|token| is_generated(ADMIN_TOKEN_PREFIX, token)) {
        let what = format!(
            "the service would listen on {listen}, beyond this machine, with an admin token that nobody asked for or \
             has replaced since"
        );
        return Some(Refusal { risk: Risk::GeneratedAdminToken, what, todo });
    }
    token.filter(|token| guessing::is_easy(token)).map(|_| Refusal {
        risk: Risk::WeakAdminToken,
        what: format!(
            "the service would listen on {listen}, beyond this machine, with an admin token that is a placeholder or \
             easy to guess"
        ),
        todo: "take one of `openssl rand -hex 32`".to_owned(),
    })
}

/// Files with secrets that others may read. The data directory itself is looked at where it is made.
fn of_files(config: &Config) -> anyhow::Result<Option<Refusal>> {
    let mut exposed = Vec::new();
    for path in own_files(&config.data_dir).into_iter().chain(config.admin_token_file.clone()) {
        if let Some(mode) = exposed_mode(&path)? {
            exposed.push((path, mode));
        }
    }
    if exposed.is_empty() {
        return Ok(None);
    }
    let named = |(path, mode): &(PathBuf, u32)| format!("{} (mode {mode:o})", path.display());
    let paths: Vec<String> = exposed.iter().map(|(path, _)| path.display().to_string()).collect();
    Ok(Some(Refusal {
        risk: Risk::ReadableData,
        what: format!("others may read {}", exposed.iter().map(named).collect::<Vec<_>>().join(", ")),
        todo: format!("run: chmod 600 {}", paths.join(" ")),
    }))
}

/// The files of the data directory that hold secrets.
pub fn own_files(data_dir: &Path) -> [PathBuf; 4] {
    let log = format!("{DATABASE}-wal");
    [DATABASE, &log, admin_token::FILE, demo::FILE].map(|name| data_dir.join(name))
}

/// The mode of a file with secrets that others may read.
///
/// What another user (root, most often) hands to the service may be readable for a group: that, or an access list that
/// looks like it, is how it was handed over.
///
/// # Errors
/// When it is there and cannot be looked at.
pub fn exposed_mode(path: &Path) -> anyhow::Result<Option<u32>> {
    if path.starts_with(MOUNTED_SECRETS) {
        return Ok(None);
    }
    let found = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        found => found.with_context(|| format!("{} cannot be looked at", path.display()))?,
    };
    let own = found.uid() == geteuid().as_raw();
    let others = if own { 0o077 } else { 0o007 };
    Ok(Some(found.mode() & 0o777).filter(|mode| mode & others != 0))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use clawdforge_core::app::{ROTATED_ADMIN_TOKEN_PREFIX, token_text};

    use super::*;

    const OUTSIDE: &str = "0.0.0.0:8800";

    fn told(token: Option<&str>) -> Option<Refusal> {
        judge(OUTSIDE.parse().unwrap(), token, Path::new("/srv/data"))
    }

    #[test]
    fn a_token_that_a_first_start_made_or_would_make_is_refused_until_it_was_rotated() {
        let made = token_text(ADMIN_TOKEN_PREFIX, &[5; 32]);
        for token in [None, Some(made.expose_secret())] {
            let refusal = told(token).unwrap();
            assert_eq!(refusal.risk, Risk::GeneratedAdminToken);
            let sentence = refusal.to_string();
            for part in [OUTSIDE, "admin-token rotate --data-dir /srv/data", "--start-despite generated-admin-token"] {
                assert!(sentence.contains(part), "{sentence}");
            }
        }
        assert_eq!(told(Some(token_text(ROTATED_ADMIN_TOKEN_PREFIX, &[5; 32]).expose_secret())), None);
    }

    #[test]
    fn a_token_that_is_easy_to_guess_is_refused_and_never_repeated() {
        for token in ["changemechangeme", "cfadmin_changeme_changeme"] {
            let refusal = told(Some(token)).unwrap();
            assert_eq!(refusal.risk, Risk::WeakAdminToken);
            assert!(refusal.to_string().contains("--start-despite weak-admin-token"));
            assert!(!refusal.to_string().contains("changeme"));
        }
        assert_eq!(told(Some("9f86d081884c7d659a2feaa0c55ad015")), None);
    }

    #[test]
    fn a_file_is_exposed_when_its_group_or_everybody_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert_eq!(exposed_mode(&path).unwrap(), None, "not there");
        std::fs::write(&path, "x").unwrap();
        for (mode, exposed) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o620, true)] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(exposed_mode(&path).unwrap(), exposed.then_some(mode), "{mode:o}");
        }
    }
}
