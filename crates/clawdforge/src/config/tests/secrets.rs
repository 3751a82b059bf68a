//! Secrets arrive, and never come out again.

use clawdforge_core::secret::ExposeSecret;

use super::{World, pair, shown};
use crate::config::{Loaded, load, show};

const TOKEN: &str = "cfadmin_correct-horse-battery";

/// Everything that is ever printed of a configuration.
fn printed(loaded: &Loaded) -> String {
    let mut out = Vec::new();
    show::table(loaded, &mut out).unwrap();
    show::json(loaded, &mut out).unwrap();
    format!("{}{loaded:#?}{:?}", String::from_utf8(out).unwrap(), loaded.warnings)
}

fn token(loaded: &Loaded) -> Option<&str> {
    loaded.config.admin_token.as_ref().map(|token| token.expose_secret())
}

#[test]
fn nothing_printed_holds_a_secret() {
    let world = World::new()
        .with_env("CLAWDFORGE_ADMIN_TOKEN", TOKEN)
        .with_env("ANTHROPIC_API_KEY", "sk-of-the-environment")
        .with_file("[agents.claude]\nenv = { ANTHROPIC_AUTH_TOKEN = \"sk-of-the-file\" }");
    let loaded = world.load();
    assert_eq!(token(&loaded), Some(TOKEN));
    let printed = printed(&loaded);
    for secret in [TOKEN, "sk-of-the-environment", "sk-of-the-file"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
    assert_eq!(shown(&loaded, "admin_token"), pair("****", "env CLAWDFORGE_ADMIN_TOKEN"));
    assert_eq!(shown(&loaded, "agents.claude.env.ANTHROPIC_AUTH_TOKEN"), pair("****", "clawdforge.toml:2"));
}

#[test]
fn an_error_about_a_secret_does_not_repeat_it() {
    for bad in ["too-short", "long enough but with spaces", "schlüsselschlüssel"] {
        let errors = World::new().with_env("CLAWDFORGE_ADMIN_TOKEN", bad).errors();
        assert_eq!(errors, ["env CLAWDFORGE_ADMIN_TOKEN: `admin_token` must be at least 16 visible ASCII characters"]);
    }
    let broken = World::new().with_file("[agents.claude.env]\nKEY = \"sk-half-written\nOTHER = [\"sk-list\"]\n");
    assert!(!load(&broken.inputs).unwrap_err().to_string().contains("sk-"));
    let wrong = World::new().with_file("[agents.claude.env]\nKEY = [\"sk-list\"]\n");
    assert_eq!(wrong.errors(), ["clawdforge.toml:2: `agents.claude.env.KEY` must be a string"]);
}

#[test]
fn the_admin_token_may_come_from_a_file_named_anywhere() {
    let world = World::new()
        .with_file_at("conf/clawdforge.toml", "admin_token_file = \"token\"")
        .with_file_at("conf/token", &format!("{TOKEN}\n"))
        .with_flags(&["--config", "conf/clawdforge.toml"]);
    let loaded = world.load();
    assert_eq!(token(&loaded), Some(TOKEN));
    assert_eq!(shown(&loaded, "admin_token"), pair("****", "conf/clawdforge.toml:1"));
    assert!(!printed(&loaded).contains(TOKEN));
}

#[test]
fn a_token_and_a_token_file_must_agree() {
    let world = World::new()
        .with_file_at("token", TOKEN)
        .with_env("CLAWDFORGE_ADMIN_TOKEN_FILE", "token")
        .with_env("CLAWDFORGE_ADMIN_TOKEN", TOKEN);
    assert_eq!(token(&world.load()), Some(TOKEN));
    let world = world.with_env("CLAWDFORGE_ADMIN_TOKEN", "another-token-of-ours");
    assert_eq!(
        world.errors(),
        ["env CLAWDFORGE_ADMIN_TOKEN_FILE: `admin_token` and the text in `admin_token_file` differ; keep one of them"]
    );
}

#[test]
fn a_token_file_that_is_missing_or_empty_is_an_error() {
    let world = World::new().with_env("CLAWDFORGE_ADMIN_TOKEN_FILE", "token");
    assert!(world.errors()[0].starts_with("env CLAWDFORGE_ADMIN_TOKEN_FILE: `admin_token_file`: cannot read "));
    let world = world.with_file_at("token", " \n");
    assert!(world.errors()[0].ends_with("must be at least 16 visible ASCII characters"));
}

#[test]
fn the_admin_token_is_neither_a_flag_nor_a_key_of_the_file() {
    let command = crate::config::serve_args(clap::Command::new("serve"));
    assert!(command.try_get_matches_from(["serve", "--admin-token", TOKEN]).is_err());
    let errors = World::new().with_file(&format!("admin_token = \"{TOKEN}\"")).errors();
    assert_eq!(
        errors,
        [
            "clawdforge.toml:1: `admin_token` does not belong into this file; set `CLAWDFORGE_ADMIN_TOKEN`, or name a file with `admin_token_file`"
        ]
    );
}

#[test]
fn agents_never_see_a_variable_of_ours() {
    let world = World::new()
        .with_env("CLAWDFORGE_ADMIN_TOKEN", TOKEN)
        .with_env("CLAWDFORGE_TOKEN", "cf_x")
        .with_env("ALLOW_CIDRS", "10.0.0.0/8")
        .with_env("ANTHROPIC_API_KEY", "k")
        .with_env("ANTHROPIC_MODEL", "m")
        .with_env("PATH", "/bin");
    let environment = world.load().config.environment;
    assert_eq!(environment.get("PATH"), Some("/bin".as_ref()));
    assert_eq!(environment.get("CLAWDFORGE_TOKEN"), None);
    let selected = environment.select(["ANTHROPIC_*", "CLAWDFORGE_*", "ALLOW_CIDRS", "A*", "PAT", "PATH"]);
    let names: Vec<_> = selected.keys().map(|name| name.to_str().unwrap()).collect();
    assert_eq!(names, ["ANTHROPIC_API_KEY", "ANTHROPIC_MODEL", "PATH"]);
}
