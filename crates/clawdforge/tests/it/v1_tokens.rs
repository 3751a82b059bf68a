//! `/v1/tokens`, with which the operator lets apps in.

use clawdforge_testkit::app::{Answer, TestApp};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setup;
use crate::support::get;

async fn ask(app: &TestApp, method: Method, path: &str, body: Value) -> anyhow::Result<Answer> {
    app.call(method, path, &app.admin_token()?, body).await
}

async fn mint(app: &TestApp, body: Value) -> anyhow::Result<Answer> {
    ask(app, Method::POST, "/v1/tokens", body).await
}

#[tokio::test]
async fn a_token_lets_its_app_in_until_it_is_revoked() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let wish = json!({ "name": "kitchen", "ip_cidrs": ["127.0.0.0/8"], "network": ["example.org:443"] });
    let minted = mint(&app, wish).await?;
    assert_eq!(minted.status, StatusCode::CREATED, "{minted:?}");
    assert_eq!(minted.headers["location"], "/v1/tokens/kitchen");
    let mut token = minted.json();
    let secret = token["secret"].as_str().unwrap_or_default().to_owned();
    assert_eq!(get(&app, "/v1/runs", &secret).await?.status, StatusCode::OK);
    // From now on everything but the secret is told.
    token.as_object_mut().map(|fields| fields.remove("secret"));
    assert_eq!(token["network"], json!(["example.org:443"]));
    let one = ask(&app, Method::GET, "/v1/tokens/kitchen", Value::Null).await?;
    assert_eq!((one.status, one.json()), (StatusCode::OK, token.clone()));
    let listed = ask(&app, Method::GET, "/v1/tokens", Value::Null).await?;
    assert!(listed.json()["data"].as_array().is_some_and(|all| all.contains(&token)), "{listed:?}");
    let again = mint(&app, json!({ "name": "kitchen" })).await?;
    assert_eq!((again.status, &again.json()["code"]), (StatusCode::CONFLICT, &json!("name_taken")));
    let revoked = ask(&app, Method::DELETE, "/v1/tokens/kitchen", Value::Null).await?;
    assert_eq!((revoked.status, revoked.text.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(get(&app, "/v1/runs", &secret).await?.status, StatusCode::UNAUTHORIZED);
    for method in [Method::GET, Method::DELETE] {
        let gone = ask(&app, method, "/v1/tokens/kitchen", Value::Null).await?;
        assert_eq!((gone.status, &gone.json()["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    }
    assert!(!app.log()?.contains(&secret), "a secret is in the log");
    Ok(())
}

#[tokio::test]
async fn pages_of_tokens_hold_each_once_whatever_is_minted_meanwhile() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    for name in ["b", "d", "f"] {
        app.mint(name).await?;
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/tokens?limit=2".to_owned());
    loop {
        let page = ask(&app, Method::GET, &path, Value::Null).await?.json();
        seen.extend(page["data"].as_array().into_iter().flatten().map(|token| token["name"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/tokens?limit=2&cursor={cursor}");
        // One before the cursor, and one behind it.
        for name in ["a", "e"] {
            mint(&app, json!({ "name": name })).await?;
        }
    }
    assert_eq!(seen, ["b", "d", "demo", "e", "f"]);
    let wrong = ask(&app, Method::GET, "/v1/tokens?cursor=NO", Value::Null).await?;
    assert_eq!(wrong.json()["errors"][0]["field"], "query.cursor", "{wrong:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_a_wish_for_a_token_is_told_field_by_field() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    for (body, field) in [
        (json!({}), "body.name"),
        (json!({ "name": "../etc" }), "body.name"),
        (json!({ "name": "x", "ip_cidrs": ["everywhere"] }), "body.ip_cidrs"),
        (json!({ "name": "x", "network": "unfiltered" }), "body.network"),
    ] {
        let refused = mint(&app, body).await?;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
        assert_eq!(refused.json()["errors"][0]["field"], field, "{refused:?}");
    }
    let listed = ask(&app, Method::GET, "/v1/tokens", Value::Null).await?;
    assert_eq!(listed.json()["data"].as_array().map(Vec::len), Some(1), "only the demo's: {listed:?}");
    Ok(())
}
