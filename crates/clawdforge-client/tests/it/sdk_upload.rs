//! Uploads arrive whole, streamed, under their odd names.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use clawdforge_client::{Client, ClientError};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, repeat};

use crate::stub::{APP_TOKEN, Asked, Stub};

const FILE_REPLY: &str = r#"{"file_token":"ff_1","ttl_secs":60,"size":3}"#;

/// One part of a multipart body: field, file name, bytes.
pub type Part = (String, Option<String>, Vec<u8>);

/// The parts as a strict parser reads them.
pub async fn parts(asked: &Asked) -> Vec<Part> {
    let mut request = Request::new(Body::from(asked.body.clone()));
    *request.headers_mut() = asked.headers.clone();
    DefaultBodyLimit::disable().apply(&mut request);
    let mut form = Multipart::from_request(request, &()).await.unwrap();
    let mut parts = Vec::new();
    while let Some(field) = form.next_field().await.unwrap() {
        let name = field.name().unwrap().to_owned();
        let file_name = field.file_name().map(str::to_owned);
        parts.push((name, file_name, field.bytes().await.unwrap().to_vec()));
    }
    parts
}

#[tokio::test]
async fn a_file_is_sent_with_its_name_and_the_life_time_first() {
    let stub = Stub::answering(200, FILE_REPLY).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, b"abc").unwrap();
    let reply = stub.client().upload_path(&path, Some(60)).await.unwrap();
    assert_eq!((reply.file_token.as_str(), reply.size), ("ff_1", 3));

    let asked = stub.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/files"));
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {APP_TOKEN}").as_str()));
    let expected = [
        ("ttl_secs".to_owned(), None, b"60".to_vec()),
        ("file".to_owned(), Some("notes.txt".to_owned()), b"abc".to_vec()),
    ];
    assert_eq!(parts(&asked).await, expected);
}

#[tokio::test]
async fn an_upload_with_a_key_is_asked_of_v1_and_is_the_file_that_it_tells_of() {
    let file = r#"{"id":"ff_1","name":"notes.txt","size_bytes":3,"created_at":"t","expires_at":"t"}"#;
    let stub = Stub::answering(201, file).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, b"abc").unwrap();
    let client = stub.client();
    for key in [Some("k-1"), None] {
        let sent = client.upload_v1_path(&path, Some(60), key).await.unwrap();
        assert_eq!((sent.id.as_str(), sent.size_bytes), ("ff_1", 3));
    }
    let error = client.upload_v1_path(&path, None, Some("two words")).await.unwrap_err();
    assert!(matches!(error, ClientError::Invalid(_)), "{error:?}");
    let error = client.upload_v1_stream("x", Torn(9), None, Some("k-2")).await.unwrap_err();
    assert!(matches!(&error, ClientError::Source(source) if source.to_string() == "the disk is torn"), "{error:?}");
    let asked = stub.asked();
    assert_eq!(
        asked.iter().take(2).map(|asked| asked.header("idempotency-key")).collect::<Vec<_>>(),
        [Some("k-1"), None]
    );
    for asked in &asked[..2] {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/v1/files"));
        let parts = parts(asked).await;
        assert_eq!((parts[0].0.as_str(), parts[1].1.as_deref()), ("ttl_secs", Some("notes.txt")));
    }
}

#[tokio::test]
async fn a_long_stream_arrives_whole_and_chunked() {
    const LENGTH: u64 = 40 * 1024 * 1024 + 7;
    let stub = Stub::answering(200, FILE_REPLY).await;
    stub.client().upload_stream("zeros.bin", repeat(0x5a).take(LENGTH), None).await.unwrap();
    let asked = stub.only();
    assert_eq!(asked.header("transfer-encoding"), Some("chunked"));
    assert_eq!(asked.header("content-length"), None);
    let parts = parts(&asked).await;
    assert_eq!((parts.len(), parts[0].2.len() as u64), (1, LENGTH));
    assert!(parts[0].2.iter().all(|byte| *byte == 0x5a));
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let stub = Stub::answering(200, FILE_REPLY).await;
    stub.client().upload_stream("empty", tokio::io::empty(), None).await.unwrap();
    assert_eq!(parts(&stub.only()).await, [("file".to_owned(), Some("empty".to_owned()), Vec::new())]);
}

#[tokio::test]
async fn odd_names_arrive_and_cannot_forge_a_part() {
    let stub = Stub::answering(200, FILE_REPLY).await;
    let names = [
        "two words.txt",
        "na\u{ef}ve \u{540d}\u{524d} \u{1f980}.txt",
        "semi;colon=x.txt",
        "per%20cent%22.txt",
        "x\"; filename=\"y.txt",
        "a\r\nContent-Type: text/html\r\n\r\nboo",
        "tab\tnul\0.txt",
        "",
    ];
    for name in names {
        stub.client().upload_stream(name, &b"abc"[..], None).await.unwrap();
    }
    for (asked, name) in stub.asked().iter().zip(names) {
        let parts = parts(asked).await;
        assert_eq!(parts.len(), 1, "{name:?} became {parts:?}");
        assert_eq!((parts[0].0.as_str(), parts[0].2.as_slice()), ("file", &b"abc"[..]), "{name:?}");
        let found = parts[0].1.clone().unwrap();
        let plain: String = name.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
        let expected = if plain.is_empty() { "file" } else { plain.as_str() };
        assert_eq!(found.replace('\\', ""), expected);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_in_the_error() {
    let stub = Stub::answering(200, FILE_REPLY).await;
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("missing.txt"), folder.path().to_owned()] {
        let error = stub.client().upload_path(&path, None).await.unwrap_err();
        assert!(matches!(error, ClientError::Source(_)), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    assert!(stub.asked().is_empty());
}

/// Gives some bytes and then fails.
struct Torn(usize);

impl AsyncRead for Torn {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0 == 0 {
            return Poll::Ready(Err(io::Error::other("the disk is torn")));
        }
        self.0 -= 1;
        buffer.put_slice(&[0; 512]);
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_reader_that_fails_half_way_is_the_error() {
    let stub = Stub::answering(200, FILE_REPLY).await;
    let error = stub.client().upload_stream("x", Torn(9), None).await.unwrap_err();
    assert!(matches!(&error, ClientError::Source(source) if source.to_string() == "the disk is torn"), "{error:?}");
}

#[tokio::test]
async fn a_refusal_before_the_body_is_read_is_still_heard() {
    let stub = Stub::unread(401, r#"{"detail":"no entry"}"#).await;
    let client = Client::builder(&stub.url).token(APP_TOKEN).build().unwrap();
    let error = client.upload_stream("big", repeat(0).take(256 * 1024 * 1024), None).await.unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized { status: 401, .. }), "{error:?}");
}
