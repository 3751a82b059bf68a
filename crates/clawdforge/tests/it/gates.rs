//! Who is let in: addresses, bearers, and what is answered at doors that are none.

use std::collections::HashSet;

use clawdforge_testkit::app::{Answer, Setup, TestApp, read};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setup;
use crate::support::golden::Golden;
use crate::support::{get, raw};

/// A service that takes the caller's address from the header, so that a test can choose it.
fn behind_a_proxy() -> Setup {
    setup().demo().env("CLAWDFORGE_TRUSTED_PROXIES", "127.0.0.1/32")
}

/// A request from an address, as the proxy passes it on.
async fn from(app: &TestApp, address: &str, method: Method, path: &str, bearer: &str) -> anyhow::Result<Answer> {
    let request = app.http().request(method, app.url(path)).header("x-forwarded-for", address);
    read(request.bearer_auth(bearer).json(&json!({ "prompt": "say: let in", "name": "new" }))).await
}

#[tokio::test]
async fn who_is_not_signed_in_is_told_how_to() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let revoked = app.mint("gone").await?;
    app.call(Method::DELETE, "/admin/tokens/gone", &app.admin_token()?, Value::Null).await?;
    let mut golden = Golden::default();
    let body = json!({ "prompt": "hello" });
    golden.add("no bearer on /run", &app.run("", body.clone()).await?);
    golden.add("a wrong bearer on /run", &app.run("cf_wrong", body.clone()).await?);
    golden.add("a revoked bearer on /run", &app.run(&revoked, body.clone()).await?);
    let twice = app.http().post(app.url("/run")).bearer_auth(app.demo_token()?).bearer_auth(app.demo_token()?);
    golden.add("two Authorization headers", &read(twice.json(&body)).await?);
    let basic = app.http().post(app.url("/run")).basic_auth("cf", Some("x")).json(&body);
    golden.add("another scheme", &read(basic).await?);
    golden.add("no bearer on /files", &app.call(Method::POST, "/files", "", Value::Null).await?);
    golden.add("no bearer on /admin/tokens", &get(&app, "/admin/tokens", "").await?);
    golden.add("a wrong bearer on /admin/tokens", &get(&app, "/admin/tokens", "cfadmin_wrong").await?);
    insta::assert_snapshot!(golden);
    Ok(())
}

#[tokio::test]
async fn apps_and_the_operator_keep_to_their_own_routes() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let (demo, admin) = (app.demo_token()?, app.admin_token()?);
    let mut golden = Golden::default();
    golden.add("the admin token on /run", &app.run(&admin, json!({ "prompt": "hello" })).await?);
    golden.add("an app token on GET /admin/tokens", &get(&app, "/admin/tokens", &demo).await?);
    insta::assert_snapshot!(golden);
    for (method, path) in
        [(Method::POST, "/admin/tokens"), (Method::DELETE, "/admin/tokens/demo"), (Method::GET, "/admin/ledger")]
    {
        let answer = app.call(method.clone(), path, &demo, json!({ "name": "x" })).await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
    }
    let upload = app.call(Method::POST, "/files", &admin, json!({})).await?;
    assert_eq!(upload.status, StatusCode::FORBIDDEN);
    Ok(())
}

#[tokio::test]
async fn the_scheme_may_be_written_in_any_case_and_with_spaces() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    for value in ["bearer TOKEN", "BEARER TOKEN", "Bearer   TOKEN  "] {
        let value = value.replace("TOKEN", &app.demo_token()?);
        let request = app.http().post(app.url("/run")).header("authorization", &value);
        let answer = read(request.json(&json!({ "prompt": "say: in" }))).await?;
        assert_eq!(answer.status, StatusCode::OK, "{value:?}");
    }
    for value in ["Bearer", "Bearer ", "Bearer TOKEN TOKEN", "TOKEN", "Bearer\u{e9} TOKEN"] {
        let value = value.replace("TOKEN", &app.demo_token()?);
        let request = app.http().post(app.url("/run")).header("authorization", value.as_bytes());
        let answer = read(request.json(&json!({ "prompt": "say: in" }))).await?;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{value:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_not_listed_reaches_no_route_at_all() -> anyhow::Result<()> {
    let app = behind_a_proxy().env("ALLOW_CIDRS", "198.51.100.0/24,2001:db8::/32").start().await?;
    let (demo, admin) = (app.demo_token()?, app.admin_token()?);
    let mut golden = Golden::default();
    golden.add("not listed", &from(&app, "203.0.113.9", Method::POST, "/run", &demo).await?);
    golden.add("not to be read", &from(&app, "unknown", Method::POST, "/run", &demo).await?);
    insta::assert_snapshot!(golden);

    for (method, path, bearer) in [
        (Method::GET, "/healthz", demo.as_str()),
        (Method::GET, "/readyz", &demo),
        (Method::POST, "/files", &demo),
        (Method::POST, "/admin/tokens", &admin),
        (Method::DELETE, "/admin/tokens/demo", &admin),
        (Method::GET, "/no/such/route", &demo),
        (Method::PUT, "/run", &demo),
    ] {
        for address in ["203.0.113.9", "::ffff:203.0.113.9", "127.0.0.1, 203.0.113.9", "2001:db9::1"] {
            let answer = from(&app, address, method.clone(), path, bearer).await?;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path} from {address}");
        }
    }
    for address in
        ["198.51.100.7", "::ffff:198.51.100.7", "[2001:db8::1]:443", "127.0.0.1", "203.0.113.9, 198.51.100.7"]
    {
        let answer = from(&app, address, Method::POST, "/run", &demo).await?;
        assert_eq!(answer.status, StatusCode::OK, "from {address}: {}", answer.text);
    }
    Ok(())
}

#[tokio::test]
async fn without_a_trusted_proxy_the_header_means_nothing() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    for address in ["203.0.113.9", "unknown", "::"] {
        let answer = from(&app, address, Method::POST, "/run", &app.demo_token()?).await?;
        assert_eq!(answer.status, StatusCode::OK, "{address}");
    }
    Ok(())
}

