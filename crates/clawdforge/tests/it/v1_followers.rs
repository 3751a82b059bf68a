//! Many who follow one session, over connections that do not last, some of them reading nothing.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clawdforge_testkit::app::{PATIENCE, TestApp};
use clawdforge_testkit::chaos_proxy::{ChaosProxy, Fault};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::setup;

/// How long a follower waits for the next byte before it takes the connection for dead. It hears at least a heartbeat
/// every 15 s from a service that is there; here something comes all the time.
const SILENCE_MAX: Duration = Duration::from_millis(500);

/// Those who follow at once, and those of them who take in nothing.
const FOLLOWERS: usize = 1_000;
const STALLED: usize = 100;

/// What the service may take for all of them: a megabyte of the newest events, a page for each who has fallen behind, and
/// what a connection costs.
const GROWTH_KB_MAX: u64 = 160 * 1024;

/// A session, and a turn in it with so many tool calls, each an event and its answer another.
fn busy_prompt(calls: usize) -> String {
    (0..calls).map(|call| format!("use tool: T {{\"n\": {call}}}\nsleep: 2\n")).collect()
}

async fn open(app: &TestApp) -> anyhow::Result<String> {
    let token = app.demo_token()?;
    let opened = app.call(Method::POST, "/v1/sessions", &token, json!({})).await?.json();
    Ok(format!("/v1/sessions/{}", opened["id"].as_str().context("it has an id")?))
}

fn head(path: &str, token: &str, after: u64) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nAccept: text/event-stream\r\n\
         Last-Event-ID: {after}\r\n\r\n"
    )
}

/// What was read of a stream.
#[derive(Default)]
struct Seen {
    ids: Vec<u64>,
    is_closed: bool,
    /// The beginning of an event whose end has not come; cut off here, it is sent again.
    begun: String,
}

impl Seen {
    fn take_in(&mut self, text: &str) {
        self.begun.push_str(text);
        let Some(end) = self.begun.rfind("\n\n") else { return };
        let rest = self.begun.split_off(end + 2);
        let whole = std::mem::replace(&mut self.begun, rest);
        self.ids.extend(whole.lines().filter_map(|line| line.strip_prefix("id: ")?.parse::<u64>().ok()));
        self.is_closed |= whole.contains("event: closed\n");
    }
}

/// Follows to the end, coming back as often as it must; every number it saw.
async fn follow(address: SocketAddr, path: String, token: String) -> anyhow::Result<Vec<u64>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(head(&path, &token, 0).as_bytes()).await?;
    read_on(stream, &path, &token).await
}

/// The same for a stream that was opened before and of which nothing was read.
async fn read_on(mut stream: TcpStream, path: &str, token: &str) -> anyhow::Result<Vec<u64>> {
    let (address, mut seen, mut buffer) = (stream.peer_addr()?, Seen::default(), vec![0; 4096]);
    loop {
        while let Ok(Ok(count)) = tokio::time::timeout(SILENCE_MAX, stream.read(&mut buffer)).await {
            seen.take_in(std::str::from_utf8(&buffer[..count])?);
            if count == 0 || seen.is_closed {
                break;
            }
        }
        if seen.is_closed {
            return Ok(seen.ids);
        }
        seen.begun.clear();
        stream = TcpStream::connect(address).await?;
        let after = seen.ids.last().copied().unwrap_or(0);
        stream.write_all(head(path, token, after).as_bytes()).await?;
    }
}

#[tokio::test]
async fn over_connections_that_are_cut_reset_and_stalled_each_number_is_seen_once() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let (session, token) = (open(&app).await?, app.demo_token()?);
    let faults = vec![
        (700, Fault::Cut),
        (1_300, Fault::Reset),
        (0, Fault::Cut),
        (900, Fault::Stall),
        (5_000, Fault::Cut),
        (350, Fault::Reset),
        (20_000, Fault::None),
    ];
    let proxy = ChaosProxy::start(app.authority().parse()?, faults).await?;
    let mut followers = JoinSet::new();
    for _ in 0..8 {
        followers.spawn(follow(proxy.address(), format!("{session}/events"), token.clone()));
    }
    let body = json!({ "prompt": busy_prompt(40) });
    for _ in 0..3 {
        let turn = app.call(Method::POST, &format!("{session}/turns"), &token, body.clone()).await?;
        ensure!(turn.json()["outcome"] == "completed", "{turn:?}");
    }
    app.call(Method::DELETE, &session, &token, serde_json::Value::Null).await?;
    let events = app.call(Method::GET, &format!("{session}/events?limit=500"), &token, serde_json::Value::Null).await?;
    let last =
        events.json()["data"].as_array().and_then(|all| all.last()?["seq"].as_u64()).context("there are events")?;
    while let Some(seen) = tokio::time::timeout(PATIENCE, followers.join_next()).await? {
        assert_eq!(seen??, (1..=last).collect::<Vec<_>>());
    }
    assert!(proxy.connections() > 8 * 5, "only {} connections", proxy.connections());
    Ok(())
}

