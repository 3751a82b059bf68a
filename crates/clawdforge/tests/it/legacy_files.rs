//! `POST /files`: whatever is sent in whatever pieces, it is kept whole or not at all.

use std::time::Duration;

use clawdforge_testkit::app::{Answer, TestApp, read, until};
use futures_util::stream;
use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::json;

use crate::setup;
use crate::support::form::{file, form, part, post};
use crate::support::golden::Golden;
use crate::support::{form as forms, memory_peak_kib, raw, uploads_on_disk};

/// Uploads a form of the demo app.
async fn send(app: &TestApp, path: &str, parts: &[Vec<u8>]) -> anyhow::Result<Answer> {
    post(app, &app.demo_token()?, path, form(parts)).await
}

/// What an agent reads of an upload.
async fn read_back(app: &TestApp, file: &Answer, name: &str) -> anyhow::Result<String> {
    let files = [file.json()["file_token"].clone()];
    let body = json!({ "prompt": format!("read: {name}"), "files": files });
    let answer = app.run(&app.demo_token()?, body).await?;
    Ok(answer.json()["result"].as_str().unwrap_or(&answer.text).to_owned())
}

#[tokio::test]
async fn an_upload_is_answered_with_its_token_its_life_and_its_size() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let ttl = |value: &str| part("name=\"ttl_secs\"", value);
    let mut golden = Golden::default();
    for (title, path, parts) in [
        ("without a wish", "/files", vec![file("hello")]),
        ("nothing in it", "/files", vec![file("")]),
        ("a life as form field", "/files", vec![ttl("600"), file("hello")]),
        ("a life behind the file", "/files", vec![file("hello"), ttl(" 600 ")]),
        ("a life in the query", "/files?ttl_secs=700", vec![file("hello")]),
        ("a life in both: the form counts", "/files?ttl_secs=700", vec![file("hello"), ttl("600")]),
        ("a life twice in the query", "/files?ttl_secs=1&ttl_secs=700", vec![file("hello")]),
        ("an empty wish", "/files?ttl_secs=", vec![file("hello")]),
        ("too short a life", "/files", vec![file("hello"), ttl("1")]),
        ("a negative life", "/files", vec![file("hello"), ttl("-5")]),
        ("too long a life", "/files", vec![file("hello"), ttl("1000000")]),
        (
            "other fields besides",
            "/files?x=%ff",
            vec![part("name=\"note\"", "x"), file("hello"), part("name=\"\"", "")],
        ),
    ] {
        let answer = send(&app, path, &parts).await?;
        assert_eq!(answer.status, StatusCode::OK, "{title}: {}", answer.text);
        golden.add(title, &answer);
    }
    insta::assert_snapshot!(golden);
    Ok(())
}

#[tokio::test]
async fn a_form_that_is_none_is_refused_and_leaves_nothing() -> anyhow::Result<()> {
    let app = setup().demo().arg("--upload-max-bytes").arg("1MiB").start().await?;
    let mut golden = Golden::default();
    golden.add("no file", &send(&app, "/files", &[part("name=\"note\"", "x")]).await?);
    golden.add("an empty form", &send(&app, "/files", &[]).await?);
    golden.add("two files", &send(&app, "/files", &[file("a"), file("b")]).await?);
    golden.add("a life in words", &send(&app, "/files", &[file("a"), part("name=\"ttl_secs\"", "long")]).await?);
    golden.add("too large", &send(&app, "/files", &[file(vec![b'x'; (1 << 20) + 1])]).await?);
    golden.add("a large field", &send(&app, "/files", &[part("name=\"ttl_secs\"", "1".repeat(2000))]).await?);
    golden.add("too many parts", &send(&app, "/files", &vec![part("name=\"note\"", ""); 17]).await?);
    let unfinished = file("hello");
    golden.add("no end", &post(&app, &app.demo_token()?, "/files", unfinished).await?);
    golden.add("no form", &post(&app, &app.demo_token()?, "/files", b"hello".to_vec()).await?);
    let bare = app.http().post(app.url("/files")).bearer_auth(app.demo_token()?).body("hello");
    golden.add("no content type", &read(bare).await?);
    insta::assert_snapshot!(golden);
    assert_eq!(uploads_on_disk(&app)?, Vec::<String>::new());
    assert_eq!(send(&app, "/files", &[file(vec![b'x'; 1 << 20])]).await?.status, StatusCode::OK, "just not too large");
    Ok(())
}

