//! Lays the operator's files for an agent into its home, as copies that nobody may write.
//!
//! The home is the agent's: it may put other files, links and pipes into the place of the copies at any moment,
//! while the service may do more than the agent. So every step is taken from a folder that is held open, none
//! follows a link or waits, and what is found different is replaced at each start. Which files were laid is on
//! record beside the home, out of the agent's reach, so that what the operator takes away goes from there too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fchmod, fstat, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::home::Home;

/// Files of one agent. Each is compared at every start.
const FILES_MAX: usize = 2_000;

/// Bytes of them all: some skills and settings, not a checkout.
const BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Folders within each other; ends a circle of links.
const DEPTH_MAX: usize = 16;

/// Bytes of the record of what was laid.
const RECORD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Copies may be read by whoever gets into the home, which is the agent's user alone.
const FILE_MODE: u32 = 0o444;
const PROGRAM_MODE: u32 = 0o555;

/// A file as the operator has it.
struct Piece {
    bytes: Vec<u8>,
    mode: u32,
}

/// Makes what lies in the home agree with the operator's folder: copies that are missing or different are made
/// anew, those of files that are not there any more are removed. What the agent has beside them stays. `tag` sets
/// apart those who do the same at the same time. Blocking.
///
/// # Errors
/// When the folder cannot be read or is larger than the bounds; when the home cannot be written.
pub(crate) fn furnish(home: &Home, from: Option<&Path>, tag: &str) -> io::Result<()> {
    let record = record_of(&home.path);
    let laid = read_record(&record)?;
    let pieces = match from {
        Some(from) => gather(from)?,
        None if laid.is_empty() => return Ok(()),
        None => BTreeMap::new(),
    };
    let wanted: BTreeSet<PathBuf> = pieces.keys().cloned().collect();
    // On record before they are there: nothing that was laid is ever forgotten.
    if !wanted.is_subset(&laid) {
        write_record(&record, &laid.union(&wanted).cloned().collect(), tag)?;
    }
    let root = open_folder(CWD, &home.path)?;
    for (path, piece) in &pieces {
        let (folder, name) = way_to(&root, path, home, true)?.ok_or(io::ErrorKind::NotFound)?;
        if !is_like(&folder, name, piece)? {
            put(&folder, name, piece, tag)?;
        }
    }
    let gone: Vec<&PathBuf> = laid.difference(&wanted).collect();
    for path in &gone {
        if let Some((folder, name)) = way_to(&root, path, home, false)? {
            clear(&folder, name)?;
        }
    }
    if !gone.is_empty() {
        write_record(&record, &wanted, tag)?;
    }
    Ok(())
}

/// Where it is recorded what was laid into a home.
fn record_of(home: &Path) -> PathBuf {
    let mut name = home.as_os_str().to_owned();
    name.push(".laid");
    name.into()
}

fn read_record(path: &Path) -> io::Result<BTreeSet<PathBuf>> {
    match File::open(path) {
        Ok(file) => Ok(serde_json::from_reader(file.take(RECORD_BYTES_MAX))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

fn write_record(path: &Path, laid: &BTreeSet<PathBuf>, tag: &str) -> io::Result<()> {
    let new = path.with_extension(format!("laid.{tag}"));
    std::fs::write(&new, serde_json::to_vec(laid)?)?;
    std::fs::rename(&new, path)
}

/// The operator's files by their paths in the folder. Links lead where they lead: the folder is the operator's.
fn gather(from: &Path) -> io::Result<BTreeMap<PathBuf, Piece>> {
    let mut pieces = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    let mut left = BYTES_MAX;
    while let Some(folder) = folders.pop() {
        if folder.components().count() > DEPTH_MAX {
            return Err(too_much(from, &format!("folders {DEPTH_MAX} deep")));
        }
        for entry in std::fs::read_dir(from.join(&folder))? {
            let inner = folder.join(entry?.file_name());
            let path = from.join(&inner);
            let found = std::fs::metadata(&path)?;
            if found.is_dir() {
                folders.push(inner);
            } else if found.is_file() {
                let mut bytes = Vec::new();
                File::open(&path)?.take(left + 1).read_to_end(&mut bytes)?;
                left = left
                    .checked_sub(bytes.len() as u64)
                    .ok_or_else(|| too_much(from, &format!("{BYTES_MAX} bytes")))?;
                let mode = if found.permissions().mode() & 0o111 == 0 { FILE_MODE } else { PROGRAM_MODE };
                pieces.insert(inner, Piece { bytes, mode });
                if pieces.len() > FILES_MAX {
                    return Err(too_much(from, &format!("{FILES_MAX} files")));
                }
            }
        }
    }
    Ok(pieces)
}

fn too_much(from: &Path, bound: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} holds more than {bound}", from.display()))
}

fn open_folder(at: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(openat(at, path, flags, Mode::empty())?)
}

/// The folder a path leads to and the name in it. Folders that are missing are made and the agent's, like those it
/// makes itself; without `make`, a way that is not there leads nowhere.
fn way_to<'a>(root: &OwnedFd, path: &'a Path, home: &Home, make: bool) -> io::Result<Option<(OwnedFd, &'a Path)>> {
    let mut names: Vec<&Path> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(Path::new(name)),
            _ => None,
        })
        .collect();
    let Some(last) = names.pop() else { return Ok(None) };
    let mut folder = root.try_clone()?;
    for name in names {
        folder = match open_folder(&folder, name) {
            Ok(inner) => inner,
            Err(_no_folder) if !make => return Ok(None),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    clear(&folder, name)?;
                }
                match mkdirat(&folder, name, Mode::RWXU) {
                    // Somebody else who starts in this home was faster.
                    Err(error) if error != Errno::EXIST => return Err(error.into()),
                    _ => {}
                }
                let inner = open_folder(&folder, name)?;
                if let Some(owner) = home.owner {
                    std::os::unix::fs::fchown(&inner, Some(owner.number()), Some(owner.number()))?;
                }
                inner
            }
        };
    }
    Ok(Some((folder, last)))
}

