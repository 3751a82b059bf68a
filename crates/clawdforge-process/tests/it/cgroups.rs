//! Trees in control groups of the kernel's own, below the group of this test.

use std::fs;
use std::path::{Path, PathBuf};

use clawdforge_process::{Cgroups, NoCgroups, Spawner, own_cgroup};

use crate::support::{Bench, PATIENCE};

/// Memory that no script here comes near.
const MEMORY_MAX: u64 = 1 << 30;

/// A group for the groups of one test. Gone when dropped.
struct Ground {
    path: PathBuf,
    bench: Bench,
    cgroups: Cgroups,
}

impl Ground {
    /// `None` where this user may make no groups: a container, or somebody who is not root.
    fn new() -> Option<Self> {
        let bench = Bench::new();
        let name = bench.dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
        let path = own_cgroup().unwrap()?.join(format!("clawdforge-test-{name}"));
        if let Err(error) = fs::create_dir(&path) {
            assert!(!rustix::process::geteuid().is_root() || is_read_only(&error), "{error}");
            return None;
        }
        let cgroups = Cgroups::at(&path, MEMORY_MAX).unwrap();
        let bench = Bench { spawner: bench.spawner.clone().with_cgroups(Some(cgroups.clone())), ..bench };
        Some(Self { path, bench, cgroups })
    }

    fn spawner(&self) -> &Spawner {
        &self.bench.spawner
    }

    /// The groups there are, by name.
    fn groups(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir());
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    /// What a script has written into a file of its own, once it is there.
    async fn written(&self, file: &str) -> i32 {
        let path = self.bench.dir.path().join(file);
        let number = async {
            loop {
                if let Some(number) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) {
                    return number;
                }
                // why: nobody tells when a script has written; the look has a deadline.
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, number).await.unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        fs::remove_dir(&self.path).unwrap();
    }
}

fn is_read_only(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::ROFS.raw_os_error())
}

fn is_alive(pid: i32) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    // After the name, which may hold anything.
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hid_from_every_other_sign_ends_with_its_tree() {
    let Some(ground) = Ground::new() else { return };
    // No mark, a session of its own, no parent: nothing but the group says whose it is.
    let script = "(env -i setsid /bin/sh -c 'echo $$ > hidden; exec sleep 1000' &); while [ ! -s hidden ]; do :; done";
    let mut tree = ground.bench.sh(script).await;
    let hidden = ground.written("hidden").await;
    assert_eq!(tree.wait().await.code, Some(0));
    assert!(is_alive(hidden));
    let report = tree.end(PATIENCE).await;
    assert_eq!((report.survivors, is_alive(hidden)), (0, false), "{report:?}");
    assert_eq!(ground.groups(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_multiplies_faster_than_it_can_be_found_ends_at_once() {
    let Some(ground) = Ground::new() else { return };
    let script = ground.bench.dir.path().join("again");
    // Each starts its successor and ends: a handful are alive at any time, and never the same.
    fs::write(&script, "echo $$ > began\nenv -i PATH=/bin:/usr/bin setsid /bin/sh ./again &\n").unwrap();
    let tree = ground.bench.sh("for i in 1 2 3 4; do /bin/sh ./again & done; exec sleep 1000").await;
    ground.written("began").await;
    let report = tree.end(std::time::Duration::ZERO).await;
    assert_eq!(report.survivors, 0, "{report:?}");
    // A group is removed only when nobody is in it.
    assert_eq!(ground.groups(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_is_dropped_takes_its_group_along() {
    let Some(ground) = Ground::new() else { return };
    let tree = ground.bench.sh("echo $$ > began; exec sleep 1000").await;
    let pid = ground.written("began").await;
    assert_eq!(ground.groups().len(), 1);
    drop(tree);
    assert!(ground.spawner().settled(PATIENCE).await);
    assert_eq!((is_alive(pid), ground.groups().len()), (false, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_errand_leaves_lives_in_the_group_of_its_kin_and_ends_with_it() {
    let Some(ground) = Ground::new() else { return };
    let kin = ground.spawner().kin(ground.bench.mark.clone()).unwrap();
    let script = "(env -i setsid /bin/sh -c 'echo $$ > left; exec sleep 1000' &); while [ ! -s left ]; do :; done";
    let mut errand = ground.spawner().errand(ground.bench.spec("/bin/sh", &["-c", script])).await.unwrap();
    let left = ground.written("left").await;
    assert_eq!(errand.wait().await.code, Some(0));
    assert_eq!(errand.end(PATIENCE).await.survivors, 0);
    assert!(is_alive(left), "an errand spares what it left");
    assert_eq!(kin.end(std::time::Duration::ZERO).await.survivors, 0);
    assert_eq!((is_alive(left), ground.groups().len()), (false, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_a_service_that_is_no_more_are_ended_and_those_of_a_living_one_are_not() {
    let Some(ground) = Ground::new() else { return };
    let tree = ground.bench.sh("exec sleep 1000").await;
    let living = ground.groups();
    // By a number that no process has, and by this process's own with another birth.
    for maker in ["2147483000.17".to_owned(), format!("{}.1", std::process::id())] {
        fs::create_dir(ground.path.join(format!("clawdforge-tree-{maker}-0"))).unwrap();
    }
    let without = ground.spawner().clone().with_cgroups(None);
    let mut orphan = without.spawn(ground.bench.spec("/bin/sleep", &["1000"])).await.unwrap();
    let group = ground.path.join("clawdforge-tree-2147483000.17-0");
    fs::write(group.join("cgroup.procs"), orphan.pid().to_string()).unwrap();
    assert_eq!(ground.cgroups.end_leftovers().unwrap(), 1);
    assert_eq!(orphan.wait().await.signal, Some(rustix::process::Signal::KILL.as_raw()));
    assert_eq!(orphan.end(PATIENCE).await.survivors, 0);
    assert_eq!(ground.groups(), living);
    assert_eq!(tree.end(PATIENCE).await.survivors, 0);
}

#[test]
fn a_directory_of_another_kind_holds_no_groups() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Cgroups::at(dir.path(), MEMORY_MAX).unwrap_err();
    assert!(matches!(refused, NoCgroups::NotOne(path) if path == dir.path()));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made in it");
}
