//! `/v1/tokens` from the SDK.

use clawdforge_client::{ClientError, ExposeSecret, MintRequest, PageQuery};
use serde_json::json;

use crate::streams::refused;
use crate::stub::{ADMIN_TOKEN, Asked, Stub, reply};

const TOKEN: &str = r#"{"name":"app","ip_cidrs":[],"network":["a.example:443"],"mcp_servers":"none","created_at":"t"}"#;

fn answer(asked: &Asked) -> axum::response::Response {
    let minted = TOKEN.replace('}', r#","secret":"cf_minted"}"#);
    match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/v1/tokens") => reply(201, &minted),
        ("GET", "/v1/tokens") => reply(200, &format!(r#"{{"data":[{TOKEN}],"next_cursor":"app"}}"#)),
        ("GET", "/v1/tokens/app") => reply(200, TOKEN),
        ("DELETE", "/v1/tokens/app") => reply(204, ""),
        _ => refused("not_found", 404, None),
    }
}

#[tokio::test]
async fn a_minted_token_does_not_print_its_secret() {
    let stub = Stub::with(answer).await;
    let network = Some(json!(["a.example:443"]));
    let wish = MintRequest { name: "app".to_owned(), network, mcp_servers: Some("none".to_owned()), ip_cidrs: vec![] };
    let minted = stub.client().mint_v1_token(&wish).await.unwrap();
    assert_eq!((minted.token.name.as_str(), minted.secret.expose_secret()), ("app", "cf_minted"));
    assert!(!format!("{minted:?}").contains("cf_minted"));
    let asked = stub.only();
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {ADMIN_TOKEN}").as_str()));
    assert_eq!(asked.json(), json!({ "name": "app", "network": ["a.example:443"], "mcp_servers": "none" }));
}

#[tokio::test]
async fn tokens_are_paged_looked_at_and_revoked_by_name() {
    let stub = Stub::with(answer).await;
    let client = stub.client();
    let page = PageQuery { cursor: Some("a".to_owned()), limit: Some(1) };
    let listed = client.list_v1_tokens(&page).await.unwrap();
    assert_eq!((listed.data[0].name.as_str(), listed.next_cursor.as_deref()), ("app", Some("app")));
    assert_eq!(client.get_token("app").await.unwrap(), listed.data[0]);
    client.revoke_v1_token("app").await.unwrap();
    let asked: Vec<_> =
        stub.asked().iter().map(|asked| format!("{} {}?{}", asked.method, asked.path, asked.query)).collect();
    assert_eq!(asked, ["GET /v1/tokens?cursor=a&limit=1", "GET /v1/tokens/app?", "DELETE /v1/tokens/app?"]);
    assert!(stub.asked().iter().all(|asked| asked.header("authorization") == Some(&format!("Bearer {ADMIN_TOKEN}"))));
    for error in [client.get_token("gone").await.map(drop), client.revoke_v1_token("gone").await] {
        assert_eq!(error.unwrap_err().code(), Some("not_found"));
    }
}

#[tokio::test]
async fn what_is_no_name_of_an_app_is_not_sent() {
    let stub = Stub::with(answer).await;
    let client = stub.client();
    for name in ["", "..", "a/b", "Two Words"] {
        let wish = MintRequest { name: name.to_owned(), ..MintRequest::default() };
        let tried = [
            client.mint_v1_token(&wish).await.map(drop),
            client.get_token(name).await.map(drop),
            client.revoke_v1_token(name).await,
        ];
        for error in tried {
            assert!(matches!(error, Err(ClientError::Invalid(_))), "{name:?}: {error:?}");
        }
    }
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn an_empty_reply_is_told_where_there_should_be_one() {
    let stub = Stub::answering(204, "").await;
    let error = stub.client().get_token("app").await.unwrap_err();
    assert!(matches!(&error, ClientError::BadReply(why) if why == "it is empty"), "{error:?}");
}
