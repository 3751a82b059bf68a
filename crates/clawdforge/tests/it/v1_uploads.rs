//! `POST /v1/files` with `Idempotency-Key`: the same bytes under the same name are one file, however often they are sent.

use clawdforge_testkit::app::{Answer, TestApp, read};
use futures_util::future::try_join_all;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setup;
use crate::support::uploads_on_disk;

async fn send(app: &TestApp, key: &str, name: &str, bytes: &str) -> anyhow::Result<Answer> {
    let form = Form::new().part("file", Part::text(bytes.to_owned()).file_name(name.to_owned()));
    let request = app.http().post(app.url("/v1/files")).bearer_auth(app.demo_token()?);
    read(request.header("idempotency-key", key).multipart(form)).await
}

#[tokio::test]
async fn an_upload_that_is_sent_again_is_the_same_file_also_after_a_restart() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let first = send(&app, "k", "a.txt", "plum").await?;
    assert_eq!(first.status, StatusCode::CREATED, "{first:?}");
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let again = send(&app, "k", "a.txt", "plum").await?;
    let app = app.restart().await?;
    let later = send(&app, "k", "a.txt", "plum").await?;
    for again in [&again, &later] {
        assert_eq!((again.status, again.json()), (StatusCode::CREATED, first.json()));
        assert_eq!(again.headers["idempotent-replayed"], "true");
        assert_eq!(again.headers["location"], first.headers["location"]);
    }
    let id = first.json()["id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(uploads_on_disk(&app)?, vec![id.clone()], "the bytes of the others are gone");
    let ledger = app.ledger_with(|lines| lines.iter().any(|line| line["kind"] == "file_uploaded")).await?;
    assert_eq!(ledger.iter().filter(|line| line["kind"] == "file_uploaded").count(), 1);
    let run = json!({ "prompt": "read: attachment-1.txt", "files": [id] });
    assert_eq!(app.run(&app.demo_token()?, run).await?.json()["result"], "plum");
    Ok(())
}

#[tokio::test]
async fn a_key_is_good_for_one_content_under_one_name_and_for_no_other_request() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    assert_eq!(send(&app, "k", "a.txt", "plum").await?.status, StatusCode::CREATED);
    for (name, bytes) in [("a.txt", "pear"), ("b.txt", "plum"), ("a.txt", ""), ("a.txt", "plum and more")] {
        let refused = send(&app, "k", name, bytes).await?;
        assert_eq!((refused.status, &refused.json()["code"]), (StatusCode::CONFLICT, &json!("idempotency_key_reused")));
    }
    let run = app.http().post(app.url("/v1/runs")).bearer_auth(app.demo_token()?).header("idempotency-key", "k");
    let refused = read(run.json(&json!({ "prompt": "say: x" }))).await?;
    assert_eq!(refused.json()["code"], "idempotency_key_reused");
    let bad = send(&app, "two words", "a.txt", "plum").await?;
    assert_eq!(bad.json()["errors"][0]["field"], "header.idempotency-key", "{bad:?}");
    assert_ne!(send(&app, "other", "a.txt", "plum").await?.json()["id"], Value::Null);
    assert_eq!(uploads_on_disk(&app)?.len(), 2, "what was refused left nothing");
    let other = app.mint("other").await?;
    let form = Form::new().part("file", Part::text("pear").file_name("a.txt"));
    let request = app.http().post(app.url("/v1/files")).bearer_auth(&other).header("idempotency-key", "k");
    assert_eq!(read(request.multipart(form)).await?.status, StatusCode::CREATED, "a key is its app's own");
    Ok(())
}

#[tokio::test]
async fn of_many_equal_uploads_at_once_one_becomes_a_file_and_all_are_told_which() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let bytes = "plum ".repeat(20_000);
    let all = try_join_all((0..64).map(|_| send(&app, "k", "a.txt", &bytes))).await?;
    let id = all[0].json()["id"].clone();
    assert!(all.iter().all(|answer| answer.status == StatusCode::CREATED && answer.json()["id"] == id), "{:?}", all[0]);
    let fresh = all.iter().filter(|answer| !answer.headers.contains_key("idempotent-replayed")).count();
    assert_eq!(fresh, 1, "the others are told that it was there");
    assert_eq!(uploads_on_disk(&app)?, [id.as_str().unwrap_or_default()], "the losers' bytes are gone");
    let path = format!("/v1/files/{}", id.as_str().unwrap_or_default());
    let found = app.call(Method::GET, &path, &app.demo_token()?, Value::Null).await?;
    assert_eq!(found.json()["size_bytes"], bytes.len());
    Ok(())
}
