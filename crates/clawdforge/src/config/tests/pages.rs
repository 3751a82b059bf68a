//! What is generated from the table: help, example, reference, `config show`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::Command;
use serde_json::{Value as Json, json};

use super::World;
use crate::config::options::{OPTIONS, Reach};
use crate::config::{config_command, load, reference, run_config_command, serve_args};

/// Runs `clawdforge config …`; what it wrote to standard output and to standard error.
fn run(world: &World, arguments: &[&str]) -> anyhow::Result<(String, String)> {
    let matches = config_command().try_get_matches_from([&["config"], arguments].concat())?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    run_config_command(&matches, world.inputs.clone(), &mut out, &mut err)?;
    Ok((String::from_utf8(out)?, String::from_utf8(err)?))
}

#[test]
fn the_committed_reference_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/configuration.md");
    let mut page = Vec::new();
    reference::page(&mut page).unwrap();
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed.as_bytes() == page,
        "{} is stale; run `cargo run -- config reference > docs/reference/configuration.md`",
        path.display()
    );
}

#[test]
fn the_example_file_with_everything_switched_on_is_a_valid_file() {
    let (example, _) = run(&World::new(), &["example"]).unwrap();
    assert!(load(&World::new().with_file(&example).inputs).is_ok(), "as it is printed");
    let switched_on: Vec<_> = example
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .map(|line| if line.starts_with("admin_token_file") { "admin_token_file = \"token\"" } else { line })
        .map(|line| if line.starts_with("sign_in = ") { "sign_in = { X_TOKEN = \"token\" }" } else { line })
        .map(|line| if line.starts_with("isolation_users") { "isolation_users = \"20000-29999\"" } else { line })
        .map(|line| if line.starts_with("agent_memory_max") { "agent_memory_max = \"4GiB\"" } else { line })
        .collect();
    let world = World::new().with_file(&switched_on.join("\n")).with_file_at("token", "0123456789abcdef");
    std::fs::set_permissions(world.path("token"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let loaded = world.load();
    for option in OPTIONS {
        let spec = option.spec();
        let row = loaded.rows.iter().find(|row| row.key == spec.key).unwrap();
        assert_ne!(row.origin.to_string(), "default", "{} is not in the example", spec.key);
    }
    assert_eq!(loaded.config.agents.len(), 1);
}

#[test]
fn help_shows_every_flag_with_its_default_and_variable() {
    let help = serve_args(Command::new("serve")).render_long_help().to_string();
    for option in OPTIONS.iter().filter(|option| option.spec().reach == Reach::Everywhere) {
        let spec = option.spec();
        assert!(help.contains(&format!("--{}", spec.flag())), "{}", spec.key);
        assert!(help.contains(&format!("[env: {}]", spec.env[0])), "{}", spec.key);
        assert!(spec.default.is_empty() || help.contains(&format!("[default: {}]", spec.default)), "{}", spec.key);
    }
    assert!(help.contains("--config <FILE>") && !help.contains("--admin-token <"));
}

#[test]
fn the_command_line_is_well_formed() {
    serve_args(Command::new("serve")).debug_assert();
    config_command().debug_assert();
}

#[test]
fn names_are_declared_once_and_follow_their_key() {
    let mut names = std::collections::HashSet::new();
    for option in OPTIONS {
        let spec = option.spec();
        assert!(names.insert(spec.key) && spec.env.iter().all(|name| names.insert(name)), "{}", spec.key);
        assert!(spec.help.ends_with('.') && !option.expected().is_empty(), "{}", spec.key);
    }
}

#[test]
fn show_prints_a_table_and_keeps_warnings_apart() {
    let world = World::new().with_file("slots = 2").with_env("CLAWDFORGE_SLOT", "3");
    let (out, err) = run(&world, &["show", "--drain-deadline-secs", "9"]).unwrap();
    let words = |key: &str| -> Vec<String> {
        let line = out.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(words("OPTION"), ["OPTION", "VALUE", "ORIGIN"]);
    assert_eq!(words("slots"), ["slots", "2", "clawdforge.toml:1"]);
    assert_eq!(words("drain_deadline_secs"), ["drain_deadline_secs", "9", "flag", "--drain-deadline-secs"]);
    assert_eq!(words("admin_token"), ["admin_token", "-", "default"]);
    assert_eq!(words("ledger_retention_secs"), ["ledger_retention_secs", "0", "(for", "ever)", "default"]);
    assert!(err.starts_with("warning: env CLAWDFORGE_SLOT: "), "{err}");
}

#[test]
fn show_as_json_keeps_types_and_origins() {
    let world = World::new().with_file("\nslots = 2").with_env("ALLOW_CIDRS", "10.0.0.1").with_env("CLAWDFORGE_X", "1");
    let (out, err) = run(&world, &["show", "--json", "--demo"]).unwrap();
    assert!(err.is_empty());
    let document: Json = serde_json::from_str(&out).unwrap();
    let option = |key: &str| document["options"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap();
    assert_eq!(
        option("slots"),
        &json!({"key": "slots", "value": 2, "origin": {"layer": "file", "path": "clawdforge.toml", "line": 2}})
    );
    assert_eq!(option("demo")["value"], json!(true));
    assert_eq!(option("demo")["origin"], json!({"layer": "flag", "name": "--demo"}));
    assert_eq!(option("allow_cidrs")["value"], json!(["10.0.0.1/32"]));
    assert_eq!(option("allow_cidrs")["origin"], json!({"layer": "env", "name": "ALLOW_CIDRS"}));
    assert_eq!(option("admin_token")["value"], Json::Null);
    assert_eq!(option("upload_max_bytes")["value"], json!(8_589_934_592_u64));
    assert_eq!(document["warnings"], json!(["env CLAWDFORGE_X: no such option, ignored"]));
}

#[test]
fn show_fails_with_everything_that_is_wrong() {
    let error = run(&World::new().with_file("slots = 0\nx = 1"), &["show"]).unwrap_err().to_string();
    assert!(error.starts_with("the configuration has 2 errors:\n  clawdforge.toml:1: "), "{error}");
}
