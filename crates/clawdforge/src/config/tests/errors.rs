//! What is refused, and that all of it is refused at once.

use std::os::unix::ffi::OsStringExt;

use super::World;

#[test]
fn errors_of_all_layers_come_together_with_their_origins() {
    let world = World::new()
        .with_file("listen = \"localhost:8800\"\nslot = 3\nqueue_max = -1\n[agents.claude]\ncomand = \"x\"\n")
        .with_env("CLAWDFORGE_SLOTS", "many")
        .with_env("CLAWDFORGE_LOG_FORMAT", "xml")
        .with_flags(&["--drain-deadline-secs", "3601"]);
    assert_eq!(
        world.errors(),
        [
            "clawdforge.toml:1: `listen` must be an IP address and port, such as `127.0.0.1:8800` or `[::]:8800`, not the string `localhost:8800`",
            "clawdforge.toml:2: unknown key `slot`; did you mean `slots`?",
            "clawdforge.toml:3: `queue_max` must be a whole number from 0 to 100000, not `-1`",
            "clawdforge.toml:5: unknown key `agents.claude.comand`; did you mean `command`?",
            "env CLAWDFORGE_LOG_FORMAT: `log_format` must be `auto`, `human` or `json`, not `xml`",
            "env CLAWDFORGE_SLOTS: `slots` must be a whole number from 1 to 1024, not `many`",
            "flag --drain-deadline-secs: `drain_deadline_secs` must be a whole number of seconds from 0 to 3600, not `3601`",
        ]
    );
}

#[test]
fn a_wrong_value_is_an_error_even_where_a_flag_hides_it() {
    let world = World::new().with_file("slots = 0").with_flags(&["--slots", "4"]);
    assert_eq!(world.errors(), ["clawdforge.toml:1: `slots` must be a whole number from 1 to 1024, not `0`"]);
}

#[test]
fn values_outside_their_bounds_are_refused() {
    let cases = [
        ("default_timeout_secs", "4"),
        ("timeout_max_secs", "86401"),
        ("silence_max_secs", "0"),
        ("slots", "1025"),
        ("queue_per_app_max", "100001"),
        ("agent_retries_max", "11"),
        ("upload_max_bytes", "0"),
        ("upload_max_bytes", "2TiB"),
        ("upload_max_bytes", "99999999999TiB"),
        ("run_retention_secs", "0"),
        ("run_retention_secs", "315360001"),
        ("ledger_retention_secs", "59"),
        ("sweep_interval_secs", "99999999999999999999999999999999999999999999"),
        ("default_agent", "a/b"),
        ("default_model", "--dangerous"),
        ("log_level", "=,="),
        ("log_level", "inof"),
        ("trusted_proxies", "10.0.0.0/33"),
    ];
    for (key, value) in cases {
        let errors = World::new().with_flags(&[&format!("--{}={value}", key.replace('_', "-"))]).errors();
        assert_eq!(errors.len(), 1, "{key} {value}: {errors:?}");
        assert!(errors[0].contains(&format!("`{key}` must ")), "{errors:?}");
    }
}

#[test]
fn the_file_is_held_to_its_shapes() {
    let cases = [
        ("slots = \"8\"", "the string `8`"),
        ("slots = 1.5", "a number with a fraction"),
        ("demo = \"true\"", "the string `true`"),
        ("listen = 8800", "`8800`"),
        ("data_dir = [\"a\"]", "a list"),
        ("data_dir = \"\"", "an empty string"),
        ("allow_cidrs = [1]", "a list with more than strings in it"),
        ("log_format = 2020-01-01", "a date"),
        ("[slots]", "a table"),
    ];
    for (text, found) in cases {
        let errors = World::new().with_file(text).errors();
        assert!(errors.len() == 1 && errors[0].ends_with(&format!(", not {found}")), "{text}: {errors:?}");
    }
}

#[test]
fn a_default_time_limit_above_the_maximum_is_an_error_at_the_value_that_was_set() {
    let message = "`default_timeout_secs` (120) must not be above `timeout_max_secs` (60)";
    let world = World::new().with_env("CLAWDFORGE_TIMEOUT_MAX_SECS", "60");
    assert_eq!(world.errors(), [format!("env CLAWDFORGE_TIMEOUT_MAX_SECS: {message}")]);
    let world = world.with_flags(&["--default-timeout-secs", "120"]);
    assert_eq!(world.errors(), [format!("flag --default-timeout-secs: {message}")]);
}

#[test]
fn broken_toml_names_its_lines_and_hides_nothing_else() {
    let world = World::new().with_file("slots = 1\nslots = 2\nlisten = = 3\n").with_env("CLAWDFORGE_SLOTS", "none");
    let errors = world.errors();
    assert!(errors.iter().any(|error| error.starts_with("clawdforge.toml:2: ")), "{errors:?}");
    assert!(errors.iter().any(|error| error.starts_with("clawdforge.toml:3: ")), "{errors:?}");
    assert!(errors.iter().any(|error| error.starts_with("env CLAWDFORGE_SLOTS: ")), "{errors:?}");
}

#[test]
fn a_named_file_must_be_there() {
    let by_env = World::new().with_env("CLAWDFORGE_CONFIG", "gone.toml").errors();
    assert!(by_env[0].starts_with("env CLAWDFORGE_CONFIG: cannot read gone.toml: "), "{by_env:?}");
    let by_flag = World::new().with_flags(&["--config", "gone.toml"]).errors();
    assert!(by_flag[0].starts_with("flag --config: cannot read gone.toml: "), "{by_flag:?}");
}

#[test]
fn a_file_that_is_no_file_or_no_text_or_too_large_is_refused() {
    let world = World::new().with_file_at("clawdforge.toml/inside", "");
    assert!(world.errors()[0].starts_with("clawdforge.toml: cannot be read: "));
    let large = "#".repeat(1024 * 1024 + 1);
    assert!(World::new().with_file(&large).errors()[0].contains("larger than 1048576 bytes"));
    let world = World::new();
    std::fs::write(world.path("clawdforge.toml"), b"\xff\xfe").unwrap();
    assert!(world.errors()[0].starts_with("clawdforge.toml: cannot be read: "));
}

#[test]
fn a_variable_that_is_no_text_is_refused() {
    let mut world = World::new();
    world.inputs.env.insert("CLAWDFORGE_DATA_DIR".into(), std::ffi::OsString::from_vec(vec![0xff]));
    assert_eq!(world.errors(), ["env CLAWDFORGE_DATA_DIR: must be UTF-8 text"]);
}
