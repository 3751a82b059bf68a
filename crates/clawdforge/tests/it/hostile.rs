//! Hostile heads and framing, byte by byte: nothing that is sent harms the service or another caller.

use clawdforge_testkit::app::TestApp;
use tokio::io::AsyncWriteExt;

use crate::setup;
use crate::support::{assert_unharmed, get, raw};

/// Sends what is given, with `TOKEN` replaced by the demo's, and compares the statuses of all answers.
async fn check(app: &TestApp, cases: &[(&str, &str, &[u16])]) -> anyhow::Result<()> {
    for (title, request, expected) in cases {
        let request = request.replace("TOKEN", &app.demo_token()?);
        let said = raw::exchange(app, request.as_bytes()).await?;
        assert_eq!(raw::statuses(&said), *expected, "{title}: {said}");
        assert_unharmed(app).await?;
    }
    Ok(())
}

/// Sends a body with this framing to `/run`, and compares the statuses of all answers.
async fn check_framing(app: &TestApp, cases: &[(&str, &str, &str, &[u16])]) -> anyhow::Result<()> {
    for (title, framing, body, expected) in cases {
        let head = "POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nConnection: close\r\n";
        check(app, &[(title, &format!("{head}{framing}\r\n\r\n{body}"), expected)]).await?;
    }
    let ran = app.ledger().await?.iter().filter(|line| line["kind"] == "run_accepted").count();
    assert_eq!(ran, 0, "none of it was taken for a run");
    Ok(())
}

#[tokio::test]
async fn a_request_inside_a_body_is_never_answered() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    // Two lengths that disagree: whichever a proxy believes, what follows must not be a request of its own.
    let (inner, chunks) = ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "0\r\n\r\n");
    let head = "POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n";
    let (chunked, length) = ("Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n");
    check(
        &app,
        &[
            ("length, then chunks", &format!("{head}{length}{chunked}\r\n{chunks}{inner}"), &[422]),
            ("chunks, then length", &format!("{head}{chunked}{length}\r\n{chunks}{inner}"), &[422]),
            ("two lengths", &format!("{head}{length}Content-Length: 40\r\n\r\n{chunks}{inner}"), &[400]),
            ("a list of lengths", &format!("{head}Content-Length: 5, 40\r\n\r\n{chunks}{inner}"), &[400]),
            ("chunks in HTTP/1.0", &format!("POST /run HTTP/1.0\r\n{chunked}\r\n{chunks}{inner}"), &[400]),
            ("chunked twice", &format!("{head}{chunked}Transfer-Encoding: identity\r\n\r\n{chunks}{inner}"), &[400]),
        ],
    )
    .await
}

#[tokio::test]
async fn lengths_and_encodings_that_are_none_are_refused() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    check_framing(
        &app,
        &[
            ("negative", "Content-Length: -2", "{}", &[400]),
            ("signed", "Content-Length: +2", "{}", &[400]),
            ("hexadecimal", "Content-Length: 0x2", "{}", &[400]),
            ("beyond all numbers", "Content-Length: 99999999999999999999999", "{}", &[400]),
            ("the same twice", "Content-Length: 2\r\nContent-Length: 2", "{}", &[422]),
            ("identity", "Transfer-Encoding: identity\r\nContent-Length: 2", "{}", &[400]),
            ("not last", "Transfer-Encoding: chunked, gzip", "0\r\n\r\n", &[400]),
            ("another word", "Transfer-Encoding: xchunked", "0\r\n\r\n", &[400]),
            ("a vertical tab", "Transfer-Encoding: \x0bchunked", "0\r\n\r\n", &[400]),
            ("a space in the name", "Transfer-Encoding : chunked", "0\r\n\r\n", &[400]),
        ],
    )
    .await
}

#[tokio::test]
async fn chunks_are_read_strictly() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let chunked = "Transfer-Encoding: chunked";
    check_framing(
        &app,
        &[
            ("no number", chunked, "zz\r\n{}\r\n0\r\n\r\n", &[400]),
            ("negative", chunked, "-2\r\n{}\r\n0\r\n\r\n", &[400]),
            ("beyond all numbers", chunked, "ffffffffffffffffff\r\n{}\r\n0\r\n\r\n", &[400]),
            ("too short", chunked, "1\r\n{}\r\n0\r\n\r\n", &[400]),
            ("bare line feeds", chunked, "2\n{}\n0\n\n", &[400]),
            ("an extension", chunked, "2;a=\"b\"\r\n{}\r\n0\r\n\r\n", &[422]),
            ("a trailer", chunked, "2\r\n{}\r\n0\r\nAuthorization: x\r\n\r\n", &[422]),
        ],
    )
    .await
}

