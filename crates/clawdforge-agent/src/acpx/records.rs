//! What acpx keeps of conversations on disk, in the agent's home.
//!
//! There is no verb that deletes one conversation: `prune` works on all closed ones of an agent. Of each there
//! is a record, which names the working directory in its first lines, and a stream of what was said beside it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::Forgotten;

/// Bytes of a record that are looked at: what comes before the conversation itself.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// Removes the records and streams of these conversations; how many files there were.
pub(super) fn remove(home: &Path, forgotten: &[Forgotten]) -> io::Result<usize> {
    let folder = home.join(".acpx/sessions");
    let workspaces: HashSet<&Path> = forgotten.iter().map(|forgotten| forgotten.workspace.as_path()).collect();
    let files: Vec<PathBuf> = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?,
    };
    let is_record = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let mut stems = HashSet::new();
    for record in files.iter().filter(is_record) {
        if workspace_of(record).is_some_and(|found| workspaces.contains(found.as_path())) {
            stems.extend(record.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    let mut removed = 0;
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let is_theirs = |stem: &String| {
            name.strip_prefix(stem.as_str()).is_some_and(|rest| rest == ".json" || rest.starts_with(".stream."))
        };
        if stems.iter().any(is_theirs) {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => removed += 1,
            }
        }
    }
    Ok(removed)
}

/// The working directory that a record names. Unreadable ones are nobody's.
fn workspace_of(record: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    File::open(record).ok()?.take(HEAD_BYTES_MAX).read_to_end(&mut head).ok()?;
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().find_map(|line| line.strip_prefix("  \"cwd\": "))?;
    serde_json::from_str::<String>(line.trim_end_matches(',')).ok().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use clawdforge_process::TreeMark;

    use super::*;

    #[test]
    fn the_files_of_a_conversation_are_removed_and_those_of_others_kept() {
        let home = tempfile::tempdir().unwrap();
        let forgotten = |workspace: &str| Forgotten {
            workspace: workspace.into(),
            scratch: PathBuf::new(),
            mark: TreeMark::new("m").unwrap(),
            resume_key: None,
            user: None,
        };
        assert_eq!(remove(home.path(), &[forgotten("/w/a \"b\"")]).unwrap(), 0, "acpx was never here");
        let folder = home.path().join(".acpx/sessions");
        fs::create_dir_all(&folder).unwrap();
        let record = |cwd: &str| {
            format!(
                "{{\n  \"schema\": \"acpx.session.v1\",\n  \"cwd\": {},\n  \"name\": \"n\"\n}}",
                serde_json::json!(cwd)
            )
        };
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
