//! `token …` and its older spelling.

use clawdforge_client::commands::Exit;
use serde_json::json;

use crate::cli::{Cli, usage_error};
use crate::streams::refused;
use crate::stub::{ADMIN_TOKEN, Stub, reply};

const MINTED: &str = r#"{"ok":true,"name":"app","token":"cf_new","ip_cidrs":["10.0.0.0/8","::1/128"]}"#;

#[tokio::test]
async fn minting_prints_the_token_and_says_that_it_is_shown_once() {
    let stub = Stub::answering(200, MINTED).await;
    for args in [&["token", "mint"][..], &["admin", "token-mint"]] {
        let args = [args, &["app", "--ip-cidrs", "10.0.0.0/8, ::1/128"]].concat();
        let ended = Cli::of(&stub).run(&args).await;
        assert_eq!((ended.exit, ended.stdout), (Exit::Done, format!("{MINTED}\n")));
        assert!(ended.stderr.contains("only this once") && !ended.stderr.contains("cf_new"), "{}", ended.stderr);
    }
    for asked in stub.asked() {
        assert_eq!(asked.header("authorization"), Some(format!("Bearer {ADMIN_TOKEN}").as_str()));
        assert_eq!(asked.json(), json!({"name": "app", "ip_cidrs": ["10.0.0.0/8", "::1/128"]}));
    }
    assert_eq!(stub.asked().len(), 2);
}

#[tokio::test]
async fn listing_prints_what_the_service_says() {
    let body = r#"{"ok":true,"tokens":[{"name":"a","ip_cidrs":[],"created_at":7,"later":true}]}"#;
    let stub = Stub::answering(200, body).await;
    for args in [&["token", "list"], &["admin", "token-list"]] {
        let ended = Cli::of(&stub).run(args).await;
        assert_eq!((ended.exit, ended.stdout), (Exit::Done, format!("{body}\n")));
    }
}

#[tokio::test]
async fn pages_and_one_token_are_those_of_v1() {
    let token = r#"{"name":"a","ip_cidrs":[],"network":null,"mcp_servers":"any","created_at":"t","later":true}"#;
    let page = format!(r#"{{"data":[{token}],"next_cursor":"a"}}"#);
    let body = page.clone();
    let stub = Stub::with(move |asked| match asked.path.as_str() {
        "/v1/tokens" => reply(200, &body),
        "/v1/tokens/a" => reply(200, token),
        _ => refused("not_found", 404, None),
    })
    .await;
    for (args, printed) in [
        (&["token", "list", "--limit", "1"][..], page.as_str()),
        (&["token", "list", "--cursor", "a"], &page),
        (&["token", "get", "a"], token),
    ] {
        let ended = Cli::of(&stub).run(args).await;
        assert_eq!((ended.exit, ended.stdout, ended.stderr.as_str()), (Exit::Done, format!("{printed}\n"), ""));
    }
    assert_eq!(Cli::of(&stub).run(&["token", "get", "gone"]).await.exit, Exit::Refused);
    let asked = stub.asked();
    let queries: Vec<_> = asked.iter().map(|asked| asked.query.as_str()).collect();
    assert_eq!(queries, ["limit=1", "cursor=a", "", ""]);
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    assert!(asked.iter().all(|asked| asked.header("authorization") == Some(&bearer)), "{asked:?}");
}

#[tokio::test]
async fn revoking_names_the_app_in_the_path() {
    let stub = Stub::with(|asked| match asked.path.as_str() {
        "/admin/tokens/known" => reply(200, r#"{"ok":true}"#),
        _ => reply(404, r#"{"detail":"no such token"}"#),
    })
    .await;
    for args in [["token", "revoke", "known"], ["admin", "token-revoke", "known"]] {
        assert_eq!(Cli::of(&stub).run(&args).await.exit, Exit::Done);
    }
    let ended = Cli::of(&stub).run(&["token", "revoke", "unknown"]).await;
    assert_eq!(ended.exit, Exit::Refused);
    assert!(ended.stderr.contains("no such token"), "{ended:?}");
    assert!(stub.asked().iter().all(|asked| asked.method == "DELETE"));
}

#[test]
fn a_count_that_is_none_is_told_what_one_is() {
    let lines: [&[&str]; 5] = [
        &["token", "list", "--limit", "x"],
        &["runs", "list", "--limit", "1.5"],
        &["ledger", "list", "--limit", ""],
        &["events", "run_x", "--after", "-1"],
        &["events", "run_x", "--after", "99999999999999999999"],
    ];
    for line in lines {
        let words = usage_error(line).unwrap();
        assert!(words.contains("give a whole number, such as 10"), "{line:?}: {words}");
    }
}

#[tokio::test]
async fn a_name_that_is_none_is_a_usage_error() {
    let stub = Stub::answering(200, MINTED).await;
    for args in [["token", "revoke", "../run"], ["token", "get", "../run"], ["token", "mint", "Two Words"]] {
        let ended = Cli::of(&stub).run(&args).await;
        assert_eq!(ended.exit, Exit::Usage);
        assert!(ended.stderr.contains("1 to 64"), "{ended:?}");
    }
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn connection_options_may_stand_before_or_after_the_verb() {
    let stub = Stub::answering(200, r#"{"ok":true,"tokens":[]}"#).await;
    for args in [["token", "--url", &stub.url, "list"], ["token", "list", "--url", &stub.url]] {
        let ended = Cli::bare().env("CLAWDFORGE_ADMIN_TOKEN", ADMIN_TOKEN).run(&args).await;
        assert_eq!(ended.exit, Exit::Done, "{ended:?}");
    }
}
