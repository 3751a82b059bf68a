//! The data directory and other places of secrets: theirs alone, and writable.

use std::collections::BTreeSet;
use std::fs::{DirEntry, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

use super::{Check, Verdict};
use crate::config::{Loaded, Origin, Risk};
use crate::isolation;
use crate::serve::data_dir::PASSABLE;
use crate::serve::refusals::{MOUNTED_SECRETS, exposed_mode, own_files};

/// Files that are named one by one; the others are summed up.
const NAMED_MAX: usize = 5;

/// Checks the data directory, the files in it, and files elsewhere that hold secrets.
pub fn check(loaded: &Loaded) -> Vec<Check> {
    let dir = &loaded.config.data_dir;
    let with_users = isolation::users(&loaded.config).is_ok_and(|users| users.is_some());
    let allowed = loaded.config.start_despite.contains(&Risk::ReadableData);
    let mut checks = match std::fs::metadata(dir) {
        Ok(found) => {
            vec![directory(dir, &found, geteuid().as_raw(), (with_users, allowed)), files(dir, allowed)]
        }
        Err(error) if error.kind() == ErrorKind::NotFound => vec![absent(dir)],
        Err(error) => {
            let what = format!("{} cannot be read: {error}", dir.display());
            vec![Check::fail(
                "data directory",
                what,
                "run this as the service's user, or choose another with --data-dir",
            )]
        }
    };
    checks.extend(secrets_elsewhere(loaded, allowed));
    checks
}

fn absent(dir: &Path) -> Check {
    let above = dir.ancestors().skip(1).find(|above| above.exists()).unwrap_or(Path::new("/"));
    if above.is_dir() && access(above, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        return Check::ok("data directory", format!("{} is made at the first start", dir.display()));
    }
    let what = format!("{} is not there, and {} may not be written", dir.display(), above.display());
    Check::fail(
        "data directory",
        what,
        "make it, owned by the service's user with mode 0700, or choose another with --data-dir",
    )
}

/// `lets` says whether agents' users may pass through, and whether everybody may read.
fn directory(dir: &Path, found: &Metadata, uid: u32, lets: (bool, bool)) -> Check {
    let (with_users, allowed) = lets;
    let (name, shown) = ("data directory", dir.display());
    if !found.is_dir() {
        return Check::fail(name, format!("{shown} is no directory"), "choose another with --data-dir");
    }
    let owner = found.uid();
    if owner != uid {
        let what = format!("{shown} belongs to user {owner}, this is user {uid}");
        // Root may look into it, but what root sees of agents and homes is not what the service sees.
        let todo = format!("run this as the service's user: sudo -u '#{owner}' clawdforge doctor");
        return if uid == 0 { Check::warn(name, what, todo) } else { Check::fail(name, what, todo) };
    }
    if found.mode() & 0o077 != 0 && !(with_users && found.mode() & 0o777 == PASSABLE) {
        let (what, todo) =
            (format!("{shown} has mode {:o}: others may enter it", found.mode() & 0o777), format!("chmod 700 {shown}"));
        return if allowed {
            Check::warn(name, format!("{what}, which start_despite allows"), todo)
        } else {
            Check::fail(name, format!("{what}, and the service refuses it"), todo)
        };
    }
    if access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Check::fail(name, format!("{shown} may not be written"), format!("chmod 700 {shown}"));
    }
    Check::ok(name, format!("{shown}, mode {:o}", found.mode() & 0o777))
}

/// The files in the directory itself: token, database, lock.
fn files(dir: &Path, allowed: bool) -> Check {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries.flatten(),
        Err(error) => {
            let what = format!("{} cannot be listed: {error}", dir.display());
            return Check::fail("data files", what, "run this as the service's user");
        }
    };
    let mut loose: Vec<(PathBuf, u32)> = entries.filter_map(|entry| loose(&entry)).collect();
    loose.sort();
    if loose.is_empty() {
        return Check::ok("data files", "for their owner only");
    }
    let refused = own_files(dir);
    let serious = loose.iter().any(|(path, mode)| mode & 0o007 != 0 || refused.contains(path)) && !allowed;
    let named = loose.iter().take(NAMED_MAX).map(|(path, mode)| format!("{} ({mode:o})", path.display()));
    let mut what = named.collect::<Vec<_>>().join(", ");
    if loose.len() > NAMED_MAX {
        what.push_str(&format!(" and {} more", loose.len() - NAMED_MAX));
    }
    Check {
        name: "data files".to_owned(),
        verdict: if serious { Verdict::Fail } else { Verdict::Warn },
        what: format!("others may read: {what}"),
        todo: Some(format!("find {} -maxdepth 1 -type f -exec chmod 600 {{}} +", dir.display())),
        details: serde_json::Value::Null,
    }
}

fn loose(entry: &DirEntry) -> Option<(PathBuf, u32)> {
    let found = entry.metadata().ok().filter(Metadata::is_file)?;
    let mode = found.mode() & 0o777;
    (mode & 0o077 != 0).then(|| (entry.path(), mode))
}

