//! What acpx keeps of conversations on disk, in the agent's home.
//!
//! There is no verb that deletes one conversation: `prune` works on all closed ones of an agent. Of each there
//! is a record, which names the working directory in its first lines, and a stream of what was said beside it.
//!
//! The home is the agent's, which may put links and pipes there at any moment, while the service may do more than
//! the agent. So every step is taken from a folder that is held open, and none follows a link or waits.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, unlinkat};
use rustix::io::Errno;

use crate::Forgotten;

/// Where below the home the records are.
const FOLDERS: [&str; 2] = [".acpx", "sessions"];

/// Bytes of a record that are looked at: what comes before the conversation itself.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// Removes the records and streams of these conversations; how many files there were.
pub(super) fn remove(home: &Path, forgotten: &[Forgotten]) -> io::Result<usize> {
    let workspaces: HashSet<&Path> = forgotten.iter().map(|forgotten| forgotten.workspace.as_path()).collect();
    let Some(folder) = open_folder(home)? else { return Ok(0) };
    let mut files = Vec::new();
    for entry in Dir::read_from(&folder)? {
        // Names that are no text are none of acpx's.
        files.extend(entry?.file_name().to_str().ok().map(str::to_owned));
    }
    let is_theirs = |record: &str| workspace_of(&folder, record).is_some_and(|at| workspaces.contains(at.as_path()));
    let stems: Vec<&str> =
        files.iter().filter(|name| is_theirs(name)).filter_map(|name| name.strip_suffix(".json")).collect();
    let mut removed = 0;
    for name in &files {
        let belongs =
            |stem: &&str| name.strip_prefix(*stem).is_some_and(|rest| rest == ".json" || rest.starts_with(".stream."));
        if stems.iter().any(belongs) {
            match unlinkat(&folder, name.as_str(), AtFlags::empty()) {
                Err(error) if error != Errno::NOENT => return Err(error.into()),
                _ => removed += 1,
            }
        }
    }
    Ok(removed)
}

/// The folder of the records; `None` where acpx was never here.
fn open_folder(home: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let open = || {
        let mut folder = openat(CWD, home, flags, Mode::empty())?;
        for name in FOLDERS {
            folder = openat(&folder, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(folder)
    };
    match open() {
        Err(Errno::NOENT) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

/// The working directory that a record names. Unreadable ones are nobody's.
fn workspace_of(folder: impl AsFd, name: &str) -> Option<PathBuf> {
    if !name.ends_with(".json") {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let record = openat(folder, name, flags, Mode::empty()).ok()?;
    if FileType::from_raw_mode(fstat(&record).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut head = Vec::new();
    File::from(record).take(HEAD_BYTES_MAX).read_to_end(&mut head).ok()?;
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().find_map(|line| line.strip_prefix("  \"cwd\": "))?;
    serde_json::from_str::<String>(line.trim_end_matches(',')).ok().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clawdforge_process::TreeMark;

    use super::*;

    fn forgotten(workspace: &str) -> Forgotten {
        Forgotten {
            workspace: workspace.into(),
            scratch: PathBuf::new(),
            mark: TreeMark::new("m").unwrap(),
            resume_key: None,
            user: None,
        }
    }

    fn record(cwd: &str) -> String {
        format!("{{\n  \"schema\": \"acpx.session.v1\",\n  \"cwd\": {},\n  \"name\": \"n\"\n}}", serde_json::json!(cwd))
    }

    #[test]
    fn what_an_agent_put_in_the_place_of_its_records_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let (own, others) = (home.path().join("own"), home.path().join("others"));
        for folder in [&own, &others] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(others.join("one.json"), record("/w/a")).unwrap();
        let sessions = own.join(".acpx/sessions");
        fs::create_dir(own.join(".acpx")).unwrap();
        std::os::unix::fs::symlink(&others, &sessions).unwrap();
        assert!(remove(&own, &[forgotten("/w/a")]).is_err(), "the folder is a link");
        fs::remove_file(&sessions).unwrap();
        fs::create_dir(&sessions).unwrap();
        std::os::unix::fs::symlink(others.join("one.json"), sessions.join("link.json")).unwrap();
        rustix::fs::mknodat(CWD, sessions.join("pipe.json"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(remove(&own, &[forgotten("/w/a")]).unwrap(), 0);
        assert!(others.join("one.json").exists());
    }

    #[test]
    fn the_files_of_a_conversation_are_removed_and_those_of_others_kept() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(remove(home.path(), &[forgotten("/w/a \"b\"")]).unwrap(), 0, "acpx was never here");
        let folder = home.path().join(".acpx/sessions");
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in [
            ("one.json", record("/w/a \"b\"")),
            ("one.stream.ndjson", String::new()),
            ("one.stream.1.ndjson", String::new()),
            ("one-more.json", record("/w/other")),
            ("one-more.stream.ndjson", String::new()),
            ("two.json", record("/w/a \"b\"")),
            ("broken.json", "{".to_owned()),
            ("note.txt", "/w/a".to_owned()),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        assert_eq!(remove(home.path(), &[forgotten("/w/a \"b\""), forgotten("/w/none")]).unwrap(), 4);
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["broken.json", "note.txt", "one-more.json", "one-more.stream.ndjson"]);
    }
}
