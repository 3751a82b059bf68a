//! Which layer wins, and what is said about it.

use std::time::Duration;

use super::{World, pair, shown};
use crate::config::options::OPTIONS;
use crate::config::{LogFormat, load};

#[test]
fn without_any_word_the_defaults_hold() {
    let world = World::new();
    let loaded = world.load();
    let config = &loaded.config;
    assert_eq!(config.listen.to_string(), "127.0.0.1:8800");
    assert_eq!(config.data_dir, world.path("data"));
    assert_eq!(config.default_agent.as_str(), "claude");
    assert_eq!(config.default_model, "sonnet");
    assert_eq!(config.default_timeout, Duration::from_secs(120));
    assert_eq!(config.kill_grace, Duration::from_millis(2_000));
    assert_eq!(config.upload_max_bytes, 8 << 30);
    assert_eq!(config.ledger_retention, None);
    assert_eq!(config.log_format, LogFormat::Auto);
    assert!(config.allow_cidrs.is_empty() && config.admin_token.is_none() && !config.demo);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(loaded.rows.iter().all(|row| row.origin.to_string() == "default"));
}

#[test]
fn every_option_has_its_row_in_the_order_of_the_table() {
    let loaded = World::new().load();
    let rows: Vec<_> = loaded.rows.iter().map(|row| row.key.as_str()).collect();
    let keys: Vec<_> = OPTIONS.iter().map(|option| option.spec().key).collect();
    assert_eq!(rows, keys);
}

#[test]
fn each_layer_overrides_the_one_before() {
    let mut world = World::new();
    assert_eq!(shown(&world.load(), "slots"), pair("8", "default"));
    world = world.with_file("# ours\nslots = 2\n");
    assert_eq!(shown(&world.load(), "slots"), pair("2", "clawdforge.toml:2"));
    world = world.with_env("CLAWDFORGE_SLOTS", "3");
    assert_eq!(shown(&world.load(), "slots"), pair("3", "env CLAWDFORGE_SLOTS"));
    world = world.with_flags(&["--slots", "4"]);
    assert_eq!(shown(&world.load(), "slots"), pair("4", "flag --slots"));
    assert_eq!(world.load().config.slots, 4);
}

#[test]
fn the_named_file_comes_before_the_local_one_and_that_before_the_systems() {
    let mut world = World::new().with_file_at("etc/clawdforge.toml", "slots = 1");
    assert!(shown(&world.load(), "slots").1.ends_with("etc/clawdforge.toml:1"));
    world = world.with_file("slots = 2");
    assert_eq!(shown(&world.load(), "slots"), pair("2", "clawdforge.toml:1"));
    world = world.with_file_at("env.toml", "slots = 3").with_env("CLAWDFORGE_CONFIG", "env.toml");
    assert_eq!(shown(&world.load(), "slots"), pair("3", "env.toml:1"));
    world = world.with_file_at("flag.toml", "slots = 4").with_flags(&["--config", "flag.toml"]);
    assert_eq!(shown(&world.load(), "slots"), pair("4", "flag.toml:1"));
}

#[test]
fn relative_paths_start_from_the_file_that_names_them() {
    let world = World::new()
        .with_file_at("conf/cf.toml", "data_dir = \"./store\"")
        .with_env("CLAWDFORGE_CONFIG", "conf/cf.toml");
    assert_eq!(world.load().config.data_dir, world.path("conf/store"));
    let world = world.with_env("CLAWDFORGE_DATA_DIR", "elsewhere");
    assert_eq!(world.load().config.data_dir, world.path("elsewhere"));
    let world = world.with_flags(&["--data-dir", "/srv/cf"]);
    assert_eq!(world.load().config.data_dir.to_str(), Some("/srv/cf"));
}

#[test]
fn an_empty_variable_says_nothing_but_an_empty_flag_clears() {
    let world = World::new()
        .with_file("allow_cidrs = [\"10.0.0.0/8\"]")
        .with_env("ALLOW_CIDRS", "")
        .with_env("CLAWDFORGE_ADMIN_TOKEN", "");
    assert_eq!(shown(&world.load(), "allow_cidrs"), pair("10.0.0.0/8", "clawdforge.toml:1"));
    let world = world.with_flags(&["--allow-cidrs", ""]);
    assert_eq!(shown(&world.load(), "allow_cidrs"), pair("-", "flag --allow-cidrs"));
}

#[test]
fn both_names_of_the_allow_list_work_and_must_agree() {
    let world = World::new().with_env("ALLOW_CIDRS", "10.0.0.0/8, 192.168.0.5 fd00::/8");
    assert_eq!(shown(&world.load(), "allow_cidrs"), pair("10.0.0.0/8, 192.168.0.5/32, fd00::/8", "env ALLOW_CIDRS"));
    let other = World::new().with_env("CLAWDFORGE_ALLOW_CIDRS", "10.0.0.0/8");
    assert_eq!(shown(&other.load(), "allow_cidrs"), pair("10.0.0.0/8", "env CLAWDFORGE_ALLOW_CIDRS"));
    let both = world.with_env("CLAWDFORGE_ALLOW_CIDRS", "10.0.0.0/8");
    assert_eq!(
        both.errors(),
        [
            "env CLAWDFORGE_ALLOW_CIDRS: `ALLOW_CIDRS` and `CLAWDFORGE_ALLOW_CIDRS` mean the same but differ; keep one of them"
        ]
    );
}

#[test]
fn a_switch_needs_no_value() {
    assert!(World::new().with_flags(&["--demo"]).load().config.demo);
    assert!(!World::new().with_env("CLAWDFORGE_DEMO", "1").with_flags(&["--demo=false"]).load().config.demo);
    assert!(World::new().with_file("demo = true").load().config.demo);
}

#[test]
fn sizes_take_binary_suffixes_in_every_layer() {
    for (text, bytes) in [("4096", 4_096), ("1KiB", 1_024), ("3 MiB", 3 << 20), ("1TiB", 1 << 40)] {
        assert_eq!(World::new().with_flags(&["--upload-max-bytes", text]).load().config.upload_max_bytes, bytes);
    }
    assert_eq!(World::new().with_file("upload_max_bytes = \"2GiB\"").load().config.upload_max_bytes, 2 << 30);
    let plain = World::new().with_file("upload_max_bytes = 1_048_576").load();
    assert_eq!(shown(&plain, "upload_max_bytes"), pair("1MiB", "clawdforge.toml:1"));
}

#[test]
fn the_bounds_themselves_are_allowed() {
    let text = "slots = 1024\nqueue_max = 0\nlisten = \"[::1]:0\"\nrun_retention_secs = 60\nkill_grace_ms = 60000\n\
                timeout_max_secs = 86400\ndefault_timeout_secs = 86400\nledger_retention_secs = 60\nsweep_interval_secs = 3600";
    assert!(load(&World::new().with_file(text).inputs).is_ok());
}
