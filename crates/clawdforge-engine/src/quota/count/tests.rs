//! What is counted, what is not, and where a count ends.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

const BOUNDS: Bounds = Bounds { bytes: u64::MAX, entries: 1_000, depth: 16, time: Duration::from_secs(60) };

fn counted(root: &Path, bounds: Bounds) -> Count {
    count(root, bounds, &CancellationToken::new())
}

fn bytes(root: &Path) -> u64 {
    match counted(root, BOUNDS) {
        Count::Whole(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

/// What one file takes, by its own word.
fn taken(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().blocks() * BLOCK_BYTES
}

#[test]
fn what_is_counted_is_what_the_disk_gives_and_not_what_a_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let sparse = dir.path().join("sparse");
    File::create(&sparse).unwrap().set_len(1 << 40).unwrap();
    assert!(bytes(dir.path()) < 1 << 20, "a hole takes nothing");
    let full = dir.path().join("full");
    fs::write(&full, vec![1; 300_000]).unwrap();
    assert_eq!(bytes(dir.path()), taken(&sparse) + taken(&full));
    assert!(taken(&full) >= 300_000);
}

#[test]
fn a_file_with_several_names_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("deep")).unwrap();
    let one = dir.path().join("one");
    fs::write(&one, vec![1; 300_000]).unwrap();
    let before = bytes(dir.path());
    fs::hard_link(&one, dir.path().join("two")).unwrap();
    fs::hard_link(&one, dir.path().join("deep/three")).unwrap();
    assert_eq!(bytes(dir.path()), before);
}

#[test]
fn no_link_is_followed_neither_in_the_folder_nor_in_the_place_of_one_that_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (outside, inside) = (dir.path().join("outside"), dir.path().join("inside"));
    for folder in [outside.join("deep"), inside.join("was")] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(outside.join("deep/large"), vec![1; 300_000]).unwrap();
    symlink(&outside, inside.join("link")).unwrap();
    symlink(outside.join("deep/large"), inside.join("file")).unwrap();
    assert!(bytes(&inside) < 100_000);

    let root = open_root(&inside).unwrap();
    fs::remove_dir(inside.join("was")).unwrap();
    symlink(&outside, inside.join("was")).unwrap();
    type Open = fn(&OwnedFd, &Path) -> rustix::io::Result<OwnedFd>;
    for open in [open_below as Open, open_step_by_step] {
        for swapped in ["was", "was/deep"] {
            let error = open(&root, Path::new(swapped)).unwrap_err();
            assert!(matches!(error, Errno::LOOP | Errno::NOTDIR), "{swapped}: {error}");
        }
    }
    let mut counting = Counting::new(root, BOUNDS);
    counting.waiting.push(PathBuf::from("was"));
    assert!(matches!(counting.all(&CancellationToken::new()), Count::Whole(bytes) if bytes < 100_000));
    assert_eq!(counted(&inside.join("link"), BOUNDS), Count::Part(0, LeftOut::Failed(Errno::NOTDIR)), "nor at the top");
}

#[test]
fn both_ways_to_open_a_folder_lead_to_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    let root = open_root(dir.path()).unwrap();
    let number = |fd: OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
    let there = fs::metadata(dir.path().join("a/b")).unwrap().ino();
    assert_eq!(number(open_below(&root, Path::new("a/b")).unwrap()), there);
    assert_eq!(number(open_step_by_step(&root, Path::new("a/b")).unwrap()), there);
}

#[test]
fn what_vanishes_meanwhile_takes_nothing_and_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("stays"), vec![1; 300_000]).unwrap();
    let mut counting = Counting::new(open_root(dir.path()).unwrap(), BOUNDS);
    // Both were seen in a folder above, and are gone when it is their turn.
    counting.waiting.push(PathBuf::from("gone"));
    assert!(counting.missed(statat(&counting.root, "vanished", AtFlags::SYMLINK_NOFOLLOW).unwrap_err()).is_ok());
    assert_eq!(counting.all(&CancellationToken::new()), Count::Whole(taken(&dir.path().join("stays"))));
    assert_eq!(counted(&dir.path().join("nowhere"), BOUNDS), Count::Whole(0));
}

#[test]
fn a_closed_folder_is_told_and_the_rest_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("hidden"), "x").unwrap();
    fs::write(dir.path().join("open"), vec![1; 300_000]).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    let seen = counted(dir.path(), BOUNDS);
    let rest = taken(&dir.path().join("open")) + taken(&closed);
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    // To root no folder is closed.
    let expected = match rustix::process::geteuid().is_root() {
        true => Count::Whole(rest + taken(&closed.join("hidden"))),
        false => Count::Part(rest, LeftOut::Closed),
    };
    assert_eq!(seen, expected);

    let mut counting = Counting::new(open_root(dir.path()).unwrap(), BOUNDS);
    assert!(counting.missed(Errno::ACCESS).is_ok());
    let whole = rest + taken(&closed.join("hidden"));
    assert_eq!(counting.all(&CancellationToken::new()), Count::Part(whole, LeftOut::Closed));
}

#[test]
fn a_count_ends_with_the_first_bound_it_meets() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
    for number in 0..20 {
        fs::write(dir.path().join(format!("a/{number}")), vec![1; 10_000]).unwrap();
    }
    assert!(matches!(counted(dir.path(), BOUNDS), Count::Whole(_)));
    let all = bytes(dir.path());
    assert_eq!(
        counted(dir.path(), Bounds { bytes: all, ..BOUNDS }),
        Count::Whole(all),
        "as much as may be is not too much"
    );
    let over = counted(dir.path(), Bounds { bytes: 50_000, ..BOUNDS });
    assert!(matches!(over, Count::Over(Excess::Bytes(50_001..80_000))), "{over:?}");
    assert_eq!(counted(dir.path(), Bounds { entries: 22, ..BOUNDS }), Count::Over(Excess::Entries));
    assert!(matches!(counted(dir.path(), Bounds { entries: 23, ..BOUNDS }), Count::Whole(_)));
    assert_eq!(counted(dir.path(), Bounds { depth: 2, ..BOUNDS }), Count::Over(Excess::Depth));
    assert!(matches!(counted(dir.path(), Bounds { depth: 3, ..BOUNDS }), Count::Whole(_)));
    let late = counted(dir.path(), Bounds { time: Duration::ZERO, ..BOUNDS });
    assert!(matches!(late, Count::Part(_, LeftOut::Late)), "{late:?}");
    let given_up = CancellationToken::new();
    given_up.cancel();
    assert_eq!(count(dir.path(), BOUNDS, &given_up), Count::GivenUp);
}

#[test]
fn folders_deeper_than_a_path_can_say_are_too_deep() {
    let dir = tempfile::tempdir().unwrap();
    let name = "n".repeat(250);
    let mut at = open_root(dir.path()).unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
        at = openat(&at, &name, FOLDER, Mode::empty()).unwrap();
    }
    assert_eq!(counted(dir.path(), Bounds { depth: 1_000, ..BOUNDS }), Count::Over(Excess::Depth));
}
