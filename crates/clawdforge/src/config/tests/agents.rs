//! The `[agents.<name>]` tables.

use std::path::Path;

use clawdforge_core::secret::ExposeSecret;

use super::{World, pair, shown};
use crate::config::Dialect;

#[test]
fn a_full_table_is_understood_and_shown_with_its_lines() {
    let world = World::new().with_file_at(
        "conf/cf.toml",
        r#"
[agents.claude-next]
dialect = "claude"
command = "bin/claude"
args = ["--verbose", "a b,c"]
pass_env = ["ANTHROPIC_*", "AWS_REGION"]
default_model = "opus"

[agents.claude-next.env]
ANTHROPIC_BASE_URL = "http://127.0.0.1:9"

[agents.demo]
"#,
    );
    let loaded = world.with_flags(&["--config", "conf/cf.toml"]).load();
    let names: Vec<_> = loaded.config.agents.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["claude-next", "demo"]);
    let agent = &loaded.config.agents[&"claude-next".parse().unwrap()];
    assert_eq!(agent.dialect, Dialect::Claude);
    assert!(agent.command.as_ref().unwrap().ends_with("conf/bin/claude"));
    assert_eq!(agent.args, ["--verbose", "a b,c"]);
    assert_eq!(agent.pass_env, ["ANTHROPIC_*", "AWS_REGION"]);
    assert_eq!(agent.default_model.as_deref(), Some("opus"));
    assert_eq!(agent.env["ANTHROPIC_BASE_URL"].expose_secret(), "http://127.0.0.1:9");
    assert_eq!(shown(&loaded, "agents.claude-next.default_model"), pair("opus", "conf/cf.toml:7"));
    assert_eq!(shown(&loaded, "agents.claude-next.env.ANTHROPIC_BASE_URL"), pair("****", "conf/cf.toml:10"));
}

#[test]
fn an_agent_named_like_a_dialect_needs_no_dialect() {
    let loaded = World::new().with_file("[agents.demo]\n[agents.claude]\ncommand = \"claude\"").load();
    assert_eq!(loaded.config.agents[&"demo".parse().unwrap()].dialect, Dialect::Demo);
    let claude = &loaded.config.agents[&"claude".parse().unwrap()];
    assert_eq!(claude.command.as_deref(), Some(Path::new("claude")), "a bare name is looked for on PATH later");
}

#[test]
fn an_agent_may_have_limits_and_a_model_option_of_its_own() {
    let loaded = World::new()
        .with_file("[agents.goose]\nmodel_option = \"engine\"\nsilence_max_secs = 900\ntimeout_max_secs = 600")
        .load();
    let goose = &loaded.config.agents[&"goose".parse().unwrap()];
    assert_eq!(goose.model_option.as_deref(), Some("engine"));
    assert_eq!(goose.limits.silence_max, Some(std::time::Duration::from_secs(900)));
    assert_eq!(goose.limits.turn_max, Some(std::time::Duration::from_secs(600)));
}

#[test]
fn everything_wrong_in_a_table_is_reported_with_its_line() {
    let world = World::new().with_file(
        r#"[agents."no name"]
[agents.mine]
[agents.claude]
dialect = "klingon"
command = ""
args = "--verbose"
pass_env = ["*", "A B"]
default_model = "-x"
env = { "1X" = "a" }
[agents]
other = 3
"#,
    );
    let errors = world.errors();
    let expected = [
        "clawdforge.toml:1: `no name`: an agent name has 1 to 64 characters",
        "clawdforge.toml:2: `agents.mine` needs a `dialect`: `claude`, `demo` or `acp`",
        "clawdforge.toml:4: `agents.claude.dialect` must be `claude`, `demo` or `acp`, not the string `klingon`",
        "clawdforge.toml:5: `agents.claude.command` must be the name or the path of a program",
        "clawdforge.toml:6: `agents.claude.args` must be a list of strings, not the string `--verbose`",
        "clawdforge.toml:7: `agents.claude.pass_env` must be a list of variable names",
        "clawdforge.toml:8: `agents.claude.default_model` must be a model's name",
        "clawdforge.toml:9: `agents.claude.env`: `1X` cannot name a variable",
        "clawdforge.toml:11: `agents.other` must be a table",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, beginning) in errors.iter().zip(expected) {
        assert!(error.starts_with(beginning), "{error}");
    }
}

#[test]
fn agents_that_are_no_tables_are_refused() {
    assert_eq!(
        World::new().with_file("agents = 3").errors(),
        ["clawdforge.toml:1: `agents` must be tables such as `[agents.claude]`"]
    );
    assert_eq!(
        World::new().with_file("agents.claude = 3").errors(),
        ["clawdforge.toml:1: `agents.claude` must be a table"]
    );
}
