//! What a dead server left is found and ended; what is not its own is left alone.

use std::time::{Duration, Instant};

use clawdforge_process::reaper::{Leftover, ReapReport, end_leftovers};
use clawdforge_process::{TreeIdentity, TreeMark};

use crate::server::Server;
use crate::support::{Bench, PATIENCE, is_alive, is_gone, marked, other_user, until};

/// A leader that does not heed its parent's death, with a daemon that heeds nothing.
const STUBBORN: &str = "trap '' TERM; echo $$ > leader; \
    (setsid sh -c 'trap \"\" TERM; echo $$ > daemon; while :; do sleep 1; done' &); while :; do sleep 1; done";

fn leftover(mark: &str, identity: Option<TreeIdentity>) -> Leftover {
    Leftover { mark: TreeMark::new(mark).unwrap(), identity }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_is_asked_to_end_when_its_server_is_killed() {
    let mut server =
        Server::start("trap 'echo 1 > asked; exit' TERM; echo $$ > leader; while :; do sleep 0.01; done").await;
    let leader = server.pid_in("leader").await;
    server.kill();
    until("the leader has ended", || !is_alive(leader)).await;
    assert_eq!(server.pid_in("asked").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_became_another_user_is_asked_as_well() {
    if other_user().is_none() {
        return;
    }
    let script = "trap 'echo 1 > asked; exit' TERM; id -u > user; echo $$ > leader; while :; do sleep 0.01; done";
    let mut server = Server::start_with_user(script).await;
    let leader = server.pid_in("leader").await;
    assert_eq!(server.pid_in("user").await.cast_unsigned(), other_user().unwrap().number());
    server.kill();
    until("the leader has ended", || !is_alive(leader)).await;
    assert_eq!(server.pid_in("asked").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_are_found_by_their_mark() {
    let mut server = Server::start(STUBBORN).await;
    let (leader, daemon) = (server.pid_in("leader").await, server.pid_in("daemon").await);
    server.kill();
    assert!(is_alive(leader) && is_alive(daemon));
    let report = end_leftovers(
        &[leftover("another", None), Leftover { mark: server.mark(), identity: None }],
        Duration::from_secs(1),
    )
    .await;
    assert!(report.ended >= 2 && report.survivors == 0, "{report:?}");
    assert!(!is_alive(leader) && !is_alive(daemon));
    assert_eq!(marked(&server.mark()), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_are_found_by_their_leaders_identity() {
    let script = "trap '' TERM; echo $$ > leader; sleep 100 & echo $! > child; while :; do sleep 1; done";
    let mut server = Server::start(script).await;
    let (leader, child) = (server.pid_in("leader").await, server.pid_in("child").await);
    server.kill();
    let report = end_leftovers(&[leftover("another", Some(server.identity()))], Duration::from_secs(1)).await;
    assert!(report.ended >= 2 && report.survivors == 0, "{report:?}");
    assert!(!is_alive(leader) && !is_alive(child));
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_may_end_by_themselves_first() {
    let mut server = Server::start(STUBBORN).await;
    server.pid_in("daemon").await;
    server.kill();
    end_leftovers(&[Leftover { mark: server.mark(), identity: None }], Duration::from_secs(1)).await;

    // The pipes of a dead server are broken, and a shell that complains into one dies of it.
    let polite = "(setsid sh -c 'trap \"echo 1 > asked; exit\" TERM; echo $$ > daemon; \
        while :; do sleep 0.01; done' 2> /dev/null &); while ! [ -s daemon ]; do :; done; exit 0";
    let mut server = Server::start(polite).await;
    let daemon = server.pid_in("daemon").await;
    server.kill();
    let began = Instant::now();
    let report = end_leftovers(&[Leftover { mark: server.mark(), identity: None }], PATIENCE).await;
    assert!(report.ended >= 1 && report.survivors == 0, "{report:?}");
    assert!(!is_alive(daemon) && began.elapsed() < PATIENCE / 2);
    assert_eq!(server.pid_in("asked").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_got_a_leaders_number_is_left_alone() {
    let bench = Bench::new();
    let tree = bench.sh("exec sleep 100").await;
    let truth = tree.identity().clone();
    let older = TreeIdentity { start_ticks: truth.start_ticks - 1, ..truth.clone() };
    let other_boot = TreeIdentity { boot_id: "6b1fd1fc-5d2b-4a3c-9a52-0d8f4b6d8f11".to_owned(), ..truth };
    let report = end_leftovers(&[leftover("x", Some(older)), leftover("y", Some(other_boot))], PATIENCE).await;
    assert_eq!(report, ReapReport { ended: 0, survivors: 0 });
    assert!(is_alive(tree.pid()));
    tree.end(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_living_are_left_alone_and_nothing_to_do_takes_no_time() {
    let bench = Bench::new();
    let tree = bench.sh("exec sleep 100").await;
    let began = Instant::now();
    let many: Vec<Leftover> = (0..1_000).map(|number| leftover(&format!("gone:{number}"), None)).collect();
    assert_eq!(end_leftovers(&many, PATIENCE).await, ReapReport::default());
    println!("looking for 1,000 leftovers took {:?}", began.elapsed());
    assert_eq!(end_leftovers(&[], PATIENCE).await, ReapReport::default());
    assert!(is_alive(tree.pid()) && began.elapsed() < PATIENCE / 2);
    let pid = tree.pid();
    tree.end(PATIENCE).await;
    assert!(is_gone(pid));
}
