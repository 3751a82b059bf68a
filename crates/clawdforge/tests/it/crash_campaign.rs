//! The short form of the crash campaign; the long one is `cargo xtask crash` (docs/reliability.md).

use clawdforge_testkit::crash::{Options, any_seed, run};

use crate::setup;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_accepted_is_lost_or_done_twice_or_left_behind_however_often_the_service_is_killed()
-> anyhow::Result<()> {
    let options = Options { kills: 10, turns: 200, seed: any_seed() };
    let report = run(setup(), options, |line| println!("{line}")).await?;
    assert!(report.faults.is_empty(), "seed {}: {:#?}\n{report}", options.seed, report.faults);
    assert!(report.kills() >= options.kills && report.accepted >= options.turns, "{report}");
    // The kills met turns in every state, or the campaign would prove little.
    assert!(report.outcomes["completed"] > 0 && report.outcomes["interrupted"] > 0 && report.promised > 0, "{report}");
    println!("{report}");
    Ok(())
}
