//! Processes that fork faster than a pass over `/proc` takes.

use std::time::Duration;

use clawdforge_process::sandbox::start_chains;

use crate::support::{Bench, until};

/// Says that this process is to start the chains.
const PART: &str = "CLAWDFORGE_PROCESS_TEST_CHAINS";

/// Not a test of its own: in a process that another test started, this starts the chains.
#[test]
fn the_chains_of_other_tests() {
    #[expect(clippy::disallowed_methods, reason = "how the other test tells this process its part")]
    if std::env::var_os(PART).is_some() {
        start_chains(Duration::ZERO).unwrap();
        std::process::exit(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_of_processes_that_end_at_once_are_caught() {
    let bench = Bench::new();
    let mut spec = bench.spec(std::env::current_exe().unwrap(), &["--exact", "chains::the_chains_of_other_tests"]);
    spec.env.insert(PART.into(), "1".into());
    let mut tree = bench.spawner.spawn(spec).await.unwrap();
    tree.wait().await;
    until("they go on", || !bench.marked().is_empty()).await;
    let report = tree.end(Duration::ZERO).await;
    println!("ending chains of processes: {report:?}");
    assert_eq!(report.survivors, 0, "{report:?}");
    for _ in 0..20 {
        assert_eq!(bench.marked(), [0; 0]);
    }
}
