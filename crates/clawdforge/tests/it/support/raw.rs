//! HTTP written by hand, for what no client library would send.

use anyhow::Context;
use clawdforge_testkit::app::{Answer, PATIENCE, TestApp};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection of its own.
pub async fn connect(app: &TestApp) -> anyhow::Result<TcpStream> {
    Ok(TcpStream::connect(app.authority()).await?)
}

/// Sends bytes while it reads, until the service closes the connection, and gives all it said.
pub async fn exchange(app: &TestApp, bytes: &[u8]) -> anyhow::Result<String> {
    let (mut reading, mut writing) = connect(app).await?.into_split();
    let mut said = Vec::new();
    let send = async {
        // A service that refuses early closes before everything is written: that is what is tested.
        drop(writing.write_all(bytes).await);
        writing
    };
    let both = async { tokio::join!(send, reading.read_to_end(&mut said)) };
    let (_open, read) = tokio::time::timeout(PATIENCE, both).await.context("the service did not close")?;
    // A reset after the answer is a way to close as well.
    drop(read);
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Sends one request and reads its one answer.
pub async fn request(app: &TestApp, head: &str, body: &[u8]) -> anyhow::Result<Answer> {
    let mut bytes = format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    answer(&exchange(app, &bytes).await?)
}

/// The statuses of all answers in what the service said.
pub fn statuses(said: &str) -> Vec<u16> {
    let lines = said.split("\r\n").filter_map(|line| line.split("HTTP/1.").nth(1));
    lines.filter_map(|line| line.get(2..5)?.parse().ok()).collect()
}

fn answer(said: &str) -> anyhow::Result<Answer> {
    let (head, body) = said.split_once("\r\n\r\n").with_context(|| format!("no answer: {said:?}"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').context("no header")?;
        headers.append(name.parse::<HeaderName>()?, HeaderValue::from_str(value.trim())?);
    }
    Ok(Answer { status: status.parse()?, headers, text: body.to_owned() })
}
