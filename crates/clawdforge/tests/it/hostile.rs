//! Hostile heads and framing, byte by byte: nothing that is sent harms the service or another caller.

use std::time::Duration;

use clawdforge_testkit::app::TestApp;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::setup;
use crate::support::{assert_unharmed, raw};

/// Sends bytes with `TOKEN` replaced by the demo's, and gives the statuses of all answers.
async fn statuses(app: &TestApp, request: &str) -> anyhow::Result<Vec<u16>> {
    let request = request.replace("TOKEN", &app.demo_token()?);
    let said = raw::exchange(app, request.as_bytes()).await?;
    assert_unharmed(app).await?;
    Ok(raw::statuses(&said))
}

async fn runs_accepted(app: &TestApp) -> anyhow::Result<usize> {
    Ok(app.ledger().await?.iter().filter(|line: &&Value| line["kind"] == "run_accepted").count())
}

#[tokio::test]
async fn explore() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let cases = [
        (
            "CL.TE",
            "POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        ),
        (
            "TE.CL",
            "POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        ),
        (
            "TE identity",
            "POST /run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        ),
        (
            "TE chunked, x",
            "POST /run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, x\r\nConnection: close\r\n\r\n0\r\n\r\n",
        ),
        (
            "TE xchunked",
            "POST /run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        ),
        (
            "TE \\x0bchunked",
            "POST /run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        ),
        ("TE in 1.0", "POST /run HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (
            "two CL",
            "POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\nConnection: close\r\n\r\n{}x",
        ),
        (
            "two equal CL",
            "POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        ),
        ("CL list", "POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\nConnection: close\r\n\r\n{}"),
        ("CL neg", "POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: -2\r\nConnection: close\r\n\r\n{}"),
        ("CL plus", "POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\nConnection: close\r\n\r\n{}"),
        (
            "CL huge",
            "POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\nConnection: close\r\n\r\n{}",
        ),
        ("CL hex", "POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 0x2\r\nConnection: close\r\n\r\n{}"),
        (
            "chunk bad",
            "POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        ),
        (
            "chunk huge",
            "POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        ),
        (
            "chunk ext",
            "POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2;a=\"b\"\r\n{}\r\n0\r\n\r\n",
        ),
        (
            "chunk neg",
            "POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        ),
        (
            "chunk short",
            "POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        ),
        (
            "chunk trailer",
            "POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\nAuthorization: z\r\n\r\n",
        ),
        (
            "chunk bare LF",
            "POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\n{}\n0\n\n",
        ),
        ("NUL in header", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\nConnection: close\r\n\r\n"),
        ("bare LF head", "GET /healthz HTTP/1.1\nHost: x\nConnection: close\n\n"),
        ("bare LF in header", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\nX-B: b\r\nConnection: close\r\n\r\n"),
        ("bare CR in header", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\rX-B: b\r\nConnection: close\r\n\r\n"),
        ("space before colon", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A : a\r\nConnection: close\r\n\r\n"),
        ("obs-fold", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\r\n b\r\nConnection: close\r\n\r\n"),
        (
            "TE with space",
            "POST /run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        ),
        ("no host", "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"),
        ("two hosts", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n"),
        ("absolute", "GET http://evil.example/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ("CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ("BREW", "BREW /run HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ("TRACE", "TRACE /run HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ("bad method", "G{ET /run HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ("1.0", "GET /healthz HTTP/1.0\r\n\r\n"),
        ("0.9", "GET /healthz\r\n\r\n"),
        ("2.0", "GET /healthz HTTP/2.0\r\n\r\n"),
        ("h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03"),
        (
            "upgrade",
            "GET /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, close\r\nHTTP2-Settings: x\r\n\r\n",
        ),
        ("garbage", "\0\0\0\0\r\n\r\n"),
        ("path traversal", "GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ("path double slash", "GET //healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ("path bytes", "GET /\u{e9}\u{1F980} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ("path space", "GET /a b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        (
            "expect",
            "POST /run HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n",
        ),
        (
            "expect odd",
            "POST /run HTTP/1.1\r\nHost: x\r\nExpect: the-unexpected\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        ),
    ];
    for (title, case) in cases {
        let got = match tokio::time::timeout(Duration::from_secs(3), statuses(&app, case)).await {
            Ok(x) => format!("{:?}", x?),
            Err(_) => "OPEN".into(),
        };
        println!("{title}: {got}");
    }
    for (title, case) in [
        (
            "1 MB header",
            format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: {}\r\nConnection: close\r\n\r\n", "a".repeat(1 << 20)),
        ),
        (
            "60 KB header",
            format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: {}\r\nConnection: close\r\n\r\n", "a".repeat(60_000)),
        ),
        (
            "1000 headers",
            format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}Connection: close\r\n\r\n", "X-A: a\r\n".repeat(1000)),
        ),
        (
            "90 headers",
            format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}Connection: close\r\n\r\n", "X-A: a\r\n".repeat(90)),
        ),
        ("long URL", format!("GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "a".repeat(200_000))),
        ("URL 60k", format!("GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "a".repeat(60_000))),
        ("URL 65535", format!("GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "a".repeat(65_000))),
        (
            "pipelined",
            format!(
                "{}GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50)
            ),
        ),
    ] {
        let got = match tokio::time::timeout(Duration::from_secs(3), statuses(&app, &case)).await {
            Ok(x) => format!("{:?}", x?),
            Err(_) => "OPEN".into(),
        };
        println!("{title}: {got}");
    }
    assert_eq!(runs_accepted(&app).await?, 0);
    Ok(())
}
