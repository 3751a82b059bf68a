//! Where address and tokens come from, and which files are not trusted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clawdforge_client::commands::Exit;
use tempfile::TempDir;

use crate::cli::{Cli, Ended};
use crate::stub::{Asked, Stub};

const TOKENS: &str = r#"{"ok":true,"tokens":[]}"#;
const RUN_REPLY: &str = r#"{"ok":true,"result":"x","duration_ms":1,"stop_reason":null}"#;

fn home_with(text: &str, mode: u32) -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".config/clawdforge/cf.env");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    write(&file, text, mode);
    (home, file)
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn bearer(asked: &Asked) -> &str {
    asked.header("authorization").unwrap().strip_prefix("Bearer ").unwrap()
}

#[tokio::test]
async fn the_configuration_file_gives_address_and_tokens() {
    let stub = Stub::answering(200, RUN_REPLY).await;
    for mode in [0o600, 0o400] {
        let text = format!("# mine\nexport CLAWDFORGE_URL=\"{}\"\nCLAWDFORGE_TOKEN='cf_file'\nOTHER=x\n", stub.url);
        let (home, _) = home_with(&text, mode);
        assert_eq!(Cli::bare().home(home.path()).run(&["run", "hi"]).await.exit, Exit::Done);
    }
    assert!(stub.asked().iter().all(|asked| bearer(asked) == "cf_file"));
}

