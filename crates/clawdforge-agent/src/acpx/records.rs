//! What acpx keeps of conversations on disk: in the agent's home, and a folder for sockets outside of it.
//!
//! There is no verb that deletes one conversation: `prune` works on all closed ones of an agent. Of each there
//! is a record, which names the working directory and the agent's own id of the conversation in its first lines,
//! and a stream of what was said beside it. Where acpx began a conversation anew, only the stream has the id before.
//!
//! The home is the agent's, which may put links and pipes there at any moment, while the service may do more than
//! the agent. So every step is taken from a folder that is held open, and none follows a link or waits.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, unlinkat};
use rustix::io::Errno;
use serde_json::Value;

use super::confined::{short_hash, socket_folder};
use crate::Forgotten;

/// Where below the home the records are, and where what owners hold on to.
const RECORDS: [&str; 2] = [".acpx", "sessions"];
const QUEUES: [&str; 2] = [".acpx", "queues"];

/// Bytes of a record that are looked at: what comes before the conversation itself.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// Bytes of one stream file that are looked at for ids. acpx begins another at 64 MiB.
const STREAM_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Digits of a record's hash in the names of what its owner makes.
const OWNER_DIGITS: usize = 24;

/// How long nothing must have come into or gone from a folder for sockets before it is removed: longer than a conversation
/// takes from the folder to its first record.
const SOCKETS_QUIET_MIN: Duration = Duration::from_secs(120);

/// What was found of one conversation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The agent's own ids of it, by which it can erase its side.
    pub keys: BTreeSet<String>,
    /// Names of records and streams.
    files: Vec<String>,
    /// What the owners' own files begin with.
    owners: Vec<String>,
}

/// Looks for everything that belongs to these conversations; what was found of each comes back in their order.
/// Blocking.
pub(super) fn find(home: &Path, forgotten: &[Forgotten]) -> io::Result<Vec<Found>> {
    let places = forgotten.iter().enumerate().map(|(place, forgotten)| (forgotten.workspace.as_path(), place));
    let places: HashMap<&Path, usize> = places.collect();
    let mut all: Vec<Found> = forgotten.iter().map(|_| Found::default()).collect();
    let Some(folder) = open_folder(home, RECORDS)? else { return Ok(all) };
    let names = names_in(&folder)?;
    for record in &names {
        let Some(stem) = record.strip_suffix(".json") else { continue };
        let Some(head) = Head::of(&folder, record) else { continue };
        let Some(found) = places.get(head.workspace.as_path()).and_then(|place| all.get_mut(*place)) else { continue };
        let is_stream = |name: &&String| name.strip_prefix(stem).is_some_and(|rest| rest.starts_with(".stream."));
        for stream in names.iter().filter(is_stream) {
            found.keys.extend(ids_in(&folder, stream)?);
            found.files.push(stream.clone());
        }
        found.keys.extend(head.session);
        found.owners.extend(head.record.map(|id| short_hash(id.as_bytes(), OWNER_DIGITS)));
        // Last, so that a removal that breaks off leaves what the rest is found by.
        found.files.push(record.clone());
    }
    Ok(all)
}

/// Removes what was found; how many files there were. With the last record of a home goes its folder for sockets, once it
/// is out of use. Blocking.
pub(super) fn remove(home: &Path, found: &[Found]) -> io::Result<usize> {
    let owners = || found.iter().flat_map(|found| &found.owners);
    // What a killed owner leaves. What somebody else laid out in the place of the folder is none of ours.
    let sockets = open(CWD, &socket_folder(home)).unwrap_or_default();
    let mut removed = remove_from(sockets, owners(), ".sock")?;
    removed += remove_from(open_folder(home, QUEUES)?, owners(), ".lock")?;
    let folder = open_folder(home, RECORDS)?;
    removed += remove_from(folder.as_ref(), found.iter().flat_map(|found| &found.files), "")?;
    let is_last = match &folder {
        Some(folder) => !names_in(folder)?.iter().any(|name| name.ends_with(".json")),
        None => true,
    };
    if is_last && let Err(error) = remove_unused(&socket_folder(home)) {
        tracing::debug!(%error, "the folder for sockets of acpx could not be removed");
    }
    Ok(removed)
}