#[tokio::test]
async fn old_callers_keep_the_names_they_used_and_a_name_of_public_dns_must_be_listed() -> anyhow::Result<()> {
    async fn status(app: &TestApp, host: &str) -> anyhow::Result<u16> {
        let request = app.http().post(app.url("/run")).bearer_auth(app.demo_token()?).header("host", host);
        Ok(read(request.json(&json!({ "prompt": "say: hi" }))).await?.status.as_u16())
    }
    let app = setup().demo().start().await?;
    for host in ["clawdforge:8088", "192.168.0.5:8800", "localhost:8800", "[::1]:8800", "host.docker.internal:8800"] {
        assert_eq!(status(&app, host).await?, 200, "{host}");
    }
    assert_eq!(status(&app, "forge.example.com").await?, 421);
    let app = setup().demo().env("CLAWDFORGE_ALLOWED_HOSTS", "forge.example.com").start().await?;
    assert_eq!(status(&app, "forge.example.com").await?, 200);
    assert_eq!(status(&app, "rebound.example").await?, 421);
    Ok(())
}

#[tokio::test]
async fn a_token_with_ranges_of_its_own_is_good_only_there_and_on_loopback() -> anyhow::Result<()> {
    let app = behind_a_proxy().env("ALLOW_CIDRS", "198.51.100.0/24,203.0.113.0/24").start().await?;
    let body = json!({ "name": "bound", "ip_cidrs": ["198.51.100.0/25"] });
    let minted = app.call(Method::POST, "/admin/tokens", &app.admin_token()?, body).await?;
    let token = minted.json()["token"].as_str().unwrap_or_default().to_owned();
    let mut golden = Golden::default();
    golden.add("outside the token's ranges", &from(&app, "203.0.113.9", Method::POST, "/run", &token).await?);
    insta::assert_snapshot!(golden);
    for (address, status) in [("198.51.100.7", 200), ("198.51.100.200", 403), ("127.0.0.1", 200), ("192.0.2.1", 403)] {
        let answer = from(&app, address, Method::POST, "/run", &token).await?;
        assert_eq!(answer.status.as_u16(), status, "from {address}");
    }
    Ok(())
}

#[tokio::test]
async fn the_gates_come_before_the_body_is_looked_at() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    for bearer in ["", "cf_wrong"] {
        for body in [json!({ "prompt": 5 }), json!([])] {
            assert_eq!(app.run(bearer, body).await?.status, StatusCode::UNAUTHORIZED);
        }
    }
    Ok(())
}

#[tokio::test]
async fn wrong_routes_methods_types_and_sizes_are_refused_in_json() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let demo = app.demo_token()?;
    let mut golden = Golden::default();
    golden.add("no such route", &get(&app, "/nothing", &demo).await?);
    golden.add("a slash too many", &get(&app, "/healthz/", &demo).await?);
    golden.add("GET /run", &get(&app, "/run", &demo).await?);
    golden.add("POST /healthz", &app.call(Method::POST, "/healthz", &demo, Value::Null).await?);
    golden.add("PUT /admin/tokens", &app.call(Method::PUT, "/admin/tokens", &demo, Value::Null).await?);
    golden.add("GET /admin/tokens/x", &get(&app, "/admin/tokens/x", &demo).await?);
    let form = app.http().post(app.url("/run")).bearer_auth(&demo).body("prompt=hello");
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    golden.add("a form to /run", &read(form).await?);
    golden.add("JSON to /files", &app.call(Method::POST, "/files", &demo, json!({ "file": "x" })).await?);
    let head = format!(
        "POST /run HTTP/1.1\r\nAuthorization: Bearer {demo}\r\nContent-Type: application/json\r\nContent-Length: 99999999"
    );
    golden.add("a body that says it is too large", &raw::request(&app, &head, b"{").await?);
    insta::assert_snapshot!(golden);
    Ok(())
}

#[tokio::test]
async fn every_reply_carries_an_id_of_its_own() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let mut ids = HashSet::new();
    for path in ["/healthz", "/healthz", "/run", "/nothing", "/admin/tokens"] {
        let answer = get(&app, path, "").await?;
        let id = answer.headers["x-request-id"].to_str()?.to_owned();
        assert!(id.starts_with("req_") && id.len() == 30, "{id}");
        assert!(ids.insert(id), "each has its own");
    }
    let chosen = app.http().get(app.url("/healthz")).header("x-request-id", "chosen-by-the-caller");
    assert_ne!(read(chosen).await?.headers["x-request-id"], "chosen-by-the-caller");
    Ok(())
}
