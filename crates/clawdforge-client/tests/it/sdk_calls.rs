//! What each method sends, and what it makes of a success.

use clawdforge_client::{Client, ExposeSecret, LedgerOrder, LedgerQuery, RunReplyExt, RunRequest};
use serde_json::json;

use crate::stub::{ADMIN_TOKEN, APP_TOKEN, Stub};

const RUN_REPLY: &str = r#"{"ok":true,"result":{"qty":2},"duration_ms":43,"stop_reason":"end_turn"}"#;

#[tokio::test]
async fn healthz_sends_no_token_and_ignores_unknown_keys() {
    let stub = Stub::answering(200, r#"{"ok":true,"claude_present":true,"claude_version":null,"new":[1]}"#).await;
    let health = stub.client().healthz().await.unwrap();
    assert!(health.ok && health.claude_present && health.claude_version.is_none());
    let asked = stub.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/healthz"));
    assert_eq!(asked.header("authorization"), None);
}

#[tokio::test]
async fn run_sends_only_what_is_set_and_reads_the_answer() {
    let stub = Stub::answering(200, RUN_REPLY).await;
    let request = RunRequest { prompt: "two cups".to_owned(), timeout_secs: Some(9), ..RunRequest::default() };
    let reply = stub.client().run(request).await.unwrap();
    assert_eq!(reply.as_json::<serde_json::Value>().unwrap(), json!({"qty": 2}));
    assert_eq!((reply.duration_ms, reply.stop_reason.as_deref()), (43, Some("end_turn")));

    let asked = stub.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/run"));
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {APP_TOKEN}").as_str()));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert_eq!(asked.json(), json!({"prompt": "two cups", "timeout_secs": 9}));
}

#[tokio::test]
async fn a_base_url_with_a_path_and_a_slash_is_kept() {
    let stub = Stub::answering(200, RUN_REPLY).await;
    for base in [format!("{}/", stub.url), format!("{}/forge/", stub.url), format!("{}/forge", stub.url)] {
        let client = Client::builder(base).token(APP_TOKEN).build().unwrap();
        client.run(RunRequest { prompt: "hi".to_owned(), ..RunRequest::default() }).await.unwrap();
    }
    let paths: Vec<String> = stub.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/run", "/forge/run", "/forge/run"]);
}

#[tokio::test]
async fn minting_gives_a_token_that_does_not_print() {
    let stub = Stub::answering(200, r#"{"name":"app-1","token":"cf_minted","ip_cidrs":["10.0.0.0/8"]}"#).await;
    let minted = stub.client().mint_token("app-1", &["10.0.0.0/8".to_owned()]).await.unwrap();
    assert_eq!(minted.token.expose_secret(), "cf_minted");
    assert!(!format!("{minted:?}").contains("cf_minted"));
    let asked = stub.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/admin/tokens"));
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {ADMIN_TOKEN}").as_str()));
    assert_eq!(asked.json(), json!({"name": "app-1", "ip_cidrs": ["10.0.0.0/8"]}));
}

#[tokio::test]
async fn tokens_are_listed_and_revoked_by_name() {
    let stub = Stub::with(|asked| match asked.method.as_str() {
        "GET" => crate::stub::reply(200, r#"{"ok":true,"tokens":[{"name":"a","ip_cidrs":[],"created_at":7}]}"#),
        _ => crate::stub::reply(200, r#"{"ok":true}"#),
    })
    .await;
    let rows = stub.client().list_tokens().await.unwrap();
    assert_eq!((rows.len(), rows[0].name.as_str(), rows[0].created_at), (1, "a", 7));
    stub.client().revoke_token("a").await.unwrap();
    let revoked = &stub.asked()[1];
    assert_eq!((revoked.method.as_str(), revoked.path.as_str()), ("DELETE", "/admin/tokens/a"));
}

#[tokio::test]
async fn a_ledger_page_is_asked_for_with_its_query() {
    let stub = Stub::answering(200, r#"{"ok":true,"entries":[],"next_cursor":5}"#).await;
    let query = LedgerQuery {
        app: Some("a".to_owned()),
        kind: Some("run_ended".to_owned()),
        order: Some(LedgerOrder::Newest),
        cursor: Some(9),
        limit: Some(2),
    };
    let page = stub.client().ledger_page(&query).await.unwrap();
    assert_eq!((page.entries.len(), page.next_cursor), (0, Some(5)));
    let asked = stub.only();
    assert_eq!(asked.path, "/admin/ledger");
    assert_eq!(asked.query, "app=a&kind=run_ended&order=newest&cursor=9&limit=2");
}

#[tokio::test]
async fn an_https_client_reaches_for_tls_and_reports_a_closed_port() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::builder(format!("https://{closed}")).build().unwrap();
    let error = client.healthz().await.unwrap_err();
    assert!(matches!(error, clawdforge_client::ClientError::Transport { .. }), "{error:?}");
}

#[tokio::test]
async fn an_https_client_does_not_accept_a_service_without_tls() {
    let stub = Stub::answering(200, r#"{"ok":true,"claude_present":true,"claude_version":null}"#).await;
    let client = Client::builder(stub.url.replace("http://", "https://")).build().unwrap();
    let error = client.healthz().await.unwrap_err();
    assert!(matches!(error, clawdforge_client::ClientError::Transport { .. }), "{error:?}");
    assert!(stub.asked().is_empty());
}
