//! Hostile bodies: too large, too deep, of the wrong kind, and forms full of tricks.

use clawdforge_testkit::app::{Answer, TestApp, read};
use serde_json::json;

use crate::setup;
use crate::support::form::{self, file, form, part, post};
use crate::support::{assert_unharmed, memory_peak_kib, uploads_on_disk};

/// Sends a body to a route with this content type.
async fn send(app: &TestApp, path: &str, kind: &str, body: impl Into<Vec<u8>>) -> anyhow::Result<Answer> {
    let request = app.http().post(app.url(path)).bearer_auth(app.demo_token()?).header("content-type", kind);
    read(request.body(body.into())).await
}

/// A JSON body of a size, as a string of one letter in a field nobody knows.
fn padded(bytes: usize) -> Vec<u8> {
    let (head, tail) = (r#"{"prompt": "say: x", "padding": ""#, r#""}"#);
    [head.as_bytes(), &vec![b'x'; bytes - head.len() - tail.len()], tail.as_bytes()].concat()
}

#[tokio::test]
async fn json_that_is_none_is_a_422() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let cases: [(&str, Vec<u8>); 10] = [
        ("objects 100,000 deep without a value", deep(r#"{"prompt":"#, "}").into()),
        ("100,000 deep and never closed", "[".repeat(100_000).into()),
        ("bytes that are no text", b"{\"prompt\": \"\xff\xfe\"}".to_vec()),
        ("a text cut within a character", b"{\"prompt\": \"\xc3\"}".to_vec()),
        ("half a surrogate pair", br#"{"prompt": "\ud800"}"#.to_vec()),
        ("a number beyond all numbers", br#"{"prompt": "p", "timeout_secs": 1e999}"#.to_vec()),
        ("a mark of byte order", b"\xef\xbb\xbf{\"prompt\": \"p\"}".to_vec()),
        ("two values", b"{\"prompt\": \"p\"}{}".to_vec()),
        ("a NUL behind", b"{\"prompt\": \"p\"}\0".to_vec()),
        ("NaN", br#"{"prompt": "p", "timeout_secs": NaN}"#.to_vec()),
    ];
    for (title, body) in cases {
        let answer = send(&app, "/run", "application/json", body).await?;
        assert_eq!(answer.status, 422, "{title}: {}", answer.text);
        assert_eq!(answer.json()["detail"][0]["type"], "json_invalid", "{title}: {}", answer.text);
        assert_unharmed(&app).await?;
    }
    Ok(())
}

#[tokio::test]
async fn depth_is_refused_where_it_is_read_and_passed_over_elsewhere() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, kind) in [
        (deep.clone(), "model_attributes_type"),
        (format!(r#"{{"prompt":{deep}}}"#), "string_type"),
        (format!(r#"{{"prompt":"p","files":{deep}}}"#), "string_type"),
        (format!(r#"{{"prompt":"p","timeout_secs":{deep}}}"#), "int_parsing_size"),
    ] {
        let answer = send(&app, "/run", "application/json", body).await?;
        assert_eq!((answer.status.as_u16(), &answer.json()["detail"][0]["type"]), (422, &json!(kind)));
        assert_unharmed(&app).await?;
    }
    let unknown = format!(r#"{{"prompt":"say: x","x":{deep}}}"#);
    assert_eq!(send(&app, "/run", "application/json", unknown).await?.json()["result"], "x");
    assert_unharmed(&app).await
}

#[tokio::test]
async fn many_small_values_take_no_more_memory_than_their_text() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let before = memory_peak_kib(&app)?;
    let numbers = "1,".repeat(7_500_000);
    for (field, status) in [("files", 422), ("padding", 200)] {
        let body = format!(r#"{{"prompt": "say: x", "{field}": [{numbers}1]}}"#);
        assert_eq!(send(&app, "/run", "application/json", body).await?.status, status);
    }
    let grown_kib = memory_peak_kib(&app)? - before;
    assert!(grown_kib < 4 * 16 * 1024, "{grown_kib} KiB for 15 MB of text");
    assert_unharmed(&app).await
}

#[tokio::test]
async fn huge_values_are_refused_without_being_repeated() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let digits = "9".repeat(1_000_000);
    for (title, body) in [
        ("an integer of a million digits", format!(r#"{{"prompt": "p", "timeout_secs": {digits}}}"#)),
        ("a text of a million digits", format!(r#"{{"prompt": "p", "timeout_secs": "{digits}"}}"#)),
        ("a large effort", format!(r#"{{"prompt": "p", "effort": "{digits}"}}"#)),
        ("a million files", format!(r#"{{"prompt": "p", "files": [{}1]}}"#, "1,".repeat(1_000_000))),
        ("a large object for a prompt", format!(r#"{{"prompt": {{"x": "{digits}"}}}}"#)),
        ("no prompt in a large body", format!(r#"{{"system": "{digits}"}}"#)),
        ("a million keys and no prompt", format!("{{{}\"z\": 1}}", r#""a": 1,"#.repeat(1_000_000))),
    ] {
        let answer = send(&app, "/run", "application/json", body).await?;
        assert_eq!(answer.status, 422, "{title}: {}", answer.text);
        assert!(answer.text.len() < 4_096, "{title}: {} bytes", answer.text.len());
        assert_unharmed(&app).await?;
    }
    Ok(())
}

#[tokio::test]
async fn sizes_around_the_limits() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let prompt = json!({ "prompt": "x".repeat(9_900_000) });
    let answer = app.run(&app.demo_token()?, prompt).await?;
    assert_eq!((answer.status.as_u16(), &answer.json()["detail"][0]["type"]), (422, &json!("string_too_long")));
    let just = send(&app, "/run", "application/json", padded(16 * 1024 * 1024)).await?;
    assert_eq!(just.status, 200, "{}", just.text);
    for bytes in [16 * 1024 * 1024 + 1, 20_000_000] {
        let answer = send(&app, "/run", "application/json", padded(bytes)).await?;
        assert_eq!(answer.status, 413, "{}", answer.text);
        assert_unharmed(&app).await?;
    }
    // The same without saying how much it will be.
    let pieces = futures_util::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1_000_000])));
    let request = app.http().post(app.url("/run")).bearer_auth(app.demo_token()?);
    let answer = read(request.body(reqwest::Body::wrap_stream(pieces))).await?;
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert_unharmed(&app).await
}

#[tokio::test]
async fn whoever_is_refused_early_still_hears_why() -> anyhow::Result<()> {
    let app = setup().demo().arg("--upload-max-bytes").arg("1MiB").start().await?;
    for round in 0..5 {
        let large = form(&[file(vec![b'x'; 8_000_000])]);
        let refused = post(&app, "cf_wrong", "/files", large.clone()).await?;
        assert_eq!(refused.status, 401, "round {round}: {}", refused.text);
        assert_eq!(refused.headers["connection"], "close", "the rest was not read");
        let refused = post(&app, &app.demo_token()?, "/files", large).await?;
        assert_eq!(refused.status, 413, "round {round}: {}", refused.text);
    }
    assert_eq!(uploads_on_disk(&app)?, Vec::<String>::new());
    assert_unharmed(&app).await
}

#[tokio::test]
async fn a_key_twice_counts_once_and_the_last_one_does() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let body = r#"{"prompt": "say: first", "prompt": "say: last"}"#;
    assert_eq!(send(&app, "/run", "application/json", body).await?.json()["result"], "last");
    Ok(())
}

#[tokio::test]
async fn a_body_of_another_kind_is_a_415() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let body = r#"{"prompt": "say: x"}"#;
    for (path, kind, status) in [
        ("/run", "text/plain", 415),
        ("/run", "application/x-www-form-urlencoded", 415),
        ("/run", form::CONTENT_TYPE, 415),
        ("/run", "", 415),
        ("/run", "json", 415),
        ("/run", "application/json, text/plain", 415),
        ("/run", "application/json; charset=utf-8", 200),
        ("/run", "APPLICATION/JSON", 200),
        ("/run", "application/vnd.clawdforge+json", 200),
        ("/files", "application/json", 415),
        ("/files", "multipart/form-data", 415),
        ("/files", "multipart/mixed; boundary=x", 415),
        ("/files", "text/plain", 415),
        ("/files", "multipart/form-data; boundary=", 400),
        ("/files", "multipart/form-data; boundary=another", 400),
    ] {
        let answer = send(&app, path, kind, body).await?;
        assert_eq!(answer.status.as_u16(), status, "{path} {kind:?}: {}", answer.text);
        assert_unharmed(&app).await?;
    }
    Ok(())
}

#[tokio::test]
async fn forms_full_of_tricks_are_refused_and_leave_nothing() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let large_header = format!("name=\"file\"; filename=\"a\"\r\nX-A: {}", "a".repeat(400_000));
    let many_headers = format!("name=\"file\"; filename=\"a\"{}", "\r\nX-A: a".repeat(500));
    let disposition = |line: &str| format!("--X-BOUNDARY\r\n{line}\r\n\r\nhello\r\n--X-BOUNDARY--\r\n").into_bytes();
    let cases: [(&str, Vec<u8>); 14] = [
        ("two files", form(&[file("a"), file("b")])),
        ("a hundred parts", form(&vec![part("name=\"x\"", "y"); 100])),
        ("a hundred files", form(&vec![file("x"); 100])),
        ("a header of 400 KB", form(&[part(&large_header, "hello")])),
        ("five hundred headers", form(&[part(&many_headers, "hello")])),
        ("a boundary that never ends the form", [file("hello"), file("hello")].concat()),
        ("a part without an end", file("hello")[..80].to_vec()),
        ("just the end", b"--X-BOUNDARY--\r\n".to_vec()),
        ("no boundary", b"hello".to_vec()),
        ("nothing", Vec::new()),
        ("no disposition", disposition("Content-Type: text/plain")),
        ("a disposition of another kind", disposition("Content-Disposition: attachment; filename=\"a\"")),
        ("a file by another name", form(&[part("name=\"FILE\"; filename=\"a\"", "hello")])),
        ("a field of a megabyte", form(&[part("name=\"note\"", "x".repeat(1_000_000)), file("hello")])),
    ];
    for (title, body) in cases {
        let answer = post(&app, &app.demo_token()?, "/files", body).await?;
        assert!(answer.status.is_client_error(), "{title}: {answer:?}");
        assert!(answer.json()["error"].is_string(), "{title}: {answer:?}");
        assert_unharmed(&app).await?;
        assert_eq!(uploads_on_disk(&app)?, Vec::<String>::new(), "{title}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_file_is_never_held_in_memory() -> anyhow::Result<()> {
    /// A piece of what is sent, and how often.
    const PIECE: &[u8] = &[b'x'; 64 * 1024];
    const PIECES: usize = 1024;
    let app = setup().demo().start().await?;
    let endless_head = "--X-BOUNDARY\r\nContent-Disposition: form-data; name=\"file\"; filename=\"";
    for (title, begin) in [("a head that never ends", endless_head), ("a preamble that never ends", "")] {
        let before_kib = memory_peak_kib(&app)?;
        let pieces = std::iter::once(begin.as_bytes()).chain((0..PIECES).map(|_| PIECE));
        let pieces = futures_util::stream::iter(pieces.map(Ok::<_, std::io::Error>));
        let request = app.http().post(app.url("/files")).bearer_auth(app.demo_token()?);
        let request = request.header("content-type", form::CONTENT_TYPE);
        let answer = read(request.body(reqwest::Body::wrap_stream(pieces))).await?;
        assert_eq!(answer.status, 400, "{title}: {}", answer.text);
        assert!(answer.text.contains("larger than the allowed"), "{title}: {}", answer.text);
        let grown_kib = memory_peak_kib(&app)? - before_kib;
        assert!(grown_kib < 10 * 1024, "{title}: {grown_kib} KiB");
    }
    assert_unharmed(&app).await
}

#[tokio::test]
async fn what_looks_like_a_boundary_inside_a_file_is_the_files() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let inside = "--X-BOUNDAR\r\n--X-BOUNDAR--\r\n-- X-BOUNDARY--";
    let before_and_after = [b"a preamble\r\n".to_vec(), form(&[file(inside)]), b"an epilogue".to_vec()].concat();
    let answer = post(&app, &app.demo_token()?, "/files", before_and_after).await?;
    assert_eq!((answer.status.as_u16(), &answer.json()["size"]), (200, &json!(inside.len())), "{}", answer.text);
    Ok(())
}
