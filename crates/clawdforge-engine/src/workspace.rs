//! The directory of a run or of a conversation: what the agent works in, and a private one beside it.
//!
//! `runs/<run>/work` is the agent's working directory with its attachments; `runs/<run>/scratch` holds
//! its temporary files and what is handed to it outside the prompt, `runs/<run>/home` is the agent's home where it has
//! one for the run alone. All go when the run is over. A conversation has the same below `sessions/<session>` until it is erased; the attachments of its turns
//! are in `work/attachments/turn-<n>`. A process that conversations share starts in `hosts/<host>/work`.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clawdforge_agent::Home;
use clawdforge_agent::home::hand_over;
use clawdforge_core::agent::{Failure, FailureKind};
use clawdforge_core::file::{File, safe_extension};
use clawdforge_core::id::{FileId, HostId, RunId, SessionId};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use tokio_util::sync::CancellationToken;

use crate::error::EngineError;
use crate::files::{make_private_dir, open_to_pass};

/// Name of the folder of runs below the data directory.
const RUNS_DIR: &str = "runs";

/// Name of the folder of conversations below the data directory.
const SESSIONS_DIR: &str = "sessions";

/// Name of the folder of processes that conversations share, below the data directory.
const HOSTS_DIR: &str = "hosts";

/// Name of the folder of attachments in the workspace of a conversation.
const ATTACHMENTS_DIR: &str = "attachments";

/// Bytes of an attachment copied between two looks at whether anybody still wants it: a fraction of a
/// second on a slow disk.
const COPY_STEP_BYTES: u64 = 16 * 1024 * 1024;

/// What begins the list of attachments at the end of a prompt. Clients of the first versions rely on
/// the words.
const MANIFEST_HEAD: &str = "Attached files in the current directory:";

/// The folders of runs under way and of conversations.
#[derive(Clone)]
pub(crate) struct Workspaces {
    runs: PathBuf,
    sessions: PathBuf,
    hosts: PathBuf,
}

/// The directories of one run or conversation.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspaces {
    /// Makes the folders, to be passed through by other users where agents have their own.
    pub fn new(data_dir: &Path, with_users: bool) -> Result<Self, EngineError> {
        let made = |name| {
            let dir = data_dir.join(name);
            let failed = |error: io::Error| EngineError::Internal(format!("cannot create {}: {error}", dir.display()));
            make_private_dir(&dir).map_err(failed)?;
            if with_users {
                open_to_pass(&dir).map_err(failed)?;
            }
            // The agent's working directory must not depend on where the service was started.
            dir.canonicalize().map_err(failed)
        };
        Ok(Self { runs: made(RUNS_DIR)?, sessions: made(SESSIONS_DIR)?, hosts: made(HOSTS_DIR)? })
    }

    /// The directories a run has or will have.
    pub fn of(&self, run: RunId) -> Workspace {
        Workspace { root: self.runs.join(run.to_string()) }
    }

    /// The directories a conversation has or will have.
    pub fn of_conversation(&self, session: SessionId) -> Workspace {
        Workspace { root: self.sessions.join(session.to_string()) }
    }

    /// The directories of a process that conversations share.
    pub fn of_host(&self, host: HostId) -> Workspace {
        Workspace { root: self.hosts.join(host.to_string()) }
    }

    /// Removes the directories of all runs and processes; for the start, when there are none. What cannot be removed
    /// is told and left: no run may keep the service from starting. Gives how many were removed.
    pub fn remove_runs(&self) -> io::Result<usize> {
        let mut removed = 0;
        for dir in [&self.runs, &self.hosts] {
            for entry in std::fs::read_dir(dir)? {
                removed += usize::from(remove_stray(&entry?.path()));
            }
        }
        Ok(removed)
    }

    /// The conversations that have a directory, and whatever else lies beside them.
    pub fn conversations_on_disk(&self) -> io::Result<(Vec<SessionId>, Vec<PathBuf>)> {
        let (mut sessions, mut other) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&self.sessions)? {
            let entry = entry?;
            match entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                Some(session) => sessions.push(session),
                None => other.push(entry.path()),
            }
        }
        Ok((sessions, other))
    }
}