/// Whether a file is there as it should be.
fn is_like(folder: &OwnedFd, name: &Path, piece: &Piece) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat(folder, name, flags, Mode::empty()) else { return Ok(false) };
    let found = fstat(&file)?;
    let is_plain = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile && found.st_nlink == 1;
    if !is_plain || found.st_mode & 0o7777 != piece.mode {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    File::from(file).take(piece.bytes.len() as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes == piece.bytes)
}

/// Puts a copy into its place in one step; it stays the service's.
fn put(folder: &OwnedFd, name: &Path, piece: &Piece, tag: &str) -> io::Result<()> {
    let new = PathBuf::from(format!(".laying-{tag}"));
    clear(folder, &new)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, &new, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(&piece.bytes)?;
    fchmod(&file, Mode::from_raw_mode(piece.mode))?;
    match renameat(folder, &new, folder, name) {
        Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => {
            clear(folder, name)?;
            Ok(renameat(folder, &new, folder, name)?)
        }
        renamed => Ok(renamed?),
    }
}

/// Removes whatever is there.
fn clear(folder: &OwnedFd, name: &Path) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // Removes what is in it and follows no link. A path to the held folder leads nowhere else.
        Err(Errno::ISDIR | Errno::PERM) => {
            let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
            std::fs::remove_dir_all(&path).or_else(|_refused| {
                open_up(folder, name)?;
                std::fs::remove_dir_all(&path)
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Lets its owner into a folder. The name may have become a link to something of the service's, so the folder is held first;
/// as a place alone, because it may be closed to reading.
fn open_up(folder: &OwnedFd, name: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = openat(folder, name, flags, Mode::empty())?;
    // `fchmod` takes no such descriptor. This path leads to what is held and over no name that can change.
    std::fs::set_permissions(format!("/proc/self/fd/{}", held.as_raw_fd()), Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Ground {
        dir: tempfile::TempDir,
    }

    impl Ground {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for folder in ["operator/.claude/skills/a", "homes/claude"] {
                fs::create_dir_all(dir.path().join(folder)).unwrap();
            }
            fs::write(dir.path().join("operator/.claude/settings.json"), "{}").unwrap();
            fs::write(dir.path().join("operator/.claude/skills/a/run.sh"), "#!/bin/sh").unwrap();
            fs::set_permissions(dir.path().join("operator/.claude/skills/a/run.sh"), Permissions::from_mode(0o755))
                .unwrap();
            Self { dir }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn lay(&self) -> io::Result<()> {
            furnish(&self.home(), Some(&self.at("operator")), "tag")
        }

        fn home(&self) -> Home {
            Home { path: self.at("homes/claude"), owner: None, is_passing: false }
        }

        fn settings(&self) -> PathBuf {
            self.at("homes/claude/.claude/settings.json")
        }

        fn in_home(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(self.at("homes/claude/.claude"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn files_are_laid_as_copies_that_may_only_be_read() {
        let ground = Ground::new();
        ground.lay().unwrap();
        assert_eq!(fs::read_to_string(ground.settings()).unwrap(), "{}");
        assert_eq!(mode(&ground.settings()), 0o444);
        assert_eq!(mode(&ground.at("homes/claude/.claude/skills/a/run.sh")), 0o555);
        assert_eq!(mode(&ground.at("homes/claude/.claude")), 0o700, "the agent may add to it");
        assert_eq!(ground.in_home(), ["settings.json", "skills"]);
    }

    #[test]
    fn what_the_agent_put_in_their_place_is_replaced_and_what_it_has_beside_them_stays() {
        let ground = Ground::new();
        ground.lay().unwrap();
        let precious = ground.at("precious");
        fs::write(&precious, "precious").unwrap();
        fs::write(ground.at("homes/claude/.claude/history.jsonl"), "mine").unwrap();
        let replace: [&dyn Fn(&Path); 6] = [
            &|path| fs::write(path, "{\"hooks\": 1}").unwrap(),
            &|path| symlink(&precious, path).unwrap(),
            &|path| fs::create_dir_all(path.join("deep")).unwrap(),
            &|path| rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
            &|path| fs::hard_link(&precious, path).unwrap(),
            &|_gone| {},
        ];
        for replaced in replace {
            clear(&open_folder(CWD, &ground.at("homes/claude/.claude")).unwrap(), Path::new("settings.json")).unwrap();
            replaced(&ground.settings());
            ground.lay().unwrap();
            assert_eq!(fs::read_to_string(ground.settings()).unwrap(), "{}");
            assert_eq!(
                (mode(&ground.settings()), fs::read_to_string(&precious).unwrap().as_str()),
                (0o444, "precious")
            );
        }
        fs::set_permissions(ground.settings(), Permissions::from_mode(0o666)).unwrap();
        ground.lay().unwrap();
        assert_eq!(mode(&ground.settings()), 0o444);
        assert_eq!(ground.in_home(), ["history.jsonl", "settings.json", "skills"]);
    }

    #[test]
    fn a_folder_is_let_into_and_nothing_that_a_link_in_its_place_leads_to() {
        let ground = Ground::new();
        let (shut, precious) = (ground.at("homes/claude/shut"), ground.at("precious"));
        for folder in [&shut, &precious] {
            fs::create_dir(folder).unwrap();
            fs::set_permissions(folder, Permissions::from_mode(0o100)).unwrap();
        }
        symlink(&precious, ground.at("homes/claude/link")).unwrap();
        let home = open_folder(CWD, &ground.at("homes/claude")).unwrap();
        open_up(&home, Path::new("shut")).unwrap();
        assert!(open_up(&home, Path::new("link")).is_err());
        assert_eq!((mode(&shut), mode(&precious)), (0o700, 0o100));
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_is_not_followed() {
        let ground = Ground::new();
        fs::create_dir(ground.at("outside")).unwrap();
        symlink(ground.at("outside"), ground.at("homes/claude/.claude")).unwrap();
        ground.lay().unwrap();
        assert_eq!(fs::read_dir(ground.at("outside")).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(ground.settings()).unwrap(), "{}");
    }

    #[test]
    fn what_the_operator_takes_away_goes_from_the_home() {
        let ground = Ground::new();
        ground.lay().unwrap();
        fs::write(ground.at("homes/claude/.claude/own.md"), "mine").unwrap();
        fs::remove_file(ground.at("operator/.claude/settings.json")).unwrap();
        ground.lay().unwrap();
        assert_eq!(ground.in_home(), ["own.md", "skills"]);
        furnish(&ground.home(), None, "tag").unwrap();
        assert!(!ground.at("homes/claude/.claude/skills/a/run.sh").exists(), "also when the option is gone");
        fs::write(ground.settings(), "the agent's own").unwrap();
        furnish(&ground.home(), None, "tag").unwrap();
        assert!(ground.settings().exists(), "what was not laid is not ours to remove");
    }

    #[test]
    fn two_that_lay_the_same_at_the_same_time_do_not_meet() {
        let ground = Ground::new();
        std::thread::scope(|scope| {
            let lay = |tag: &'static str| {
                let ground = &ground;
                scope
                    .spawn(move || (0..50).try_for_each(|_| furnish(&ground.home(), Some(&ground.at("operator")), tag)))
            };
            let both = [lay("one"), lay("two")];
            for one in both {
                one.join().unwrap().unwrap();
            }
        });
        assert_eq!(ground.in_home(), ["settings.json", "skills"]);
    }

    #[test]
    fn a_folder_that_is_too_much_or_not_there_is_refused() {
        let ground = Ground::new();
        symlink(ground.at("operator"), ground.at("operator/circle")).unwrap();
        assert!(ground.lay().unwrap_err().to_string().contains("more than"));
        fs::remove_file(ground.at("operator/circle")).unwrap();
        for number in 0..=FILES_MAX {
            fs::write(ground.at(&format!("operator/{number}")), "").unwrap();
        }
        assert!(ground.lay().unwrap_err().to_string().contains("2000 files"));
        fs::remove_dir_all(ground.at("operator")).unwrap();
        assert_eq!(ground.lay().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
