//! Many who follow one session, over connections that do not last, some of them reading nothing.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clawdforge_testkit::app::{PATIENCE, TestApp};
use clawdforge_testkit::chaos_proxy::{ChaosProxy, Fault};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
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
    let mut seen = Seen::default();
    while !seen.is_closed {
        seen.begun.clear();
        let mut stream = TcpStream::connect(address).await?;
        let after = seen.ids.last().copied().unwrap_or(0);
        stream.write_all(head(&path, &token, after).as_bytes()).await?;
        let mut buffer = vec![0; 4096];
        while let Ok(Ok(count)) = tokio::time::timeout(SILENCE_MAX, stream.read(&mut buffer)).await {
            seen.take_in(std::str::from_utf8(&buffer[..count])?);
            if count == 0 || seen.is_closed {
                break;
            }
        }
    }
    Ok(seen.ids)
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
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(head(&path, &token, 0).as_bytes()).await?;
        stalled.push(stream);
    }
    let mut followers = JoinSet::new();
    for _ in STALLED..FOLLOWERS {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(head(&path, &token, 0).as_bytes()).await?;
        followers.spawn(async move {
            let (mut seen, mut buffer) = (Seen::default(), vec![0; 16 * 1024]);
            while !seen.is_closed {
                let count = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await??;
                ensure!(count > 0, "the stream ended early");
                seen.take_in(std::str::from_utf8(&buffer[..count])?);
            }
            Ok(seen.ids)
        });
    }
    // Events far larger than what the kernel holds for a connection that nobody reads.
    let large = format!("use tool: T {{\"text\": \"{}\"}}\n", "x".repeat(100_000)).repeat(2);
    for prompt in [busy_prompt(20), large] {
        let turn = app.call(Method::POST, &format!("{session}/turns"), &token, json!({ "prompt": prompt })).await?;
        ensure!(turn.json()["outcome"] == "completed", "{turn:?}");
    }
    app.call(Method::DELETE, &session, &token, serde_json::Value::Null).await?;
    let mut counts = Vec::new();
    while let Some(seen) = followers.join_next().await {
        let seen = seen??;
        assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
        counts.push(seen.len());
    }
    assert_eq!(counts.len(), FOLLOWERS - STALLED);
    assert!(counts.iter().all(|count| *count == counts[0] && *count > 40), "{counts:?}");
    let grown = resident_kb(&app)?.saturating_sub(before);
    assert!(grown < GROWTH_KB_MAX, "the service grew by {grown} kB");
    drop(stalled);
    Ok(())
}