#[tokio::test]
async fn malformed_heads_are_refused() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let get = |line: &str| format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{line}\r\nConnection: close\r\n\r\n");
    check(
        &app,
        &[
            ("a NUL in a header", &get("X-A: a\0b"), &[400]),
            ("a bare carriage return", &get("X-A: a\rX-B: b"), &[400]),
            ("a space before the colon", &get("X-A : a"), &[400]),
            ("a folded header", &get("X-A: a\r\n b"), &[400]),
            ("no colon", &get("X-A"), &[400]),
            ("no name", &get(": a"), &[400]),
            ("a method that is none", "G{ET /run HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
            ("a space in the path", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
            ("HTTP/0.9", "GET /healthz\r\n\r\n", &[400]),
            ("HTTP/2.0", "GET /healthz HTTP/2.0\r\n\r\n", &[400]),
            ("HTTP/2 without asking", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[]),
            ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03", &[400]),
            ("nothing readable", "\0\0\0\0\r\n\r\n", &[400]),
        ],
    )
    .await
}

#[tokio::test]
async fn odd_but_honest_heads_are_answered() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let line = |line: &str| format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let header = |line: &str| format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{line}\r\nConnection: close\r\n\r\n");
    let many = format!("{}{}", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20), line("GET /nothing"));
    let after_each_other: Vec<u16> = [vec![200; 20], vec![404]].concat();
    check(
        &app,
        &[
            ("bare line feeds", "GET /healthz HTTP/1.1\nHost: x\nConnection: close\n\n", &[200]),
            ("HTTP/1.0", "GET /healthz HTTP/1.0\r\n\r\n", &[200]),
            ("an absolute address", &line("GET http://forge/healthz"), &[200]),
            ("an absolute address of somebody else", &line("GET http://elsewhere.example/healthz"), &[421]),
            ("an upgrade", &header("Upgrade: h2c\r\nHTTP2-Settings: x"), &[200]),
            ("a method nobody knows", &line("BREW /run"), &[405]),
            ("TRACE", &line("TRACE /run"), &[405]),
            ("CONNECT", &line("CONNECT elsewhere.example:443"), &[421]),
            ("OPTIONS for all", &line("OPTIONS *"), &[404]),
            ("a path that climbs", &line("GET /../../etc/passwd"), &[404]),
            ("two slashes", &line("GET //healthz"), &[404]),
            ("a path that is no ASCII", &line("GET /\u{e9}\u{1F980}"), &[404]),
            ("a long path", &line(&format!("GET /{}", "a".repeat(60_000))), &[404]),
            ("one after the other without waiting", &many, &after_each_other),
        ],
    )
    .await
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let get = |path: &str, lines: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{lines}Connection: close\r\n\r\n");
    check(
        &app,
        &[
            ("a header of 1 MB", &get("/healthz", &format!("X-A: {}\r\n", "a".repeat(1 << 20))), &[431]),
            ("a thousand headers", &get("/healthz", &"X-A: a\r\n".repeat(1000)), &[431]),
            ("a path of 200 KB", &get(&format!("/{}", "a".repeat(200_000)), ""), &[431]),
        ],
    )
    .await
}

#[tokio::test]
async fn callers_who_dribble_hold_up_nobody() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let mut slow = Vec::new();
    for place in 0..100 {
        let mut connection = raw::connect(&app).await?;
        // Some stop within the head, some within the body, some say nothing at all.
        let head = format!("POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n", app.demo_token()?);
        let within_body = format!("{head}Content-Length: 100\r\n\r\n{{");
        let begun = [head.as_str(), &within_body, ""][place % 3];
        connection.write_all(begun.as_bytes()).await?;
        slow.push(connection);
    }
    for connection in &mut slow {
        connection.write_all(b"X").await?;
        assert_eq!(get(&app, "/healthz", "").await?.status, 200);
    }
    assert_eq!(app.prompt("say: served").await?.json()["result"], "served");
    drop(slow);
    assert_unharmed(&app).await
}