#[tokio::test]
async fn an_option_wins_over_the_environment_and_that_over_the_file() {
    let (wanted, other) = (Stub::answering(200, RUN_REPLY).await, Stub::answering(200, RUN_REPLY).await);
    let (home, _) = home_with(&format!("CLAWDFORGE_URL={}\nCLAWDFORGE_TOKEN=cf_file\n", other.url), 0o600);
    let token = home.path().join("token");
    write(&token, "cf_option\n", 0o600);

    let by_env = || Cli::bare().home(home.path()).env("CLAWDFORGE_URL", &wanted.url).env("CLAWDFORGE_TOKEN", "cf_env");
    assert_eq!(by_env().run(&["run", "hi"]).await.exit, Exit::Done);
    let token = token.to_str().unwrap();
    let with_file = by_env().env("CLAWDFORGE_URL", &other.url);
    assert_eq!(with_file.run(&["run", "hi", "--url", &wanted.url, "--token-file", token]).await.exit, Exit::Done);
    let bearers: Vec<String> = wanted.asked().iter().map(|asked| bearer(asked).to_owned()).collect();
    assert_eq!(bearers, ["cf_env", "cf_option"]);
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn an_empty_variable_counts_as_unset() {
    let stub = Stub::answering(200, RUN_REPLY).await;
    let (home, _) = home_with(&format!("CLAWDFORGE_URL={}\nCLAWDFORGE_TOKEN=cf_file\n", stub.url), 0o600);
    let cli = Cli::bare().home(home.path()).env("CLAWDFORGE_TOKEN", "").env("CLAWDFORGE_URL", "");
    assert_eq!(cli.run(&["run", "hi"]).await.exit, Exit::Done);
    assert_eq!(bearer(&stub.only()), "cf_file");
}

#[tokio::test]
async fn a_variable_can_name_a_token_file() {
    let stub = Stub::answering(200, TOKENS).await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("admin");
    write(&file, "  cfadmin_file\n", 0o400);
    let cli = Cli::bare().env("CLAWDFORGE_ADMIN_TOKEN_FILE", file.to_str().unwrap()).env("CLAWDFORGE_URL", &stub.url);
    assert_eq!(cli.run(&["token", "list"]).await.exit, Exit::Done);
    assert_eq!(bearer(&stub.only()), "cfadmin_file");
}

#[tokio::test]
async fn each_verb_sends_only_the_token_it_needs() {
    let stub = Stub::with(|asked| {
        let body = if asked.path == "/run" { RUN_REPLY } else { TOKENS };
        crate::stub::reply(200, body)
    })
    .await;
    assert_eq!(Cli::of(&stub).run(&["run", "hi"]).await.exit, Exit::Done);
    assert_eq!(Cli::of(&stub).run(&["token", "list"]).await.exit, Exit::Done);
    let bearers: Vec<String> = stub.asked().iter().map(|asked| bearer(asked).to_owned()).collect();
    assert_eq!(bearers, [crate::stub::APP_TOKEN, crate::stub::ADMIN_TOKEN]);
}

async fn with_file(text: &str, mode: u32) -> (Ended, String) {
    let stub = Stub::answering(200, RUN_REPLY).await;
    let (home, file) = home_with(text, mode);
    // The environment has all that is needed: the file is refused all the same.
    let ended = Cli::of(&stub).home(home.path()).run(&["run", "hi"]).await;
    assert!(stub.asked().is_empty());
    (ended, file.display().to_string())
}

#[tokio::test]
async fn a_file_others_can_read_is_refused_with_what_to_do() {
    for mode in [0o644, 0o640, 0o660, 0o700] {
        let (ended, file) = with_file("CLAWDFORGE_TOKEN=cf_hidden\n", mode).await;
        assert_eq!(ended.exit, Exit::Failed);
        for part in [file.as_str(), &format!("{mode:04o}"), "0600", "chmod 600"] {
            assert!(ended.stderr.contains(part), "{part} is not in {ended:?}");
        }
    }
}

#[tokio::test]
async fn a_faulty_line_is_named_by_number_and_never_shown() {
    let (ended, file) = with_file("# ok\nCLAWDFORGE_TOKEN=cf_hidden and more\n", 0o600).await;
    assert_eq!(ended.exit, Exit::Failed);
    assert!(ended.stderr.contains(&format!("{file} line 2")), "{ended:?}");
    assert!(!ended.stderr.contains("cf_hidden"), "{ended:?}");
}

#[tokio::test]
async fn a_missing_token_exits_with_3_and_says_how_to_get_one() {
    let stub = Stub::answering(200, RUN_REPLY).await;
    for (args, hint) in [
        (&["run", "hi"][..], "CLAWDFORGE_TOKEN"),
        (&["upload", "Cargo.toml"], "CLAWDFORGE_TOKEN"),
        (&["token", "list"], "CLAWDFORGE_ADMIN_TOKEN"),
        (&["token", "mint", "a"], "CLAWDFORGE_ADMIN_TOKEN"),
        (&["admin", "token-revoke", "a"], "CLAWDFORGE_ADMIN_TOKEN"),
        (&["ledger", "list"], "CLAWDFORGE_ADMIN_TOKEN"),
        (&["ledger", "export", "--format", "csv"], "CLAWDFORGE_ADMIN_TOKEN"),
    ] {
        let ended = Cli::bare().env("CLAWDFORGE_URL", &stub.url).run(args).await;
        assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::TokenMissing, ""), "{args:?}");
        assert!(ended.stderr.contains(hint), "{ended:?}");
    }
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn unusable_settings_are_refused_without_showing_them() {
    let home = tempfile::tempdir().unwrap();
    let empty = home.path().join("empty");
    write(&empty, "\n", 0o600);
    let (empty, missing) = (empty.to_str().unwrap(), "/nonexistent/token");
    let run = |cli: Cli, args: &'static [&'static str]| async move { cli.run(args).await };

    let ended = run(Cli::bare().env("CLAWDFORGE_TOKEN", "cf_hidden\nx"), &["run", "hi"]).await;
    assert_eq!(ended.exit, Exit::Failed);
    assert!(!ended.stderr.contains("cf_hidden"), "{ended:?}");

    let ended = run(Cli::bare(), &["healthz", "--url", "http://me:hunter2@forge"]).await;
    assert_eq!(ended.exit, Exit::Usage);
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");

    for path in [empty, missing] {
        let ended = Cli::bare().run(&["run", "hi", "--token-file", path]).await;
        assert_eq!(ended.exit, Exit::Failed);
        assert!(ended.stderr.contains(path), "{ended:?}");
    }
}