/// A connection whose kernels hold little for it, some 90 kB on both sides. An ordinary one takes in megabytes on loopback, whose
/// segments are large, before anybody hears that nobody reads.
async fn narrow(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket2::SockRef::from(&socket).set_tcp_mss(536)?;
    Ok(socket.connect(address).await?)
}

/// Bytes on their way to whoever has the other end of this connection: what the service wrote and nobody has read.
fn held_by_kernels(stream: &TcpStream) -> anyhow::Result<usize> {
    let hex = |address: SocketAddr| format!("0100007F:{:04X}", address.port());
    let (ours, theirs) = (hex(stream.local_addr()?), hex(stream.peer_addr()?));
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let queue = |local: &str, remote: &str, place: usize| {
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.get(1) == Some(&local) && row.get(2) == Some(&remote));
        let queues = row.context("the connection is there")?[4].split(':').nth(place).context("it has two queues")?;
        anyhow::Ok(usize::from_str_radix(queues, 16)?)
    };
    Ok(queue(&theirs, &ours, 0)? + queue(&ours, &theirs, 1)?)
}

fn resident_kb(app: &TestApp) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid()?.as_raw_pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("it says its memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[tokio::test]
async fn a_thousand_follow_one_session_and_those_who_read_nothing_delay_nobody() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let (session, token) = (open(&app).await?, app.demo_token()?);
    let address: SocketAddr = app.authority().parse()?;
    let path = format!("{session}/events");
    let before = resident_kb(&app)?;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut stream = narrow(address).await?;
        stream.write_all(head(&path, &token, 0).as_bytes()).await?;
        stalled.push(stream);
    }
    let mut followers = JoinSet::new();
    for _ in STALLED..FOLLOWERS {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(head(&path, &token, 0).as_bytes()).await?;
        followers.spawn(async move {
            let (mut seen, mut buffer, mut bytes) = (Seen::default(), vec![0; 16 * 1024], 0);
            while !seen.is_closed {
                let count = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await??;
                ensure!(count > 0, "the stream ended early");
                bytes += count;
                seen.take_in(std::str::from_utf8(&buffer[..count])?);
            }
            Ok((seen.ids, bytes))
        });
    }
    // Events far larger than what the kernel holds for a connection that nobody reads.
    let large = format!("use tool: T {{\"text\": \"{}\"}}\n", "x".repeat(100_000)).repeat(2);
    for prompt in [busy_prompt(20), large] {
        let turn = app.call(Method::POST, &format!("{session}/turns"), &token, json!({ "prompt": prompt })).await?;
        ensure!(turn.json()["outcome"] == "completed", "{turn:?}");
    }
    app.call(Method::DELETE, &session, &token, serde_json::Value::Null).await?;
    let (mut counts, mut bytes_min) = (Vec::new(), usize::MAX);
    while let Some(seen) = followers.join_next().await {
        let (seen, bytes) = seen??;
        bytes_min = bytes_min.min(bytes);
        assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
        counts.push(seen.len());
    }
    assert_eq!(counts.len(), FOLLOWERS - STALLED);
    assert!(counts.iter().all(|count| *count == counts[0] && *count > 40), "{counts:?}");
    let grown = resident_kb(&app)?.saturating_sub(before);
    assert!(grown < GROWTH_KB_MAX, "the service grew by {grown} kB");
    // The service has more for each of them than it can be rid of, and whoever reads on at last gets all of it.
    for stream in &stalled {
        let held = held_by_kernels(stream)?;
        assert!(held > 0 && held < bytes_min / 2, "{held} of {bytes_min} bytes are out");
    }
    for stream in stalled.into_iter().take(3) {
        let seen = tokio::time::timeout(PATIENCE, read_on(stream, &path, &token)).await??;
        assert_eq!(seen, (1..=counts[0] as u64).collect::<Vec<_>>());
    }
    Ok(())
}
