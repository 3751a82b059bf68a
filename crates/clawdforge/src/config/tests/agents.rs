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

#[test]
fn a_sign_in_is_a_private_file_and_shown_as_a_path() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = "[agents.claude]\nsign_in = { X_TOKEN = \"token\" }\nhome_files = \"home\"\ntrust_workspace = true";
    let world = World::new().with_file(file).with_file_at("token", "sk-very-secret").with_file_at("home/x", "");
    let close = |mode| std::fs::set_permissions(world.path("token"), std::fs::Permissions::from_mode(mode)).unwrap();
    close(0o640);
    let errors = world.errors();
    assert!(errors.len() == 1 && errors[0].contains("(mode 640); run `chmod 600 "), "{errors:?}");
    assert!(!errors[0].contains("very-secret"));
    close(0o600);
    let loaded = world.load();
    let claude = &loaded.config.agents[&"claude".parse().unwrap()];
    assert!(claude.sign_in["X_TOKEN"].ends_with("token") && claude.trust_workspace);
    assert!(claude.home_files.as_ref().unwrap().ends_with("home"));
    let path = world.path("token").display().to_string();
    assert_eq!(shown(&loaded, "agents.claude.sign_in.X_TOKEN"), pair(&path, "clawdforge.toml:2"));
    assert!(!format!("{:?} {:?}", loaded.config, loaded.rows).contains("very-secret"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn a_secret_in_the_place_of_a_sign_in_file_is_not_repeated_and_one_given_twice_is_refused() {
    let world = World::new()
        .with_file("[agents.claude]\nenv = { A_KEY = \"1\" }\nsign_in = { A_KEY = \"x\", B_KEY = 7, \"a b\" = \"x\" }");
    let errors = world.errors().join("\n");
    for part in [
        "`agents.claude.sign_in.A_KEY` is given by `env` as well",
        "B_KEY` must be the path of a file",
        "`a b` cannot name",
    ] {
        assert!(errors.contains(part), "{errors}");
    }
    let world = World::new().with_file("[agents.claude]\nsign_in = \"sk-very-secret\"");
    assert!(!world.errors().join("").contains("very-secret"));
}

#[test]
fn folders_that_homes_replace_are_told_of_unless_the_home_is_shared() {
    let file = "[agents.codex]\nenv = { CODEX_HOME = \"/x\" }\nhome_files = \"none\"";
    let warnings = World::new().with_file(file).load().warnings;
    assert!(
        warnings.len() == 2 && warnings[0].starts_with("CODEX_HOME in an agent's `env` has no effect"),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("is no folder, and codex will not start"), "{warnings:?}");
    let warnings = World::new().with_file(file).with_flags(&["--agent-home", "shared"]).load().warnings;
    assert!(warnings.len() == 2 && warnings[0].contains("agents of all apps share one home"), "{warnings:?}");
    assert!(warnings[1].contains("`agents.codex.home_files` has no effect"), "{warnings:?}");
}
