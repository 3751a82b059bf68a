//! The directory of a run: what the agent works in, and a private one beside it.
//!
//! `runs/<run>/work` is the agent's working directory with its attachments; `runs/<run>/scratch` holds
//! its temporary files and what is handed to it outside the prompt. Both go when the run is over.

use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clawdforge_core::agent::{Failure, FailureKind};
use clawdforge_core::file::{File, safe_extension};
use clawdforge_core::id::RunId;
use tokio_util::sync::CancellationToken;

use crate::error::EngineError;
use crate::files::make_private_dir;

/// Name of the folder of runs below the data directory.
const RUNS_DIR: &str = "runs";

/// Bytes of an attachment copied between two looks at whether anybody still wants it: a fraction of a
/// second on a slow disk.
const COPY_STEP_BYTES: u64 = 16 * 1024 * 1024;

/// What begins the list of attachments at the end of a prompt. Clients of the first versions rely on
/// the words.
const MANIFEST_HEAD: &str = "Attached files in the current directory:";

/// The folder of runs under way.
#[derive(Clone)]
pub(crate) struct Workspaces {
    dir: PathBuf,
}

/// The directories of one run.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspaces {
    pub fn new(data_dir: &Path) -> Result<Self, EngineError> {
        let dir = data_dir.join(RUNS_DIR);
        make_private_dir(&dir)
            .map_err(|error| EngineError::Internal(format!("cannot create {}: {error}", dir.display())))?;
        // The agent's working directory must not depend on where the service was started.
        let dir = dir.canonicalize().map_err(|error| EngineError::Internal(format!("{}: {error}", dir.display())))?;
        Ok(Self { dir })
    }

    /// The directories a run has or will have.
    pub fn of(&self, run: RunId) -> Workspace {
        Workspace { root: self.dir.join(run.to_string()) }
    }

    /// Removes the directories of all runs; for the start, when none is under way. What cannot be removed
    /// is told and left: no run may keep the service from starting. Gives how many were removed.
    pub fn remove_all(&self) -> io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.dir)? {
            removed += usize::from(remove_stray(&entry?.path()));
        }
        Ok(removed)
    }
}

impl Workspace {
    /// Where the agent works.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// The private directory beside it.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Makes the directories, lays the attachments in, and gives the prompt with their list.
    /// Blocking: copies take as long as the disk does, or until they are given up.
    pub fn prepare(
        &self,
        attachments: &[(File, PathBuf)],
        prompt: String,
        given_up: &CancellationToken,
    ) -> Result<String, Failure> {
        let broken = |error: &io::Error| {
            tracing::error!(path = %self.root.display(), %error, "the directory of a run could not be made");
            Failure::new(FailureKind::Internal, "the service could not make a directory for the run")
        };
        make_private_dir(&self.work()).map_err(|error| broken(&error))?;
        make_private_dir(&self.scratch()).map_err(|error| broken(&error))?;
        let mut names = Vec::with_capacity(attachments.len());
        for (place, (file, bytes)) in attachments.iter().enumerate() {
            let name = format!("attachment-{}{}", place + 1, safe_extension(&file.name));
            attach(bytes, &self.work().join(&name), given_up).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    Failure::new(FailureKind::AttachmentGone, format!("file {} expired before the run began", file.id))
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    tracing::error!(path = %self.root.display(), %error, "an attachment found no room");
                    let message = format!("the service's disk is full; file {} could not be attached", file.id);
                    Failure::new(FailureKind::Internal, message)
                }
                io::ErrorKind::Interrupted => {
                    Failure::new(FailureKind::Interrupted, "the run was given up while its files were attached")
                }
                _ => broken(&error),
            })?;
            names.push(name);
        }
        Ok(with_manifest(prompt, &names))
    }

    /// Removes the directories. Blocking.
    pub fn remove(&self) {
        remove_stray(&self.root);
    }
}

/// Removes whatever is at a path, and says so in the log where it cannot. True when something was
/// removed. Blocking.
pub(crate) fn remove_stray(path: &Path) -> bool {
    match remove_any(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "something a run left behind could not be removed");
            false
        }
    }
}

/// Removes a file, a link or a whole directory. An agent may leave directories nobody may write (a Go
/// module cache is full of them): they are opened up and tried once more.
fn remove_any(path: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(path)?.is_dir() {
        return std::fs::remove_file(path);
    }
    std::fs::remove_dir_all(path).or_else(|_refused| {
        open_up(path)?;
        std::fs::remove_dir_all(path)
    })
}

