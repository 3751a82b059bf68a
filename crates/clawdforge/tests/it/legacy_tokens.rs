//! `POST|GET /admin/tokens` and `DELETE /admin/tokens/{name}`.

use clawdforge_testkit::app::{Answer, TestApp};
use futures_util::future::try_join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setup;
use crate::support::golden::Golden;
use crate::support::{get, raw};

/// Asks for a token as the operator.
async fn mint(app: &TestApp, body: Value) -> anyhow::Result<Answer> {
    app.call(Method::POST, "/admin/tokens", &app.admin_token()?, body).await
}

/// Revokes as the operator, with the path as it stands.
async fn revoke(app: &TestApp, name: &str) -> anyhow::Result<Answer> {
    let head = format!("DELETE /admin/tokens/{name} HTTP/1.1\r\nAuthorization: Bearer {}", app.admin_token()?);
    raw::request(app, &head, b"").await
}

#[tokio::test]
async fn minting_shows_the_token_and_listing_never_does() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let mut golden = Golden::default();
    let mut secrets = Vec::new();
    for (title, body) in [
        ("a name", json!({ "name": "cauldron" })),
        ("a name of every kind of character", json!({ "name": "a-2_z" })),
        ("ranges", json!({ "name": "lan", "ip_cidrs": ["192.168.0.0/24", "10.0.0.1", "fd00::/8"] })),
        ("ranges in one text", json!({ "name": "text", "ip_cidrs": "192.168.0.0/24, 10.0.0.0/8" })),
        ("no ranges", json!({ "name": "open", "ip_cidrs": null })),
        ("a stray key", json!({ "name": "java", "created_at": 0 })),
    ] {
        let answer = mint(&app, body).await?;
        assert_eq!(answer.status, StatusCode::OK, "{title}: {}", answer.text);
        secrets.push(answer.json()["token"].as_str().unwrap_or_default().to_owned());
        golden.add(title, &answer);
    }
    golden.add("a name that has a token", &mint(&app, json!({ "name": "cauldron" })).await?);
    let list = get(&app, "/admin/tokens", &app.admin_token()?).await?;
    golden.add("the list", &list);
    insta::assert_snapshot!(golden);
    let everything = format!("{}{}{:?}", list.text, app.log()?, app.ledger().await?);
    for secret in secrets {
        assert!(secret.starts_with("cf_") && secret.len() > 50, "{secret}");
        assert!(!everything.contains(&secret), "shown only once");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_wish_for_a_token_is_refused() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let mut golden = Golden::default();
    let many: Vec<String> = (0..65).map(|n| format!("10.0.{n}.0/24")).collect();
    for (title, body) in [
        ("no name", json!({})),
        ("an empty name", json!({ "name": "" })),
        ("capitals", json!({ "name": "Cauldron" })),
        ("a path", json!({ "name": "../etc" })),
        ("a NUL", json!({ "name": "a\u{0}b" })),
        ("a long name", json!({ "name": "a".repeat(65) })),
        ("a very long name", json!({ "name": "a".repeat(2000) })),
        ("a number", json!({ "name": 5 })),
        ("no range", json!({ "name": "x", "ip_cidrs": ["192.168.0.0/24", "everywhere"] })),
        ("a range too wide", json!({ "name": "x", "ip_cidrs": ["192.168.0.0/33"] })),
        ("ranges that are none", json!({ "name": "x", "ip_cidrs": [5, {}] })),
        ("an object of ranges", json!({ "name": "x", "ip_cidrs": {} })),
        ("too many ranges", json!({ "name": "x", "ip_cidrs": many })),
        ("a list", json!(["x"])),
    ] {
        let answer = mint(&app, body).await?;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{title}: {}", answer.text);
        golden.add(title, &answer);
    }
    insta::assert_snapshot!(golden);
    let list = get(&app, "/admin/tokens", &app.admin_token()?).await?;
    assert_eq!(list.json()["tokens"].as_array().map(Vec::len), Some(1), "only the demo's: {}", list.text);
    Ok(())
}

#[tokio::test]
async fn revoking_takes_effect_at_once_and_only_on_what_has_a_token() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let token = app.mint("cauldron").await?;
    let mut golden = Golden::default();
    golden.add("revoked", &revoke(&app, "cauldron").await?);
    golden.add("revoked again", &revoke(&app, "cauldron").await?);
    golden.add("never known", &revoke(&app, "unknown").await?);
    golden.add("not even text", &revoke(&app, "%ff%fe").await?);
    insta::assert_snapshot!(golden);
    assert_eq!(app.run(&token, json!({ "prompt": "say: x" })).await?.status, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn a_name_in_a_path_climbs_nowhere() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    app.mint("tokens").await?;
    for name in [
        "%2e%2e%2ftokens",
        "..%2ftokens",
        "../tokens",
        "../tokens/demo",
        "%2e%2e",
        "..",
        ".",
        "%2Fdemo",
        "demo%2F..",
        "demo/",
        "demo%00",
        "%00demo",
        "demo%0a",
        "DEMO",
        "demo%20",
        "%64%65%6d%6f%2e",
        "d%C3%A9mo",
        "%ff",
        "%",
        "%zz",
        "",
        &"a".repeat(2000),
    ] {
        let answer = revoke(&app, name).await?;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{name:?}: {}", answer.text);
        assert!(answer.json()["error"].is_string(), "{name:?}: {}", answer.text);
    }
    assert_eq!(app.prompt("say: alive").await?.status, StatusCode::OK, "the demo's token was not touched");
    assert_eq!(revoke(&app, "%74okens").await?.status, StatusCode::OK, "an escape of an honest letter is that letter");
    Ok(())
}

#[tokio::test]
async fn an_app_keeps_its_files_over_a_new_token() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let old = app.mint("cauldron").await?;
    let file = app.upload(&old, "a.txt", b"kept".to_vec()).await?;
    revoke(&app, "cauldron").await?;
    let new = app.mint("cauldron").await?;
    assert_ne!(old, new);
    let body = json!({ "prompt": "read: attachment-1.txt", "files": [file] });
    assert_eq!(app.run(&new, body.clone()).await?.json()["result"], "kept");
    assert_eq!(app.run(&old, body).await?.status, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn of_many_who_mint_one_name_at_once_one_succeeds() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let answers = try_join_all((0..10).map(|_| mint(&app, json!({ "name": "wanted" })))).await?;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409, 409, 409, 409, 409, 409, 409]);
    let all = try_join_all((0..10).map(|_| revoke(&app, "wanted"))).await?;
    assert_eq!(all.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1);
    Ok(())
}
