//! What works but rarely as meant.

use super::World;

#[test]
fn a_variable_that_looks_like_ours_but_does_nothing_is_named() {
    let world = World::new().with_env("CLAWDFORGE_SLOT", "3").with_env("CLAWDFORGE_WHATEVER", "x");
    assert_eq!(
        world.load().warnings,
        [
            "env CLAWDFORGE_SLOT: no such option, ignored; did you mean `CLAWDFORGE_SLOTS`?",
            "env CLAWDFORGE_WHATEVER: no such option, ignored",
        ]
    );
}

#[test]
fn the_clients_and_the_tests_variables_are_left_alone() {
    let names = ["CLAWDFORGE_URL", "CLAWDFORGE_TOKEN", "CLAWDFORGE_MCP_LOG", "CLAWDFORGE_TEST_X", "PATH"];
    let world = names.iter().fold(World::new(), |world, name| world.with_env(name, "x"));
    assert!(world.load().warnings.is_empty());
}

#[test]
fn the_first_versions_session_names_are_accepted_for_later() {
    let world = World::new()
        .with_env("CLAWDFORGE_SESSION_TTL_SECS", "3600")
        .with_env("CLAWDFORGE_SESSION_HARD_TTL_SECS", "86400");
    assert_eq!(
        world.load().warnings,
        [
            "env CLAWDFORGE_SESSION_HARD_TTL_SECS: accepted; takes effect with sessions",
            "env CLAWDFORGE_SESSION_TTL_SECS: accepted; takes effect with sessions",
        ]
    );
}

#[test]
fn listening_to_everybody_while_allowing_nobody_is_a_risk() {
    let world = World::new().with_flags(&["--listen", "0.0.0.0:8800"]);
    let warnings = world.load().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("only loopback can reach it"), "{warnings:?}");
    let world = world.with_env("ALLOW_CIDRS", "10.0.0.0/8");
    assert!(world.load().warnings.is_empty());
}

#[test]
fn a_drain_shorter_than_the_grace_of_one_agent_is_a_risk() {
    let warnings = World::new().with_flags(&["--drain-deadline-secs", "1"]).load().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("`drain_deadline_secs`"), "{warnings:?}");
}