/// Lets the owner into every directory below a path, links not followed. Level by level, because the
/// depth is the agent's choice.
fn open_up(path: &Path) -> io::Result<()> {
    let mut dirs = vec![path.to_owned()];
    while let Some(dir) = dirs.pop() {
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Copies an upload into place, as the agent's own to change. Never a link: what an agent writes must not
/// reach the upload, which other runs attach as well. On file systems that share blocks (Btrfs, XFS) the
/// kernel copies nothing.
fn attach(from: &Path, to: &Path, given_up: &CancellationToken) -> io::Result<()> {
    let mut from = std::fs::File::open(from)?;
    let mut to = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    while io::copy(&mut (&mut from).take(COPY_STEP_BYTES), &mut to)? > 0 {
        if given_up.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    Ok(())
}

fn with_manifest(prompt: String, names: &[String]) -> String {
    if names.is_empty() {
        return prompt;
    }
    let list: String = names.iter().map(|name| format!("\n- {name}")).collect();
    format!("{prompt}\n\n{MANIFEST_HEAD}{list}\n")
}

#[cfg(test)]
mod tests {
    use clawdforge_core::id::{AppId, FileId};
    use clawdforge_core::time::Timestamp;

    use super::*;

    fn file(name: &str) -> File {
        let zero = Timestamp::from_micros(0);
        File {
            id: FileId::new(zero, [1; 10]),
            app: AppId::new(zero, [2; 10]),
            name: name.to_owned(),
            size: 2,
            created_at: zero,
            expires_at: zero,
        }
    }

    #[test]
    fn attachments_are_numbered_keep_their_kind_and_are_listed_after_the_prompt() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = dir.path().join("bytes");
        std::fs::write(&bytes, "hi").unwrap();
        let workspaces = Workspaces::new(dir.path()).unwrap();
        let workspace = workspaces.of(RunId::new(Timestamp::from_micros(0), [0; 10]));
        let attachments = [(file("../../evil.PNG"), bytes.clone()), (file("no extension"), bytes)];
        let prompt = workspace.prepare(&attachments, "look".to_owned(), &CancellationToken::new()).unwrap();
        assert_eq!(prompt, "look\n\nAttached files in the current directory:\n- attachment-1.png\n- attachment-2\n");
        assert_eq!(std::fs::read_to_string(workspace.work().join("attachment-1.png")).unwrap(), "hi");
        workspace.remove();
        assert_eq!(workspaces.remove_all().unwrap(), 0);
    }

    #[test]
    fn directories_nobody_may_write_are_removed_all_the_same_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "kept").unwrap();
        std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o555)).unwrap();
        let left = dir.path().join("left");
        std::fs::create_dir_all(left.join("deep/deeper")).unwrap();
        std::fs::write(left.join("deep/deeper/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, left.join("deep/link")).unwrap();
        for closed in ["deep/deeper", "deep", ""] {
            std::fs::set_permissions(left.join(closed), std::fs::Permissions::from_mode(0o555)).unwrap();
        }
        // Root may write anywhere, so what the others need is looked at on its own as well.
        open_up(&left).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&left.join("deep/deeper")), mode(&outside)), (0o700, 0o555));
        std::fs::set_permissions(left.join("deep"), std::fs::Permissions::from_mode(0o555)).unwrap();
        assert!(remove_stray(&left) && !left.exists());
        assert!(outside.join("kept").exists());
        assert!(!remove_stray(&left), "what is gone needs no removing");
    }

    #[test]
    fn what_an_agent_does_to_an_attachment_does_not_reach_the_upload() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = dir.path().join("bytes");
        std::fs::write(&bytes, "as sent").unwrap();
        std::fs::set_permissions(&bytes, std::fs::Permissions::from_mode(0o400)).unwrap();
        let workspace = Workspaces::new(dir.path()).unwrap().of(RunId::new(Timestamp::from_micros(0), [0; 10]));
        workspace.prepare(&[(file("a.txt"), bytes.clone())], String::new(), &CancellationToken::new()).unwrap();
        let attached = workspace.work().join("attachment-1.txt");
        assert_eq!(std::fs::metadata(&attached).unwrap().permissions().mode() & 0o777, 0o600, "its own to change");
        std::fs::write(&attached, "changed").unwrap();
        assert_eq!(std::fs::read_to_string(&bytes).unwrap(), "as sent");
    }

    #[test]
    fn copying_attachments_ends_when_the_run_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = dir.path().join("bytes");
        std::fs::write(&bytes, "hi").unwrap();
        let workspace = Workspaces::new(dir.path()).unwrap().of(RunId::new(Timestamp::from_micros(0), [0; 10]));
        let given_up = CancellationToken::new();
        given_up.cancel();
        let failure = workspace.prepare(&[(file("a"), bytes)], String::new(), &given_up).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Interrupted);
    }

    #[test]
    fn an_attachment_that_is_gone_fails_the_run_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspaces::new(dir.path()).unwrap().of(RunId::new(Timestamp::from_micros(0), [0; 10]));
        let failure = workspace
            .prepare(&[(file("a.txt"), dir.path().join("gone"))], String::new(), &CancellationToken::new())
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::AttachmentGone);
        assert!(failure.message.contains("ff_"), "{}", failure.message);
    }
}