impl Workspace {
    /// Where the agent works.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Where everything of it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The private directory beside it.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Its home, where it has one of its own.
    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// Makes the directories and lays the attachments of a run in; their names come back.
    /// Blocking: copies take as long as the disk does, or until they are given up.
    pub fn prepare(
        &self,
        home: Option<&Home>,
        attachments: &[(File, PathBuf)],
        given_up: &CancellationToken,
    ) -> Result<Vec<String>, Failure> {
        self.make(home)?;
        // No agent was ever here.
        self.lay_in(&self.work(), home, attachments, given_up)
    }

    /// Makes the directories and lays the attachments of one turn of a conversation into a folder of this name; their
    /// paths come back. Blocking as [`Self::prepare`].
    pub fn prepare_turn(
        &self,
        name: &str,
        home: Option<&Home>,
        attachments: &[(File, PathBuf)],
        given_up: &CancellationToken,
    ) -> Result<Vec<PathBuf>, Failure> {
        self.make(home)?;
        if attachments.is_empty() {
            return Ok(Vec::new());
        }
        // The agent may be at work in here and put links in the place of what is ours at any moment, so every
        // step is taken from a folder that is held open, and none follows a link.
        let of_turn = (|| {
            let work = Held::open(CWD, &self.work())?;
            let all = work.folder(ATTACHMENTS_DIR, home)?;
            remove_stray(&all.path().join(name));
            all.folder(name, home)
        })();
        let of_turn = of_turn.map_err(|error| self.broken(&error))?;
        let names = self.lay_in(&of_turn.path(), home, attachments, given_up)?;
        let shown = self.work().join(ATTACHMENTS_DIR).join(name);
        Ok(names.into_iter().map(|name| shown.join(name)).collect())
    }

    /// Makes the service's own folder around them, through which nobody else passes until [`Self::make`]. Blocking.
    pub fn begin_closed(&self) -> io::Result<()> {
        make_private_dir(&self.root)
    }

    /// Makes the directories, the user's own where there is one. Blocking.
    pub fn make(&self, home: Option<&Home>) -> Result<(), Failure> {
        let made = || {
            // The service's own, so that nobody puts something else into the place of what is below.
            make_private_dir(&self.root)?;
            if home.is_some_and(|home| home.owner.is_some()) {
                open_to_pass(&self.root)?;
            }
            for dir in [self.work(), self.scratch()] {
                make_private_dir(&dir)?;
                hand_over(home, &dir)?;
            }
            Ok(())
        };
        made().map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &io::Error) -> Failure {
        tracing::error!(path = %self.root.display(), %error, "the directory of a turn could not be made");
        Failure::new(FailureKind::Internal, "the service could not make a directory for the turn")
    }

    fn lay_in(
        &self,
        dir: &Path,
        home: Option<&Home>,
        attachments: &[(File, PathBuf)],
        given_up: &CancellationToken,
    ) -> Result<Vec<String>, Failure> {
        let mut names = Vec::with_capacity(attachments.len());
        for (place, (file, bytes)) in attachments.iter().enumerate() {
            let name = format!("attachment-{}{}", place + 1, safe_extension(&file.name));
            attach(bytes, &dir.join(&name), home, given_up).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => expired(file.id),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    tracing::error!(path = %self.root.display(), %error, "an attachment found no room");
                    let message = format!("the service's disk is full; file {} could not be attached", file.id);
                    Failure::new(FailureKind::Internal, message)
                }
                io::ErrorKind::Interrupted => {
                    Failure::new(FailureKind::Interrupted, "the turn was given up while its files were attached")
                }
                _ => self.broken(&error),
            })?;
            names.push(name);
        }
        Ok(names)
    }

    /// Removes the directories; true when there were any. Blocking.
    pub fn remove(&self) -> bool {
        remove_stray(&self.root)
    }
}

/// A folder that is held open: it stays the same one, whatever is put in its place.
struct Held(OwnedFd);

impl Held {
    /// Opens a folder; a link is none.
    fn open(at: impl AsFd, path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self(openat(at, path, flags, Mode::empty())?))
    }

    /// Opens a folder in it, which is made where it is missing or something else is there.
    fn folder(&self, name: &str, home: Option<&Home>) -> io::Result<Self> {
        let there = Path::new(name);
        match Self::open(&self.0, there) {
            Ok(folder) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_no_folder) => drop(remove_stray(&self.path().join(name))),
        }
        mkdirat(&self.0, there, Mode::RWXU)?;
        let folder = Self::open(&self.0, there)?;
        if let Some(owner) = home.and_then(|home| home.owner) {
            std::os::unix::fs::fchown(&folder.0, Some(owner.number()), Some(owner.number()))?;
        }
        Ok(folder)
    }

    /// A path to it that leads nowhere else, for this process while it is held.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// The failure of a turn whose attachment is gone.
