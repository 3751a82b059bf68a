//! The folder of installed agents: one installer at a time, and an agent is there whole or not at all.
//!
//! `agents/<name>` is complete whenever it exists. Work happens in `agents/.<name>-<random>` beside it;
//! what a killed installer left there is removed by the next one, which holds the lock.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};
use rustix::io::Errno;
use tempfile::TempDir;

use super::catalogue::AGENTS_DIR;

/// Name of the lock file; it stays, because erasing it would let two installers lock two files of one name.
const LOCK_FILE: &str = ".lock";

/// Mode of what is complete: the users that agents may run as read it. Nobody else gets into the data
/// directory.
const PUBLISHED: u32 = 0o755;

/// How often a lock that somebody else holds is tried again.
const LOCK_RETRY_EVERY: Duration = Duration::from_millis(250);

/// The folder, locked for one installer until dropped.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    _lock: File,
}

impl Place {
    /// Makes the folder if need be and waits for the lock. `waiting` is called once if there is
    /// somebody to wait for. Dropping the future gives up.
    ///
    /// # Errors
    /// When the folder cannot be made or written to.
    pub async fn lock(data_dir: &Path, mut waiting: impl FnMut()) -> anyhow::Result<Self> {
        let dir = data_dir.join(AGENTS_DIR);
        DirBuilder::new().recursive(true).mode(PUBLISHED).create(&dir).with_context(|| {
            format!("{} cannot be made; choose another data directory with --data-dir", dir.display())
        })?;
        let path = dir.join(LOCK_FILE);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.with_context(|| {
            format!("{} cannot be written; run this as the user the data directory belongs to", path.display())
        })?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { dir, _lock: file }),
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut told, true) {
                        waiting();
                    }
                    tokio::time::sleep(LOCK_RETRY_EVERY).await;
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("{} cannot be locked", path.display()));
                }
            }
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes what installers left that did not come to their end. Returns how many folders that were.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clean(&self) -> anyhow::Result<usize> {
        let mut removed = 0;
        let entries = std::fs::read_dir(&self.dir).with_context(|| format!("{} cannot be read", self.dir.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("{} cannot be read", self.dir.display()))?;
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") && path.is_dir() {
                std::fs::remove_dir_all(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// A new folder to build an agent in, mode 0700; removed when dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn stage(&self, name: &str) -> anyhow::Result<TempDir> {
        let private = Permissions::from_mode(0o700);
        let staged = tempfile::Builder::new().prefix(&format!(".{name}-")).permissions(private).tempdir_in(&self.dir);
        staged.with_context(|| format!("no folder can be made in {}", self.dir.display()))
    }

    /// Puts what was built under its name, in one step where the file system can, and removes what
    /// was there before.
    ///
    /// # Errors
    /// When it cannot be moved; what was there before still is, except after a power cut between the
    /// two steps of a file system that cannot exchange.
    pub fn publish(&self, staged: TempDir, name: &str) -> anyhow::Result<PathBuf> {
        let target = self.dir.join(name);
        let readable = std::fs::set_permissions(staged.path(), Permissions::from_mode(PUBLISHED));
        readable.with_context(|| format!("the mode of {} cannot be changed", staged.path().display()))?;
        let moved = flush(&self.dir).and_then(|()| match target.try_exists()? {
            true => replace(staged, &target),
            // Where that fails, the next installer removes what stays behind.
            false => std::fs::rename(staged.keep(), &target),
        });
        moved.with_context(|| format!("{} cannot be put in place", target.display()))?;
        Ok(target)
    }
}

/// Writes everything to the disk: after a power cut no half-written program shall lie under a name
/// that stands for a whole one.
fn flush(dir: &Path) -> io::Result<()> {
    Ok(syncfs(File::open(dir)?)?)
}

fn replace(staged: TempDir, target: &Path) -> io::Result<()> {
    match renameat_with(CWD, staged.path(), CWD, target, RenameFlags::EXCHANGE) {
        // What was there before now lies where the new one was built, and goes with that folder.
        Ok(()) => staged.close(),
        // Not every file system can exchange.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let new = staged.keep();
            let old = new.with_extension("old");
            std::fs::rename(target, &old)?;
            if let Err(error) = std::fs::rename(&new, target) {
                std::fs::rename(&old, target)?;
                return Err(error);
            }
            std::fs::remove_dir_all(&old)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn place() -> (TempDir, Place) {
        let data = tempfile::tempdir().unwrap();
        let place = Place::lock(&data.path().join("data"), || panic!("nobody to wait for")).await.unwrap();
        (data, place)
    }

    fn names(place: &Place) -> Vec<String> {
        let entries = std::fs::read_dir(place.dir()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_published_folder_takes_the_place_of_the_one_before() {
        let (_data, place) = place().await;
        for text in ["one", "two"] {
            let staged = place.stage("claude").unwrap();
            assert_eq!(staged.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
            std::fs::write(staged.path().join("version"), text).unwrap();
            let target = place.publish(staged, "claude").unwrap();
            assert_eq!(std::fs::read_to_string(target.join("version")).unwrap(), text);
            assert_eq!(names(&place), [".lock", "claude"]);
        }
    }

    #[tokio::test]
    async fn what_a_killed_installer_left_is_removed_and_agents_are_not() {
        let (_data, place) = place().await;
        std::fs::create_dir_all(place.dir().join(".claude-x1y2/node_modules")).unwrap();
        std::fs::create_dir_all(place.dir().join("codex")).unwrap();
        assert_eq!(place.clean().unwrap(), 1);
        assert_eq!(names(&place), [".lock", "codex"]);
    }

    #[tokio::test]
    async fn a_second_installer_waits_for_the_first() {
        let (data, place) = place().await;
        let data_dir = data.path().join("data");
        let (told, heard) = tokio::sync::oneshot::channel();
        let mut told = Some(told);
        let second = Place::lock(&data_dir, || told.take().unwrap().send(()).unwrap());
        let first = async {
            heard.await.unwrap();
            drop(place);
        };
        let (second, ()) = tokio::join!(second, first);
        assert_eq!(second.unwrap().dir(), data_dir.join("agents"));
    }
}
