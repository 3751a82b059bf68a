//! Programs that leave processes behind on purpose: ending them spares those, and those have an owner too.

use std::time::Duration;

use crate::support::{Bench, PATIENCE, is_alive, is_gone, until, zombies_of_ours};

/// Leaves a process behind in a session of its own, whose number is in `left`, and one in its own session.
const LEAVES: &str = "(setsid sh -c 'echo $$ > left; exec sleep 100' &); while ! [ -s left ]; do :; done";

#[tokio::test(flavor = "multi_thread")]
async fn an_errand_that_ends_or_is_ended_or_dropped_spares_what_it_left_behind() {
    for (script, ended) in [
        (format!("{LEAVES}; exit 0"), true),
        (format!("{LEAVES}; trap '' TERM; echo $$ > near; while :; do sleep 1; done"), true),
        (format!("{LEAVES}; trap '' TERM; echo $$ > near; while :; do sleep 1; done"), false),
    ] {
        let bench = Bench::new();
        let kin = bench.spawner.kin(bench.mark.clone()).unwrap();
        let errand = bench.spawner.errand(bench.spec("/bin/sh", &["-c", &script])).await.unwrap();
        let (leader, left) = (errand.pid(), bench.pid_in("left").await);
        if script.contains("near") {
            bench.pid_in("near").await;
        }
        if ended {
            let report = errand.end(Duration::from_millis(50)).await;
            assert_eq!(report.survivors, 0);
        } else {
            drop(errand);
        }
        until("the errand is gone", || is_gone(leader)).await;
        assert_eq!(bench.marked(), [left], "all of the errand is gone, and nothing of what it left");
        let report = kin.end(PATIENCE).await;
        assert_eq!((report.killed, report.survivors), (0, 0), "it took the request");
        assert!(is_gone(left) && zombies_of_ours().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kin_that_ignore_the_request_are_killed_with_all_below_them() {
    let bench = Bench::new();
    let kin = bench.spawner.kin(bench.mark.clone()).unwrap();
    let script = "(setsid sh -c 'trap \"\" TERM; (setsid sleep 100 &); echo $$ > left; while :; do sleep 1; done' &)";
    let errand = bench.spawner.errand(bench.spec("/bin/sh", &["-c", script])).await.unwrap();
    let left = bench.pid_in("left").await;
    errand.end(PATIENCE).await;
    assert!(is_alive(left));
    let report = kin.end(Duration::from_millis(50)).await;
    assert!(report.killed >= 2 && report.survivors == 0, "{report:?}");
    assert_eq!((bench.marked(), zombies_of_ours()), (Vec::new(), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_kin_are_killed_and_a_spawner_is_settled_only_then() {
    let bench = Bench::new();
    let kin = bench.spawner.kin(bench.mark.clone()).unwrap();
    let errand = bench.spawner.errand(bench.spec("/bin/sh", &["-c", LEAVES])).await.unwrap();
    let left = bench.pid_in("left").await;
    errand.end(PATIENCE).await;
    assert!(!bench.spawner.settled(Duration::from_millis(20)).await, "somebody is left");
    drop(kin);
    assert!(bench.spawner.settled(PATIENCE).await);
    until("it is reaped", || is_gone(left)).await;
    assert_eq!(bench.marked(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_eldest_is_noticed_and_its_number_is_free_again() {
    let bench = Bench::new();
    let mut kin = bench.spawner.kin(bench.mark.clone()).unwrap();
    tokio::time::timeout(PATIENCE, kin.eldest_gone()).await.expect("there is nobody to wait for");
    let errand = bench.spawner.errand(bench.spec("/bin/sh", &["-c", LEAVES])).await.unwrap();
    let left = bench.pid_in("left").await;
    errand.end(PATIENCE).await;
    let waited = tokio::time::timeout(Duration::from_millis(50), kin.eldest_gone()).await;
    assert!(waited.is_err(), "it lives");
    rustix::process::kill_process(rustix::process::Pid::from_raw(left).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    tokio::time::timeout(PATIENCE, kin.eldest_gone()).await.expect("it is gone");
    assert!(is_gone(left), "not even its zombie is left");
    assert_eq!(kin.end(Duration::ZERO).await.survivors, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_a_tree_leaves_the_kin_of_others_alone() {
    let bench = Bench::new();
    let other = Bench::new();
    let kin = bench.spawner.kin(bench.mark.clone()).unwrap();
    let errand = bench.spawner.errand(bench.spec("/bin/sh", &["-c", LEAVES])).await.unwrap();
    let left = bench.pid_in("left").await;
    errand.end(PATIENCE).await;
    let mut spec = other.spec("/bin/sh", &["-c", "trap '' TERM; sleep 100 & sleep 100"]);
    spec.cwd = other.dir.path().to_owned();
    let tree = bench.spawner.spawn(spec).await.unwrap();
    assert_eq!(tree.end(Duration::ZERO).await.survivors, 0);
    assert!(is_alive(left));
    kin.end(PATIENCE).await;
    assert!(is_gone(left));
}