pub(crate) fn expired(file: FileId) -> Failure {
    Failure::new(FailureKind::AttachmentGone, format!("file {file} expired before the work began"))
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
fn attach(from: &Path, to: &Path, home: Option<&Home>, given_up: &CancellationToken) -> io::Result<()> {
    let mut from = std::fs::File::open(from)?;
    let mut to = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    if let Some(owner) = home.and_then(|home| home.owner) {
        // The file that was made, whatever lies at its place by now.
        std::os::unix::fs::fchown(&to, Some(owner.number()), Some(owner.number()))?;
    }
    while io::copy(&mut (&mut from).take(COPY_STEP_BYTES), &mut to)? > 0 {
        if given_up.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    Ok(())
}

/// The prompt with the list of its attachments.
pub(crate) fn with_manifest(prompt: String, names: &[String]) -> String {
    if names.is_empty() {
        return prompt;
    }
    let list: String = names.iter().map(|name| format!("\n- {name}")).collect();
    format!("{prompt}\n\n{MANIFEST_HEAD}{list}\n")
}

#[cfg(test)]
mod tests {
    use clawdforge_core::id::AppId;
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
        let workspaces = Workspaces::new(dir.path(), false).unwrap();
        let workspace = workspaces.of(RunId::new(Timestamp::from_micros(0), [0; 10]));
        let attachments = [(file("../../evil.PNG"), bytes.clone()), (file("no extension"), bytes)];
        let names = workspace.prepare(None, &attachments, &CancellationToken::new()).unwrap();
        let prompt = with_manifest("look".to_owned(), &names);
        assert_eq!(prompt, "look\n\nAttached files in the current directory:\n- attachment-1.png\n- attachment-2\n");
        assert_eq!(std::fs::read_to_string(workspace.work().join("attachment-1.png")).unwrap(), "hi");
        workspace.remove();
        assert_eq!(workspaces.remove_runs().unwrap(), 0);
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
        let workspace = Workspaces::new(dir.path(), false).unwrap().of(RunId::new(Timestamp::from_micros(0), [0; 10]));
        workspace.prepare(None, &[(file("a.txt"), bytes.clone())], &CancellationToken::new()).unwrap();
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
        let workspace = Workspaces::new(dir.path(), false).unwrap().of(RunId::new(Timestamp::from_micros(0), [0; 10]));
        let given_up = CancellationToken::new();
        given_up.cancel();
        let failure = workspace.prepare(None, &[(file("a"), bytes)], &given_up).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Interrupted);
    }

    #[test]
    fn an_attachment_that_is_gone_fails_the_run_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspaces::new(dir.path(), false).unwrap().of(RunId::new(Timestamp::from_micros(0), [0; 10]));
        let failure = workspace
            .prepare(None, &[(file("a.txt"), dir.path().join("gone"))], &CancellationToken::new())
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::AttachmentGone);
        assert!(failure.message.contains("ff_"), "{}", failure.message);
    }

    #[test]
    fn a_turn_s_attachments_are_laid_where_only_they_are_whatever_the_agent_put_there() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = dir.path().join("bytes");
        std::fs::write(&bytes, "as sent").unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let session = SessionId::new(Timestamp::from_micros(0), [0; 10]);
        let workspace = Workspaces::new(dir.path(), false).unwrap().of_conversation(session);
        make_private_dir(&workspace.work()).unwrap();
        std::os::unix::fs::symlink(&outside, workspace.work().join(ATTACHMENTS_DIR)).unwrap();
        for _ in 0..2 {
            let attachments = [(file("a.txt"), bytes.clone())];
            let laid = workspace.prepare_turn("turn-3", None, &attachments, &CancellationToken::new()).unwrap();
            assert_eq!(laid, [workspace.work().join("attachments/turn-3/attachment-1.txt")]);
            assert_eq!(std::fs::read_to_string(&laid[0]).unwrap(), "as sent");
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }
}