/// Files outside the data directory that are known to hold secrets.
fn secrets_elsewhere(loaded: &Loaded, allowed: bool) -> Vec<Check> {
    let holds_keys = loaded.rows.iter().filter(|row| row.key.starts_with("agents.") && row.key.contains(".env."));
    let files = holds_keys.filter_map(|row| match &row.origin {
        Origin::File { path, .. } => Some(path.as_path()),
        Origin::Default | Origin::Env(_) | Origin::Flag(_) => None,
    });
    let files: BTreeSet<&Path> = files.chain(loaded.config.admin_token_file.as_deref()).collect();
    let token = loaded.config.admin_token_file.as_deref();
    let refused = |path: &Path| !allowed && token == Some(path) && matches!(exposed_mode(path), Ok(Some(_)));
    files.into_iter().filter_map(|path| secret_file(path, refused(path))).collect()
}

fn secret_file(path: &Path, refused: bool) -> Option<Check> {
    if path.starts_with(MOUNTED_SECRETS) {
        return None;
    }
    let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
    let (name, shown) = ("secrets", path.display());
    let check = match mode {
        mode if mode & 0o004 != 0 => {
            Check::fail(name, format!("everybody may read {shown} (mode {mode:o})"), format!("chmod 600 {shown}"))
        }
        mode if refused => {
            let what = format!("others may read {shown} (mode {mode:o}), and the service refuses it");
            Check::fail(name, what, format!("chmod 600 {shown}"))
        }
        mode if mode & 0o040 != 0 => {
            Check::warn(name, format!("its group may read {shown} (mode {mode:o})"), format!("chmod 600 {shown}"))
        }
        _ => Check::ok(name, format!("{shown} has mode {mode:o}")),
    };
    Some(check)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn with_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn judged(dir: &Path, uid: u32) -> Check {
        directory(dir, &fs::metadata(dir).unwrap(), uid, (false, false))
    }

    #[test]
    fn a_directory_that_others_may_enter_fails() {
        let dir = tempfile::tempdir().unwrap();
        let uid = geteuid().as_raw();
        with_mode(dir.path(), 0o700);
        assert_eq!(judged(dir.path(), uid).verdict, Verdict::Ok);
        with_mode(dir.path(), 0o750);
        let check = judged(dir.path(), uid);
        assert_eq!(check.verdict, Verdict::Fail);
        assert_eq!(check.todo, Some(format!("chmod 700 {}", dir.path().display())));
        let allowed = directory(dir.path(), &fs::metadata(dir.path()).unwrap(), uid, (false, true));
        assert_eq!(allowed.verdict, Verdict::Warn, "the service starts with it");
    }

    #[test]
    fn a_directory_of_another_user_is_a_failure_except_for_root_who_may_look() {
        let dir = tempfile::tempdir().unwrap();
        let owner = geteuid().as_raw();
        let check = judged(dir.path(), owner + 1);
        assert_eq!(check.verdict, if owner + 1 == 0 { Verdict::Warn } else { Verdict::Fail });
        assert!(check.todo.unwrap().contains(&format!("sudo -u '#{owner}'")));
        if owner != 0 {
            assert_eq!(judged(dir.path(), 0).verdict, Verdict::Warn);
        }
    }

    #[test]
    fn files_that_others_may_read_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("admin-token");
        fs::write(&token, "secret").unwrap();
        with_mode(&token, 0o600);
        let files = |allowed| files(dir.path(), allowed);
        assert_eq!(files(false).verdict, Verdict::Ok);
        with_mode(&token, 0o640);
        assert_eq!((files(false).verdict, files(true).verdict), (Verdict::Fail, Verdict::Warn));
        let other = dir.path().join("other");
        fs::write(&other, "").unwrap();
        with_mode(&token, 0o600);
        with_mode(&other, 0o640);
        assert_eq!(files(false).verdict, Verdict::Warn, "the service starts with it");
        with_mode(&token, 0o644);
        let check = files(false);
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.what.contains("admin-token (644)"), "{}", check.what);
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_fine_where_it_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(absent(&dir.path().join("a/b")).verdict, Verdict::Ok);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(absent(&file.join("b")).verdict, Verdict::Fail);
    }

    #[test]
    fn a_secret_that_everybody_may_read_fails() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "secret").unwrap();
        for (mode, verdict) in [(0o600, Verdict::Ok), (0o640, Verdict::Warn), (0o604, Verdict::Fail)] {
            with_mode(&file, mode);
            assert_eq!(secret_file(&file, false).unwrap().verdict, verdict, "{mode:o}");
        }
        with_mode(&file, 0o640);
        assert_eq!(secret_file(&file, true).unwrap().verdict, Verdict::Fail, "the service does not start with it");
        assert_eq!(secret_file(&dir.path().join("gone"), false), None);
    }
}
