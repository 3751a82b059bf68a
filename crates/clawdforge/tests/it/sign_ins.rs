//! Failed sign-ins: limited, and told to the operator.

use clawdforge_testkit::app::read;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setup;
use crate::support::get;

/// Sends wrong tokens; the last answer's status and `Retry-After`.
async fn fail(
    app: &clawdforge_testkit::app::TestApp,
    times: usize,
    from: &str,
) -> anyhow::Result<(StatusCode, Option<u64>)> {
    let mut last = (StatusCode::OK, None);
    for _ in 0..times {
        let request = app.http().post(app.url("/run")).bearer_auth("cf_wrong").header("x-forwarded-for", from);
        let answer = read(request.json(&json!({ "prompt": "say: hi" }))).await?;
        let retry_after = answer.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        last = (answer.status, retry_after);
    }
    Ok(last)
}

#[tokio::test]
async fn a_burst_of_wrong_tokens_is_slowed_down_and_is_one_row_of_the_ledger() -> anyhow::Result<()> {
    let app = setup().demo().arg("--sign-in-failures-max").arg("3").start().await?;
    assert_eq!(fail(&app, 3, "").await?, (StatusCode::UNAUTHORIZED, None));
    let (status, wait) = fail(&app, 4, "").await?;
    assert!(status == StatusCode::TOO_MANY_REQUESTS && wait.is_some_and(|secs| (1..=60).contains(&secs)), "{wait:?}");
    assert_eq!(app.prompt("say: still in").await?.json()["result"], "still in", "the right token is let in");
    let unaware = get(&app, "/admin/tokens", &app.admin_token()?).await?;
    assert_eq!(unaware.status, StatusCode::OK, "and so is the operator");

    // A stop writes what is not written yet.
    let mut app = app;
    app.stop().await?;
    let app = app.restart().await?;
    let page = app.call(Method::GET, "/admin/ledger?kind=sign_ins_failed", &app.admin_token()?, Value::Null).await?;
    let [line] = &page.json()["entries"].as_array().cloned().unwrap_or_default()[..] else { panic!("{page:?}") };
    assert_eq!((&line["count"], &line["subject"]), (&json!(7), &json!("127.0.0.1")), "{line}");
    assert_eq!((&line["outcome"], &line["principal"]), (&json!("wrong_app_token"), &json!("service")), "{line}");
    let log = app.log()?;
    assert!(log.contains("wrong tokens came") && !log.contains("cf_wrong"), "{log}");
    Ok(())
}

#[tokio::test]
async fn addresses_behind_a_proxy_are_told_apart_only_where_the_proxy_is_trusted() -> anyhow::Result<()> {
    let service = || setup().demo().env("ALLOW_CIDRS", "198.51.100.0/24").arg("--sign-in-failures-max").arg("1");
    let app = service().arg("--trusted-proxies").arg("127.0.0.1").start().await?;
    assert_eq!(fail(&app, 2, "198.51.100.1").await?.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(fail(&app, 1, "198.51.100.2").await?.0, StatusCode::UNAUTHORIZED, "another caller");
    let app = service().start().await?;
    assert_eq!(fail(&app, 1, "198.51.100.1").await?.0, StatusCode::UNAUTHORIZED);
    assert_eq!(fail(&app, 1, "198.51.100.2").await?.0, StatusCode::TOO_MANY_REQUESTS, "the header means nothing");
    Ok(())
}

#[tokio::test]
async fn no_query_string_is_logged_at_any_level() -> anyhow::Result<()> {
    let app = setup().demo().env("CLAWDFORGE_LOG", "trace").start().await?;
    for query in ["token=canary-7c1e", "app=canary-7c1e"] {
        for path in ["/admin/ledger", "/run", "/nowhere"] {
            get(&app, &format!("{path}?{query}"), &app.admin_token()?).await?;
        }
    }
    let log = app.log()?;
    assert!(log.contains("/nowhere"), "requests are logged at this level: {log}");
    assert!(!log.contains("canary-7c1e"), "{log}");
    Ok(())
}