#[tokio::test]
async fn odd_filenames_are_taken_and_never_become_paths() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    for (name, attachment) in [
        (r#"say \"cheese\".PNG"#, "attachment-1.png"),
        ("with space.txt", "attachment-1.txt"),
        ("r\u{e9}sum\u{e9} \u{1F980}.md", "attachment-1.md"),
        ("../../x", "attachment-1"),
        ("../../../../etc/passwd.conf", "attachment-1.conf"),
        (r"C:\\temp\\x.json", "attachment-1.json"),
        ("/", "attachment-1"),
        ("..", "attachment-1"),
        (".bashrc", "attachment-1"),
        ("", "attachment-1"),
        ("a.txt;rm -rf ~", "attachment-1"),
        ("$(id).sh", "attachment-1.sh"),
        (&format!("{}.csv", "x".repeat(300)), "attachment-1.csv"),
        (&"\u{e9}".repeat(300), "attachment-1"),
    ] {
        let answer = send(&app, "/files", &[part(&format!("name=\"file\"; filename=\"{name}\""), "inside")]).await?;
        assert_eq!(answer.status, StatusCode::OK, "{name:?}: {}", answer.text);
        assert_eq!(read_back(&app, &answer, attachment).await?, "inside", "{name:?}");
    }
    for disposition in ["name=\"file\"", "name=file; filename=a.txt", "name=\"file\"; filename*=UTF-8''na%C3%AFve.txt"]
    {
        let answer = send(&app, "/files", &[part(disposition, "inside")]).await?;
        assert_eq!(answer.status, StatusCode::OK, "{disposition:?}: {}", answer.text);
    }
    // A line break ends the header; what follows it is another header, and no part of the name.
    let broken = send(&app, "/files", &[part("name=\"file\"; filename=\"a\r\nX: b.txt\"", "inside")]).await?;
    assert_eq!(read_back(&app, &broken, "attachment-1").await?, "inside", "{}", broken.text);
    let nul = send(&app, "/files", &[part("name=\"file\"; filename=\"a\0.txt\"", "inside")]).await?;
    assert_eq!(nul.status, StatusCode::BAD_REQUEST, "{}", nul.text);
    Ok(())
}

#[tokio::test]
async fn an_upload_of_any_length_passes_through_without_being_held_in_memory() -> anyhow::Result<()> {
    const PIECE: &[u8] = &[b'x'; 64 * 1024];
    const PIECES: usize = 1024;
    /// What reading and writing in pieces may cost.
    const GROWTH_KIB_MAX: u64 = 20 * 1024;
    let app = setup().demo().start().await?;
    app.prompt("warm up").await?;
    let before_kib = memory_peak_kib(&app)?;
    let pieces = stream::iter((0..PIECES).map(|_| Ok::<_, std::io::Error>(PIECE)));
    // Of unknown length, so it is sent in chunks.
    let part = Part::stream(reqwest::Body::wrap_stream(pieces)).file_name("large.bin");
    let request = app.http().post(app.url("/files")).bearer_auth(app.demo_token()?);
    let answer = read(request.multipart(Form::new().part("file", part).text("ttl_secs", "60"))).await?;
    let (size, life) = (answer.json()["size"].clone(), answer.json()["ttl_secs"].clone());
    assert_eq!((size, life), (json!(PIECE.len() * PIECES), json!(60)), "{}", answer.text);
    let grown_kib = memory_peak_kib(&app)? - before_kib;
    assert!(grown_kib < GROWTH_KIB_MAX, "{grown_kib} KiB");
    Ok(())
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing_behind() -> anyhow::Result<()> {
    use tokio::io::AsyncWriteExt;
    let app = setup().demo().start().await?;
    let head = format!(
        "POST /files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: {}\r\nContent-Length: 9999999\r\n\r\n",
        app.demo_token()?,
        forms::CONTENT_TYPE
    );
    let mut connection = raw::connect(&app).await?;
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(&file(vec![b'x'; 200_000])[..150_000]).await?;
    until("half an upload is there", || Ok(uploads_on_disk(&app)?.len() == 1)).await?;
    drop(connection);
    until("it is gone", || Ok(uploads_on_disk(&app)?.is_empty())).await?;
    let uploaded = app.ledger().await?.into_iter().filter(|line| line["kind"] == "file_uploaded").count();
    assert_eq!(uploaded, 0);
    Ok(())
}

#[tokio::test]
async fn a_slow_sender_holds_up_nobody() -> anyhow::Result<()> {
    use tokio::io::AsyncWriteExt;
    let app = setup().demo().start().await?;
    let whole = form(&[file("in many pieces")]);
    let head = format!(
        "POST /files HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        app.demo_token()?,
        forms::CONTENT_TYPE,
        whole.len()
    );
    let mut connection = raw::connect(&app).await?;
    connection.write_all(head.as_bytes()).await?;
    for piece in whole.chunks(10) {
        connection.write_all(piece).await?;
        let quick = tokio::time::timeout(Duration::from_secs(10), app.prompt("say: meanwhile"));
        assert_eq!(quick.await??.json()["result"], "meanwhile");
    }
    let mut said = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut connection, &mut said).await?;
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("\"size\":14"), "{said}");
    Ok(())
}

#[tokio::test]
async fn what_lies_on_disk_is_readable_by_the_owner_alone() -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let app = setup().demo().start().await?;
    app.upload(&app.demo_token()?, "a.txt", b"inside".to_vec()).await?;
    for folder in ["", "files", "runs"] {
        let mode = std::fs::metadata(app.data_dir().join(folder))?.permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{folder}");
    }
    let names = uploads_on_disk(&app)?;
    let mode = std::fs::metadata(app.data_dir().join("files").join(&names[0]))?.permissions().mode() & 0o777;
    assert_eq!((names.len(), mode), (1, 0o400), "{names:?}");
    Ok(())
}
