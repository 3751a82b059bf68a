//! Ending a tree: nothing of it is left, and nothing else is touched.

use std::time::{Duration, Instant};

use crate::support::{Bench, PATIENCE, is_alive, is_gone, state, until};

/// What a program needs to be beyond groups, parents and polite signals.
const DAEMON: &str = "(setsid sh -c 'trap \"\" TERM HUP INT; echo $$ > daemon; while :; do sleep 1; done' &)";

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_is_over_costs_next_to_nothing_to_end() {
    let bench = Bench::new();
    let mut times = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        let mut tree = bench.spawner.spawn(bench.spec("/bin/true", &[])).await.unwrap();
        let born = began.elapsed();
        let exit = tree.wait().await;
        let waited = began.elapsed();
        let report = tree.end(PATIENCE).await;
        assert_eq!((exit.code, report.exit, report.killed, report.survivors), (Some(0), exit, 0, 0));
        times.push((born, waited - born, report.took));
    }
    times.sort_unstable();
    println!("median of /bin/true: born, waited, ended = {:?}", times[10]);
    assert_eq!(crate::support::zombies_of_ours(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polite_leader_is_given_its_time() {
    let bench = Bench::new();
    let tree = bench.sh("trap 'echo bye > bye; exit 4' TERM; echo $$ > ready; while :; do sleep 0.01; done").await;
    bench.pid_in("ready").await;
    let report = tree.end(PATIENCE).await;
    assert_eq!((report.exit.code, report.exit.signal, report.survivors), (Some(4), None, 0));
    assert_eq!(std::fs::read_to_string(bench.dir.path().join("bye")).unwrap(), "bye\n");
    assert!(report.took < PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_ignores_the_request_is_killed_after_its_grace() {
    let bench = Bench::new();
    let tree = bench.sh("trap '' TERM; echo $$ > ready; while :; do sleep 1; done").await;
    let pid = bench.pid_in("ready").await;
    let grace = Duration::from_millis(50);
    let report = tree.end(grace).await;
    assert_eq!((report.exit.code, report.exit.signal), (None, Some(9)));
    assert!(report.killed >= 1 && report.survivors == 0 && report.took >= grace, "{report:?}");
    assert!(is_gone(pid) && bench.marked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ignores_signals_does_not_outlive_its_leader() {
    let bench = Bench::new();
    let mut tree = bench.sh(&format!("{DAEMON}; while ! [ -s daemon ]; do :; done; exit 0")).await;
    tree.wait().await;
    let daemon = bench.pid_in("daemon").await;
    assert!(is_alive(daemon));
    let report = tree.end(PATIENCE).await;
    assert!(report.killed >= 1 && report.survivors == 0, "{report:?}");
    println!("ending a daemon took {:?}", report.took);
    assert!(is_gone(daemon) && bench.marked().is_empty());
    assert_eq!(crate::support::zombies_of_ours(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_the_mark_is_found_while_its_parents_live() {
    let bench = Bench::new();
    let script = "env -i setsid sh -c 'trap \"\" TERM; echo $$ > daemon; while :; do /bin/sleep 1; done' & wait";
    let tree = bench.sh(script).await;
    let daemon = bench.pid_in("daemon").await;
    assert_eq!(bench.marked(), [tree.pid()], "the harness sees no mark on the daemon");
    let report = tree.end(PATIENCE).await;
    assert!(report.killed >= 1 && report.survivors == 0, "{report:?}");
    assert!(is_gone(daemon));
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_processes_are_ended_too() {
    let bench = Bench::new();
    let tree =
        bench.sh("sh -c 'echo $$ > child; kill -STOP $$; sleep 100' & echo $$ > leader; kill -STOP $$; exit 6").await;
    let (leader, child) = (bench.pid_in("leader").await, bench.pid_in("child").await);
    until("both are stopped", || state(leader) == Some('T') && state(child) == Some('T')).await;
    let report = tree.end(PATIENCE).await;
    assert_eq!((report.exit.signal, report.survivors), (Some(15), 0), "woken up to take the request");
    assert!(is_gone(leader) && is_gone(child) && bench.marked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_storm_is_outrun() {
    let bench = Bench::new();
    // Several loops in sessions of their own, each with children that come and go; bounded in case we lose.
    let storm = "i=0; while [ $i -lt 2000 ]; do (setsid sleep 20 &); i=$((i+1)); done";
    let tree = bench.sh(&format!("trap '' TERM; for n in 1 2 3; do (setsid sh -c '{storm}' &); done; {storm}")).await;
    until("it rages", || bench.marked().len() > 60).await;
    let report = tree.end(Duration::ZERO).await;
    println!("ending a fork storm: {report:?}");
    assert!(report.killed > 60 && report.survivors == 0, "{report:?}");
    assert_eq!(bench.marked(), [0; 0]);
    // Those that ended by themselves under way are nobody's but ours.
    bench.spawner.reap_orphans();
    assert_eq!(crate::support::zombies_of_ours(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_one_tree_leaves_the_others_alone() {
    let bench = Bench::new();
    let other = Bench::new();
    let mut spec = bench.spec("/bin/sh", &["-c", &format!("{DAEMON}; exec sleep 100")]);
    spec.mark = other.mark.clone();
    spec.cwd = other.dir.path().to_owned();
    let neighbour = bench.spawner.spawn(spec).await.unwrap();
    let daemon = other.pid_in("daemon").await;
    let ours = bench.sh("trap '' TERM; sleep 100 & sleep 100").await;
    let report = ours.end(Duration::ZERO).await;
    assert_eq!(report.survivors, 0);
    assert!(is_alive(neighbour.pid()) && is_alive(daemon));
    neighbour.end(PATIENCE).await;
    assert!(is_gone(daemon));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spawner_is_settled_only_when_dropped_trees_are_gone_too() {
    let bench = Bench::new();
    let tree = bench.sh("sleep 100 & exec sleep 100").await;
    assert!(!bench.spawner.settled(Duration::from_millis(20)).await, "a tree lives");
    drop(tree);
    assert!(bench.spawner.settled(PATIENCE).await);
    assert_eq!(bench.marked(), [0; 0], "nothing is left, not even stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_tree_is_killed_whole() {
    let bench = Bench::new();
    let tree = bench.sh(&format!("trap '' TERM; {DAEMON}; while :; do sleep 1; done")).await;
    let (leader, daemon) = (tree.pid(), bench.pid_in("daemon").await);
    drop(tree);
    until("leader and daemon are reaped", || is_gone(leader) && is_gone(daemon)).await;
    assert_eq!(bench.marked(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_given_up_still_ends_the_tree() {
    let bench = Bench::new();
    let tree = bench.sh("trap '' TERM; echo $$ > ready; while :; do sleep 1; done").await;
    let leader = bench.pid_in("ready").await;
    let given_up = tokio::time::timeout(Duration::from_millis(5), tree.end(PATIENCE)).await;
    assert!(given_up.is_err());
    until("it is reaped", || is_gone(leader)).await;
}

#[test]
fn a_tree_that_outlives_its_runtime_is_still_killed() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (tree, bench) = runtime.block_on(async {
        let bench = Bench::new();
        (bench.sh("exec sleep 100").await, bench)
    });
    drop(runtime);
    let leader = tree.pid();
    drop(tree);
    let began = Instant::now();
    while !is_gone(leader) {
        assert!(began.elapsed() < PATIENCE, "still there: {leader}");
        std::thread::yield_now();
    }
    assert_eq!(bench.marked(), [0; 0]);
}