fn remove_from<'a>(
    folder: Option<impl AsFd>,
    stems: impl Iterator<Item = &'a String>,
    ending: &str,
) -> io::Result<usize> {
    let Some(folder) = folder else { return Ok(0) };
    let mut removed = 0;
    for stem in stems {
        match unlinkat(&folder, format!("{stem}{ending}"), AtFlags::empty()) {
            Ok(()) => removed += 1,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(removed)
}

/// Removes a folder that is empty and that nobody has just begun to use.
fn remove_unused(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    // A time in the future is recent as well.
    if found.modified()?.elapsed().is_ok_and(|quiet| quiet >= SOCKETS_QUIET_MIN) {
        match std::fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            removed => return removed,
        }
    }
    Ok(())
}

/// A folder below the home; `None` where acpx was never here.
fn open_folder(home: &Path, names: [&str; 2]) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut folder = match openat(CWD, home, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    for name in names {
        folder = match open(&folder, Path::new(name))? {
            Some(folder) => folder,
            None => return Ok(None),
        };
    }
    Ok(Some(folder))
}

/// A folder in one that is held open; a link is none.
fn open(at: impl AsFd, path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    match openat(at, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

/// Names that are no text are none of acpx's.
fn names_in(folder: impl AsFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
    }
    Ok(names)
}

/// A file in a folder; `None` where it is no file or not to be read.
fn file(folder: impl AsFd, name: &str) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::empty()).ok()?;
    let is_file = FileType::from_raw_mode(fstat(&file).ok()?.st_mode) == FileType::RegularFile;
    is_file.then(|| File::from(file))
}

/// What a record says at its beginning.
struct Head {
    workspace: PathBuf,
    record: Option<String>,
    session: Option<String>,
}

impl Head {
    /// `None` where a record is unreadable: such are nobody's.
    fn of(folder: impl AsFd, record: &str) -> Option<Self> {
        let mut head = Vec::new();
        file(folder, record)?.take(HEAD_BYTES_MAX).read_to_end(&mut head).ok()?;
        let head = String::from_utf8_lossy(&head);
        let text = |key: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(&format!("  \"{key}\": ")))?;
            serde_json::from_str::<String>(line.trim_end_matches(',')).ok()
        };
        Some(Self { workspace: text("cwd")?.into(), record: text("acpx_record_id"), session: text("acp_session_id") })
    }
}

