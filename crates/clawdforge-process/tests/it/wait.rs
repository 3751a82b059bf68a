//! Waiting for a leader, and reaping what falls to us meanwhile.

use std::time::Duration;

use tokio::time::timeout;

use crate::support::{Bench, PATIENCE, is_alive, is_gone, state, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_is_a_code_or_a_signal() {
    let bench = Bench::new();
    let mut tree = bench.sh("exit 7").await;
    let exit = tree.wait().await;
    assert_eq!((exit.code, exit.signal), (Some(7), None));
    assert_eq!(tree.wait().await, exit, "asking again gives the same answer");
    assert_eq!(tree.end(PATIENCE).await.exit, exit);

    let mut tree = bench.sh("kill -9 $$").await;
    let exit = tree.wait().await;
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    tree.end(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_given_up_loses_nothing() {
    let bench = Bench::new();
    let mut tree = bench.sh("while ! [ -e go ]; do :; done; echo last words >&2; exit 3").await;
    for _ in 0..5 {
        assert!(timeout(Duration::from_millis(1), tree.wait()).await.is_err());
    }
    std::fs::write(bench.dir.path().join("go"), "").unwrap();
    assert_eq!(timeout(PATIENCE, tree.wait()).await.unwrap().code, Some(3));
    assert_eq!(tree.stderr_tail(), "last words\n");
    tree.end(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_is_for_the_leader_only() {
    let bench = Bench::new();
    let mut tree = bench.sh("sleep 100 & echo $! > child; exit 0").await;
    let child = bench.pid_in("child").await;
    assert_eq!(timeout(PATIENCE, tree.wait()).await.unwrap().code, Some(0));
    assert!(is_alive(child));
    assert_eq!(state(tree.pid()), Some('Z'), "its number stays ours until the tree is gone");
    let (pid, report) = (tree.pid(), tree.end(PATIENCE).await);
    assert_eq!((report.killed, report.survivors), (1, 0));
    assert!(is_gone(child) && is_gone(pid));
}

/// The system call that ends one thread, not its process.
const SYS_EXIT: u32 = if cfg!(target_arch = "aarch64") { 93 } else { 60 };

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_whose_first_thread_has_ended_is_reaped_once_the_others_have() {
    let bench = Bench::new();
    // Perl is there wherever git is, and can end its first thread alone.
    let threads = "threads->create(sub { select(undef, undef, undef, 0.01) until -e q(go) })->detach;";
    let orphan = format!("setsid perl -Mthreads -e '{threads} syscall({SYS_EXIT}, 0)'");
    let busy = bench.sh(&format!("({orphan} &) ; echo $$ > ready; exec sleep 100")).await;
    bench.pid_in("ready").await;
    until("its first thread has ended", || !crate::support::zombies_of_ours().is_empty()).await;

    assert_eq!(bench.spawner.reap_orphans(), 0, "it cannot be reaped yet");
    assert!(!bench.spawner.orphans_reaped(Duration::from_millis(1)).await);
    std::fs::write(bench.dir.path().join("go"), "").unwrap();
    assert!(bench.spawner.orphans_reaped(PATIENCE).await);
    assert!(crate::support::zombies_of_ours().is_empty());
    busy.end(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_of_complaints_neither_blocks_nor_piles_up() {
    let bench = Bench::new();
    let mut tree = bench.sh("head -c 1048576 /dev/zero | tr '\\0' x >&2; printf '\\377the end' >&2").await;
    assert_eq!(timeout(PATIENCE, tree.wait()).await.unwrap().code, Some(0));
    let tail = tree.stderr_tail();
    assert!(tail.ends_with("xx\u{fffd}the end"), "{:?}", &tail[tail.len() - 20..]);
    // The one byte that is no text became a character of three.
    assert_eq!(tail.len(), 64 * 1024 + 2);
    tree.end(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_that_ended_by_themselves_are_reaped_and_nobody_else() {
    let bench = Bench::new();
    let leader = bench.sh("exit 5").await;
    let busy = bench.sh("(setsid sh -c 'exit 0' &) ; echo $$ > ready; exec sleep 100").await;
    let mut command = std::process::Command::new("/bin/true");
    #[expect(clippy::disallowed_methods, reason = "a command that other code of this process runs")]
    let mut command = command.spawn().unwrap();
    let other = command.id().cast_signed();
    bench.pid_in("ready").await;
    until("all three have ended", || crate::support::zombies_of_ours().len() == 3).await;

    assert_eq!(bench.spawner.reap_orphans(), 1);
    assert_eq!(bench.spawner.reap_orphans(), 0);
    assert_eq!((state(leader.pid()), state(other)), (Some('Z'), Some('Z')));
    assert_eq!(leader.end(PATIENCE).await.exit.code, Some(5));
    assert!(command.wait().unwrap().success());
    busy.end(PATIENCE).await;
}
