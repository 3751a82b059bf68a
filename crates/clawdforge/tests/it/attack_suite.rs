//! The attack suite, at every level that this machine offers: `cargo xtask attack` prints the same table, and
//! docs/security/attack-suite.md keeps it.

use clawdforge_core::isolation::Isolation;
use clawdforge_testkit::attack::{Ground, Report, Weakness, run};
use rustix::process::geteuid;

use crate::setup;

/// What came of it; `None` where this machine does not offer that level.
async fn report(level: Isolation, weakness: Weakness) -> anyhow::Result<Option<Report>> {
    if level == Isolation::Uid && !geteuid().is_root() {
        return Ok(None);
    }
    run(setup(), Ground::here(level), weakness).await
}

async fn holds(level: Isolation) -> anyhow::Result<()> {
    let Some(report) = report(level, Weakness::None).await? else { return Ok(()) };
    assert_holds(&report);
    Ok(())
}

/// What a row expects came, and what is open is said by the service itself.
fn assert_holds(report: &Report) {
    assert_eq!(report.wrong(), Vec::<&str>::new(), "\n{report}");
    assert_eq!(report.unpublished(), Vec::<&str>::new(), "the service names {:?}", report.published);
}

#[tokio::test]
async fn without_isolation_every_attack_is_one() -> anyhow::Result<()> {
    holds(Isolation::Off).await
}

#[tokio::test]
async fn what_landlock_promises_holds() -> anyhow::Result<()> {
    holds(Isolation::Landlock).await
}

#[tokio::test]
async fn what_users_promise_holds() -> anyhow::Result<()> {
    holds(Isolation::Uid).await
}

#[tokio::test]
async fn what_namespaces_promise_holds() -> anyhow::Result<()> {
    holds(Isolation::Namespaces).await
}

#[tokio::test]
async fn what_namespaces_promise_without_users_holds() -> anyhow::Result<()> {
    let ground = Ground { users: false, ..Ground::here(Isolation::Namespaces) };
    let Some(report) = run(setup(), ground, Weakness::None).await? else { return Ok(()) };
    assert_holds(&report);
    Ok(())
}

#[tokio::test]
async fn a_configuration_with_a_hole_is_caught() -> anyhow::Result<()> {
    for level in [Isolation::Landlock, Isolation::Uid, Isolation::Namespaces] {
        let Some(report) = report(level, Weakness::ReadableBackup).await? else { continue };
        assert_eq!(report.wrong(), ["find_database_secret", "find_elsewhere"], "{level}\n{report}");
        assert!(report.to_string().contains("NOT"));
    }
    Ok(())
}

#[tokio::test]
async fn a_level_that_is_less_than_it_is_said_to_be_is_caught() -> anyhow::Result<()> {
    let ground = Ground::here(Isolation::Landlock);
    let Some(report) = run(setup(), ground, Weakness::Overrated).await? else { return Ok(()) };
    // As if somebody had called it namespaces with users.
    let wrong = report.judged_as(Ground { level: Isolation::Namespaces, users: true, ..ground }).wrong();
    for row in ["change_database_mode", "stat_database", "many_threads"] {
        assert!(wrong.contains(&row), "{row}: {wrong:?}");
    }
    Ok(())
}
