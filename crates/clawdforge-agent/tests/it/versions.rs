//! Versions are asked once and remembered.

use clawdforge_agent::AgentDriver;
use clawdforge_agent::demo::VERSION;
use clawdforge_agent::version::VersionError;

use crate::support::{Bench, soon};

#[tokio::test]
async fn a_version_is_asked_once_and_known_after_a_restart() {
    let bench = Bench::demo();
    let driver = bench.driver();
    assert_eq!(driver.presence().version, None);
    assert_eq!(driver.refresh_version().await.unwrap(), VERSION);
    assert_eq!(driver.presence().version.as_deref(), Some(VERSION));
    assert_eq!(bench.driver().presence().version.as_deref(), Some(VERSION), "a new memory reads the file");
    bench.nothing_is_left();
}

#[tokio::test]
async fn a_program_that_says_nothing_has_no_version() {
    let bench = Bench::script("echo 'it is broken' >&2; exit 3");
    let driver = bench.driver();
    let error = soon(driver.refresh_version()).await.unwrap_err();
    assert!(matches!(error, VersionError::NoAnswer { .. }), "{error:?}");
    assert_eq!(error.to_string(), "it did not say its version (exit code 3): it is broken");
    let presence = driver.presence();
    assert!(presence.program.is_some() && presence.version.is_none());
}

#[tokio::test]
async fn a_missing_program_is_not_present() {
    let mut bench = Bench::demo();
    bench.profile.own_program = None;
    let driver = bench.driver();
    assert_eq!(driver.presence().program, None);
    assert!(matches!(driver.refresh_version().await, Err(VersionError::Missing(_))));
}
