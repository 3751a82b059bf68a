//! The data directory, which only the service's user may look into.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail};

use crate::agents::catalogue::AGENTS_DIR;

/// Nobody else gets in.
const PRIVATE: u32 = 0o700;

/// Others pass through to what is theirs, and can list nothing.
pub const PASSABLE: u32 = 0o711;

/// Others can read, not write.
const READABLE: u32 = 0o755;

/// Makes the directory if it is missing, and refuses one that others may look into. Where agents have users
/// of their own these may pass through to their workspaces, and read the installed agents. Where it may be `readable`,
/// it is left as it is.
pub fn prepare(path: &Path, with_users: bool, readable: bool) -> anyhow::Result<()> {
    let shown = path.display();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(path)
        .with_context(|| format!("the data directory {shown} cannot be made; choose another with --data-dir"))?;
    let found = std::fs::metadata(path).with_context(|| format!("the data directory {shown} cannot be read"))?;
    let mode = found.mode() & 0o777;
    // What an earlier start with users has opened is ours to close again.
    let opened_by_others = mode & 0o077 != 0 && mode != PASSABLE;
    if opened_by_others && !readable {
        bail!(
            "the data directory {shown} holds secrets, but others may enter it (mode {mode:o}); run: chmod 700 {shown}, \
             or allow it with --start-despite readable-data"
        );
    }
    let set = |path: &Path, mode: u32| std::fs::set_permissions(path, Permissions::from_mode(mode));
    let wanted = if with_users { PASSABLE } else { PRIVATE };
    if mode & 0o077 != wanted & 0o077 && (with_users || !opened_by_others) {
        set(path, wanted).with_context(|| format!("the mode of the data directory {shown} cannot be changed"))?;
    }
    if with_users {
        passable_to(path)?;
        let open = || {
            let agents = path.join(AGENTS_DIR);
            let entries = match std::fs::read_dir(&agents) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            set(&agents, READABLE)?;
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    set(&entry.path(), READABLE)?;
                }
            }
            io::Result::Ok(())
        };
        open().context("the installed agents cannot be made readable for the users of agents")?;
    }
    Ok(())
}

/// Sees to it that other users get as far as the data directory.
fn passable_to(path: &Path) -> anyhow::Result<()> {
    let real = path.canonicalize().with_context(|| format!("{} cannot be found", path.display()))?;
    for above in real.ancestors().skip(1) {
        let found = std::fs::metadata(above).with_context(|| format!("{} cannot be read", above.display()))?;
        if found.mode() & 0o001 == 0 {
            bail!(
                "agents with users of their own cannot get to the data directory: {} lets nobody else through; choose \
                 another `data_dir`, or leave `isolation_users` out",
                above.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_directory_that_others_may_look_into_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for wrong in [0o755, 0o770, 0o701, 0o710] {
            std::fs::set_permissions(dir.path(), Permissions::from_mode(wrong)).unwrap();
            let error = prepare(dir.path(), false, false).unwrap_err().to_string();
            assert!(error.contains("run: chmod 700"), "{error}");
            prepare(dir.path(), false, true).unwrap();
            assert_eq!(mode(dir.path()), wrong, "allowed, and left as it is");
        }
    }

    #[test]
    fn it_is_opened_for_users_of_agents_to_pass_through_and_closed_again() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
        let data = dir.path().join("data");
        prepare(&data, false, false).unwrap();
        assert_eq!(mode(&data), 0o700);
        std::fs::create_dir_all(data.join(AGENTS_DIR).join("claude")).unwrap();
        std::fs::set_permissions(data.join(AGENTS_DIR), Permissions::from_mode(0o700)).unwrap();
        prepare(&data, true, false).unwrap();
        assert_eq!((mode(&data), mode(&data.join(AGENTS_DIR))), (0o711, 0o755));
        prepare(&data, false, false).unwrap();
        assert_eq!(mode(&data), 0o700);
    }

    #[test]
    fn a_place_that_nobody_gets_to_is_refused_for_users_of_agents() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let error = prepare(&dir.path().join("data"), true, false).unwrap_err().to_string();
        assert!(error.contains("lets nobody else through"), "{error}");
    }
}
