//! `upload PATH`

use std::fs;

use clawdforge_client::commands::Exit;

use crate::cli::Cli;
use crate::sdk_upload::parts;
use crate::stub::Stub;

const FILE_REPLY: &str = r#"{"ok":true,"file_token":"ff_1","ttl_secs":120,"size":3}"#;

#[tokio::test]
async fn a_file_is_uploaded_and_its_token_printed() {
    let stub = Stub::answering(200, FILE_REPLY).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("two \"words\".txt");
    fs::write(&path, b"abc").unwrap();
    let ended = Cli::of(&stub).run(&["upload", path.to_str().unwrap(), "--ttl", "120"]).await;
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Done, format!("{FILE_REPLY}\n").as_str()));
    assert_eq!(ended.stderr, "");
    let asked = stub.only();
    assert_eq!(asked.header("transfer-encoding"), Some("chunked"));
    let parts = parts(&asked).await;
    assert_eq!((parts[0].0.as_str(), parts[0].2.as_slice()), ("ttl_secs", &b"120"[..]));
    assert_eq!((parts[1].0.as_str(), parts[1].2.as_slice()), ("file", &b"abc"[..]));
}

#[tokio::test]
async fn a_key_is_sent_to_v1_and_its_file_is_printed() {
    let file = r#"{"id":"ff_1","name":"a.txt","size_bytes":3,"created_at":"t","expires_at":"t"}"#;
    let stub = Stub::answering(201, file).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    fs::write(&path, b"abc").unwrap();
    let path = path.to_str().unwrap();
    let ended = Cli::of(&stub).run(&["upload", path, "--idempotency-key", "k-1"]).await;
    assert_eq!((ended.exit, ended.stdout), (Exit::Done, format!("{file}\n")));
    let wrong = Cli::of(&stub).run(&["upload", path, "--idempotency-key", "two words"]).await;
    assert_eq!(wrong.exit, Exit::Usage, "{wrong:?}");
    let asked = stub.only();
    assert_eq!((asked.path.as_str(), asked.header("idempotency-key")), ("/v1/files", Some("k-1")));
    assert_eq!(parts(&asked).await[0].2, b"abc");
}

#[tokio::test]
async fn a_person_sees_how_far_it_is() {
    let stub = Stub::answering(200, FILE_REPLY).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.bin");
    fs::write(&path, vec![7; 3 * 1024 * 1024]).unwrap();
    let ended = Cli::of(&stub).terminal().run(&["upload", path.to_str().unwrap()]).await;
    assert_eq!(ended.exit, Exit::Done, "{ended:?}");
    assert!(ended.stderr.contains("of 3.0 MiB ("), "{:?}", ended.stderr);
    assert!(ended.stderr.ends_with("\r\u{1b}[K"), "{:?}", ended.stderr);
    assert_eq!(parts(&stub.only()).await[0].2.len(), 3 * 1024 * 1024);
}

#[tokio::test]
async fn what_is_no_file_is_named_and_nothing_is_sent() {
    let stub = Stub::answering(200, FILE_REPLY).await;
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("missing"), folder.path().to_owned()] {
        let path = path.to_str().unwrap();
        let ended = Cli::of(&stub).run(&["upload", path]).await;
        assert_eq!(ended.exit, Exit::Failed);
        assert!(ended.stderr.contains(path), "{ended:?}");
    }
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn a_refused_upload_exits_with_4() {
    let stub = Stub::answering(413, r#"{"detail":"too large"}"#).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs::write(&path, b"abc").unwrap();
    let ended = Cli::of(&stub).run(&["upload", path.to_str().unwrap()]).await;
    assert_eq!(ended.exit, Exit::Refused);
    assert!(ended.stderr.contains("too large"), "{ended:?}");
}