/// The ids under which an agent began conversations, or was asked to go on with them, in a stream of messages.
fn ids_in(folder: impl AsFd, stream: &str) -> io::Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    let Some(file) = file(folder, stream) else { return Ok(ids) };
    for line in BufReader::new(file.take(STREAM_BYTES_MAX)).split(b'\n') {
        let Ok(message) = serde_json::from_slice::<Value>(&line?) else { continue };
        let is_asked = matches!(message["method"].as_str(), Some("session/load" | "session/resume" | "session/prompt"));
        let holder = if is_asked { &message["params"] } else { &message["result"] };
        ids.extend(holder["sessionId"].as_str().map(str::to_owned));
    }
    Ok(ids)
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
        }
    }

    fn record(cwd: &str, id: &str) -> String {
        let cwd = serde_json::json!(cwd);
        format!(
            "{{\n  \"schema\": \"acpx.session.v1\",\n  \"acpx_record_id\": \"record-{id}\",\n  \"acp_session_id\": \"{id}\",\n  \
             \"cwd\": {cwd},\n  \"name\": \"n\"\n}}"
        )
    }

    fn forget(home: &Path, workspace: &str) -> io::Result<usize> {
        remove(home, &find(home, &[forgotten(workspace)])?)
    }

    #[test]
    fn what_an_agent_put_in_the_place_of_its_records_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let (own, others) = (home.path().join("own"), home.path().join("others"));
        for folder in [&own, &others] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(others.join("one.json"), record("/w/a", "one")).unwrap();
        let sessions = own.join(".acpx/sessions");
        fs::create_dir(own.join(".acpx")).unwrap();
        std::os::unix::fs::symlink(&others, &sessions).unwrap();
        assert!(forget(&own, "/w/a").is_err(), "the folder is a link");
        fs::remove_file(&sessions).unwrap();
        fs::create_dir(&sessions).unwrap();
        std::os::unix::fs::symlink(others.join("one.json"), sessions.join("link.json")).unwrap();
        rustix::fs::mknodat(CWD, sessions.join("pipe.json"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(forget(&own, "/w/a").unwrap(), 0);
        assert!(others.join("one.json").exists());
    }

    #[test]
    fn the_files_of_a_conversation_are_removed_and_those_of_others_kept() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(find(home.path(), &[forgotten("/w/a")]).unwrap(), [Found::default()], "acpx was never here");
        assert_eq!(forget(home.path(), "/w/a").unwrap(), 0);
        let folder = home.path().join(".acpx/sessions");
        fs::create_dir_all(&folder).unwrap();
        let begun = r#"{"jsonrpc":"2.0","id":1,"result":{"sessionId":"before"}}"#;
        let told = r#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"of somebody"}}"#;
        let asked = r#"{"jsonrpc":"2.0","id":2,"method":"session/load","params":{"sessionId":"asked for"}}"#;
        for (name, text) in [
            ("one.json", record("/w/a \"b\"", "s-one")),
            ("one.stream.ndjson", format!("{begun}\nno message\n{told}\n")),
            ("one.stream.1.ndjson", asked.to_owned()),
            ("one-more.json", record("/w/other", "s-other")),
            ("one-more.stream.ndjson", begun.replace("before", "of another")),
            ("two.json", record("/w/a \"b\"", "s-two")),
            ("broken.json", "{".to_owned()),
            ("note.txt", "/w/a".to_owned()),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        let found = find(home.path(), &[forgotten("/w/a \"b\""), forgotten("/w/none")]).unwrap();
        let keys: Vec<&str> = found[0].keys.iter().map(String::as_str).collect();
        assert_eq!(keys, ["asked for", "before", "s-one", "s-two"]);
        assert_eq!(found[1], Found::default());
        assert_eq!(remove(home.path(), &found).unwrap(), 4);
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["broken.json", "note.txt", "one-more.json", "one-more.stream.ndjson"]);
        assert_eq!(remove(home.path(), &found).unwrap(), 0, "twice is as good as once");
    }

    #[test]
    fn the_folder_for_sockets_goes_with_the_last_record_unless_somebody_is_in_it_or_has_just_come() {
        let home = tempfile::tempdir().unwrap();
        let (records, sockets) = (home.path().join(".acpx/sessions"), socket_folder(home.path()));
        let queues = home.path().join(".acpx/queues");
        for folder in [&records, &queues] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::create_dir(&sockets).unwrap();
        let grow_old = || {
            let long_ago = std::time::SystemTime::UNIX_EPOCH;
            File::open(&sockets).unwrap().set_modified(long_ago).unwrap();
        };
        for id in ["one", "two"] {
            fs::write(records.join(format!("{id}.json")), record(&format!("/w/{id}"), id)).unwrap();
        }
        // What a killed owner of the second conversation leaves, and somebody whom no record names.
        let owner = short_hash(b"record-two", OWNER_DIGITS);
        let (own, foreign) = (sockets.join(format!("{owner}.sock")), sockets.join("x.sock"));
        for file in [&own, &foreign, &queues.join(format!("{owner}.lock"))] {
            fs::write(file, "").unwrap();
        }
        grow_old();
        assert_eq!((forget(home.path(), "/w/one").unwrap(), own.exists()), (1, true), "it is another conversation's");
        assert_eq!(forget(home.path(), "/w/two").unwrap(), 3);
        grow_old();
        forget(home.path(), "/w/two").unwrap();
        assert!(foreign.exists() && !own.exists(), "never what it does not know");
        fs::remove_file(&foreign).unwrap();
        forget(home.path(), "/w/two").unwrap();
        assert!(sockets.exists(), "somebody may be about to listen");
        grow_old();
        forget(home.path(), "/w/two").unwrap();
        assert!(!sockets.exists());
        super::super::confined::prepare(home.path(), None).unwrap();
        grow_old();
        super::super::confined::prepare(home.path(), None).unwrap();
        forget(home.path(), "/w/two").unwrap();
        assert!(sockets.exists(), "it is in use from its preparation on");
        fs::remove_dir(&sockets).unwrap();
    }
}
