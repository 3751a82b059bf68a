//! What each failure becomes.

use std::time::Duration;

use axum::http::header::{LOCATION, RETRY_AFTER};
use clawdforge_client::{Client, ClientError, RunReply, RunRequest, TokenKind};

use crate::stub::{ADMIN_TOKEN, APP_TOKEN, Stub, reply};

fn prompt() -> RunRequest {
    RunRequest { prompt: "hi".to_owned(), ..RunRequest::default() }
}

async fn run_against(status: u16, body: &str) -> Result<RunReply, ClientError> {
    Stub::answering(status, body).await.client().run(prompt()).await
}

#[tokio::test]
async fn a_refused_token_or_address_is_unauthorized() {
    for status in [401, 403] {
        let error = run_against(status, r#"{"detail":"no entry"}"#).await.unwrap_err();
        let ClientError::Unauthorized { status: found, message } = &error else { panic!("{error:?}") };
        assert_eq!((*found, message.as_str()), (status, "no entry"));
    }
}

#[tokio::test]
async fn a_failed_run_keeps_its_companions() {
    let body = r#"{"ok":false,"error":"timed out","code":"timeout","stderr":"tail","duration_ms":5000}"#;
    let error = run_against(502, body).await.unwrap_err();
    let ClientError::RunFailed(failure) = error else { panic!("{error:?}") };
    assert_eq!((failure.error.as_str(), failure.stderr.as_str(), failure.duration_ms), ("timed out", "tail", 5000));
}

#[tokio::test]
async fn a_busy_service_says_when_to_come_back() {
    let stub = Stub::with(|_| {
        let mut response = reply(503, r#"{"detail":"queue full","error":"queue full"}"#);
        response.headers_mut().insert(RETRY_AFTER, "7".parse().unwrap());
        response
    })
    .await;
    let error = stub.client().run(prompt()).await.unwrap_err();
    let ClientError::Busy { status: 503, message, retry_after } = error else { panic!("{error:?}") };
    assert_eq!((message.as_str(), retry_after), ("queue full", Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn a_validation_error_lists_its_faults() {
    let body = r#"{"detail":[{"type":"missing","loc":["body","prompt"],"msg":"Field required","input":{}}],
                   "error":"prompt: Field required"}"#;
    let error = run_against(422, body).await.unwrap_err();
    let ClientError::Validation { message, faults } = error else { panic!("{error:?}") };
    assert_eq!((message.as_str(), faults.len(), faults[0].kind.as_str()), ("prompt: Field required", 1, "missing"));
}

#[tokio::test]
async fn a_malformed_success_is_a_bad_reply_without_its_text() {
    for (body, hint) in [
        ("cf_leak is not json", "line 1"),
        ("", "empty"),
        (r#"{"ok":true,"result":1,"duration_ms":"cf_leak","stop_reason":null}"#, "unexpected type"),
        (r#"{"ok":true,"result":1}"#, "missing field"),
        (r#"{"ok":true,"result":"#, "EOF"),
    ] {
        let error = run_against(200, body).await.unwrap_err();
        let shown = error.to_string();
        assert!(matches!(error, ClientError::BadReply(_)), "{body}: {error:?}");
        assert!(shown.contains(hint) && !shown.contains("cf_leak"), "{body}: {shown}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_error_and_the_token_goes_nowhere() {
    let elsewhere = Stub::answering(200, r#"{"ok":true}"#).await;
    let place = format!("{}/run", elsewhere.url);
    for status in [301, 302, 307, 308] {
        let place = place.clone();
        let stub = Stub::with(move |_| {
            let mut response = reply(status, "");
            response.headers_mut().insert(LOCATION, place.parse().unwrap());
            response
        })
        .await;
        let error = stub.client().run(prompt()).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::Api { status: found, message, .. } if *found == status && message.contains("not followed"))
        );
    }
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn a_missing_token_and_a_bad_argument_send_nothing() {
    let stub = Stub::answering(200, "{}").await;
    let bare = Client::builder(&stub.url).build().unwrap();
    assert!(matches!(bare.run(prompt()).await, Err(ClientError::TokenMissing(TokenKind::App))));
    assert!(matches!(bare.list_tokens().await, Err(ClientError::TokenMissing(TokenKind::Admin))));
    let client = stub.client();
    assert!(matches!(client.run(RunRequest::default()).await, Err(ClientError::Invalid(_))));
    for name in ["", "..", "a/b", "../../run", "a b", "A", "a%2fb", &"a".repeat(65)] {
        assert!(matches!(client.revoke_token(name).await, Err(ClientError::Invalid(_))), "{name:?} was sent");
        assert!(matches!(client.mint_token(name, &[]).await, Err(ClientError::Invalid(_))), "{name:?} was sent");
    }
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn no_debug_output_and_no_error_shows_a_token() {
    let stub = Stub::answering(401, r#"{"detail":"no"}"#).await;
    let client = stub.client();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let lost = Client::builder(format!("http://{closed}")).token(APP_TOKEN).admin_token(ADMIN_TOKEN).build().unwrap();
    let (refused, unreached) = (client.run(prompt()).await.unwrap_err(), lost.run(prompt()).await.unwrap_err());
    let bad = Client::builder(&stub.url).token(format!("{APP_TOKEN}\n")).build().unwrap_err();
    for shown in [
        format!("{client:?}"),
        format!("{refused:?} {refused}"),
        format!("{unreached:?} {unreached}"),
        format!("{bad:?} {bad}"),
    ] {
        assert!(!shown.contains("secret"), "{shown}");
    }
    assert!(unreached.to_string().contains("refused"), "{unreached}");
}
