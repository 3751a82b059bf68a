//! What a copy holds, what it leaves out, and where it ends.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::*;

const BOUNDS: Bounds = Bounds { bytes: u64::MAX - 1, entries: 1_000, depth: 16, time: Duration::from_secs(60) };

/// A folder to copy, and where the copy goes.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(place.from()).unwrap();
        place
    }

    fn from(&self) -> PathBuf {
        self.dir.path().join("from")
    }

    fn to(&self) -> PathBuf {
        self.dir.path().join("to")
    }

    fn copy(&self, bounds: Bounds) -> Result<(), NotCopied> {
        copy(&self.from(), &self.to(), None, bounds, &CancellationToken::new())
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.to()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_come_with_their_contents_modes_and_times_and_folders_with_what_is_in_them() {
    let place = Place::new();
    let deep = place.from().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("tool"), "run me").unwrap();
    fs::set_permissions(deep.join("tool"), Permissions::from_mode(0o4555)).unwrap();
    File::open(deep.join("tool")).unwrap().set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000)).unwrap();
    fs::set_permissions(&deep, Permissions::from_mode(0o555)).unwrap();
    place.copy(BOUNDS).unwrap();
    let tool = place.to().join("a/b/tool");
    assert_eq!(fs::read_to_string(&tool).unwrap(), "run me");
    assert_eq!(mode(&tool), 0o555, "lent rights are not copied");
    assert_eq!(fs::metadata(&tool).unwrap().mtime(), 1_000);
    assert_eq!(mode(&place.to().join("a/b")), 0o755, "a folder can be removed again");
    fs::set_permissions(&deep, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_is_done_to_the_copy_does_not_reach_the_other_side() {
    let place = Place::new();
    fs::write(place.from().join("file"), "as it was").unwrap();
    fs::hard_link(place.from().join("file"), place.from().join("same")).unwrap();
    place.copy(BOUNDS).unwrap();
    fs::write(place.to().join("file"), "changed").unwrap();
    assert_eq!(fs::read_to_string(place.from().join("same")).unwrap(), "as it was");
    assert_eq!(fs::read_to_string(place.to().join("same")).unwrap(), "as it was");
}

#[test]
fn links_are_copied_and_not_followed() {
    let place = Place::new();
    let outside = place.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    symlink(&outside, place.from().join("folder")).unwrap();
    symlink(outside.join("secret"), place.from().join("file")).unwrap();
    place.copy(BOUNDS).unwrap();
    assert_eq!(fs::read_link(place.to().join("folder")).unwrap(), outside);
    assert_eq!(fs::read_link(place.to().join("file")).unwrap(), outside.join("secret"));
}

#[test]
fn a_link_in_the_place_of_the_workspace_is_not_copied_from() {
    let place = Place::new();
    fs::remove_dir(place.from()).unwrap();
    fs::create_dir(place.dir.path().join("outside")).unwrap();
    symlink(place.dir.path().join("outside"), place.from()).unwrap();
    assert!(matches!(place.copy(BOUNDS), Err(NotCopied::Failed(_))));
}

#[test]
fn sockets_and_pipes_are_left_out_and_not_waited_for() {
    let place = Place::new();
    let _socket = UnixListener::bind(place.from().join("socket")).unwrap();
    rustix::fs::mknodat(CWD, place.from().join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::write(place.from().join("file"), "x").unwrap();
    place.copy(BOUNDS).unwrap();
    assert_eq!(place.names(), ["file"]);
}

#[test]
fn files_of_another_user_are_left_out_where_agents_have_users() {
    let Some(owner) = Identity::new(20_000).filter(|_| rustix::process::geteuid().is_root()) else { return };
    let place = Place::new();
    fs::write(place.from().join("own"), "x").unwrap();
    fs::write(place.from().join("another-s"), "x").unwrap();
    std::os::unix::fs::chown(place.from().join("own"), Some(20_000), Some(20_000)).unwrap();
    copy(&place.from(), &place.to(), Some(owner), BOUNDS, &CancellationToken::new()).unwrap();
    assert_eq!(place.names(), ["own"]);
    assert_eq!(fs::metadata(place.to().join("own")).unwrap().uid(), 20_000);
    assert_eq!(fs::metadata(place.to()).unwrap().uid(), 20_000);
}

#[test]
fn a_copy_ends_with_the_first_bound_it_meets() {
    let place = Place::new();
    fs::create_dir_all(place.from().join("a/b/c")).unwrap();
    for (name, bytes) in [("one", 600), ("two", 600)] {
        fs::write(place.from().join(name), vec![1; bytes]).unwrap();
    }
    let met = |bounds| {
        let _ = fs::remove_dir_all(place.to());
        match place.copy(bounds) {
            Err(NotCopied::TooMuch(which)) => Some(which),
            Err(other) => panic!("{other:?}"),
            Ok(()) => None,
        }
    };
    assert_eq!(met(Bounds { bytes: 1_200, entries: 5, depth: 3, ..BOUNDS }), None, "what fits exactly");
    assert_eq!(met(Bounds { bytes: 1_199, ..BOUNDS }), Some("its files are too large together"));
    assert_eq!(met(Bounds { entries: 4, ..BOUNDS }), Some("it has too many files"));
    assert_eq!(met(Bounds { depth: 2, ..BOUNDS }), Some("it has too many folders in each other"));
    assert_eq!(met(Bounds { time: Duration::ZERO, ..BOUNDS }), Some("copying it took too long"));
}

#[test]
fn a_copy_nobody_wants_any_more_ends() {
    let place = Place::new();
    fs::write(place.from().join("file"), "x").unwrap();
    let given_up = CancellationToken::new();
    given_up.cancel();
    let given_up = copy(&place.from(), &place.to(), None, BOUNDS, &given_up);
    assert!(matches!(given_up, Err(NotCopied::GivenUp)));
}
