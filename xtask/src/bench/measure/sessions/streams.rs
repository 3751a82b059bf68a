//! Streams of `/v1`: how soon the first word is seen, how soon a thousand have seen it, how fast a log is replayed,
//! and what is held for those who read nothing.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::super::report::{Goal, Table, as_kilobytes};
use super::super::samples::{Samples, difference_ms, millis};
use super::super::service::Service;
use super::direct::Direct;
use super::{Caller, Effort, PROMPT};
use crate::bench::measure::Scene;

/// Milliseconds from what the agent takes to its first word to when a reader of the stream has it.
const FIRST_WORD_MS_MAX: f64 = 2.0;

/// Says something and is busy for a while, so that the end of the turn does not bring the word along.
const TALKS: &str = "say: hello\nsleep: 15";

/// Bytes read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Readers of one log at once.
const REPLAYS: [usize; 2] = [1, 8];

/// Measures all of it.
///
/// # Errors
/// When the service or the agent fails, or an event is missing.
pub fn measure(scene: &Scene, client: &Runtime, effort: &Effort) -> Result<(Table, Vec<Goal>)> {
    let (data, home) = (scene.folder("streams")?, scene.folder("home")?);
    let service = Service::start(&scene.demo(&data, &home), client)?;
    let token = service.mint(client)?;
    let mut table = Table::new("Streams of `/v1`", &["what", "median", "p99", "max", "times"]);
    let mut row = |what: &str, samples: &Samples| {
        let times = [samples.median(), samples.quantile(0.99), samples.max()].map(millis);
        table.row(std::iter::once(what.to_owned()).chain(times).chain([samples.count().to_string()]));
    };

    let (mut direct, _) = Direct::start(&home, &scene.folder("direct")?)?;
    let session = client.block_on(opened(&service, &token))?;
    let (mut alone, mut streamed) = (Vec::new(), Vec::new());
    for _ in 0..effort.streams {
        alone.push(direct.first_word(TALKS)?);
        let mut stream = client.block_on(Stream::post(service.address, &session, &token, TALKS))?;
        streamed.push(client.block_on(stream.until("event: text\n"))?);
        client.block_on(stream.until("event: ended\n"))?;
    }
    drop(direct);
    let (alone, streamed) = (Samples::new(alone), Samples::new(streamed));
    row("the agent over its pipes, to its first word", &alone);
    row("`POST …/turns` as a stream, to its first word", &streamed);
    let added = difference_ms(streamed.median(), alone.median());
    let goal = Goal::signed_millis(
        "added to the first word of a streamed turn, durable, at the median",
        FIRST_WORD_MS_MAX,
        added,
    );

    for followers in [1, effort.followers] {
        let times = client.block_on(fan_out(&service, &session, &token, followers, effort.fan_outs))?;
        row(
            &format!("a turn, from its prompt to its end, with the last of {followers} followers"),
            &Samples::new(times),
        );
    }

    let log = client.block_on(flooded(&service, &token, effort.tool_calls))?;
    for readers in REPLAYS {
        let (events, took) = client.block_on(replay(&service, &log, &token, readers))?;
        let rate = f64::from(u32::try_from(events)?) / took.as_secs_f64();
        row(
            &format!("{readers} reading a log of {} events: {rate:.0} events/s", events / readers),
            &Samples::new(vec![took]),
        );
    }

    let before = service.memory()?;
    let stalled = client.block_on(stalled(&service, &log, &token, effort.stalled))?;
    let after = service.memory()?;
    #[expect(clippy::cast_precision_loss, reason = "a hundred readers")]
    let each = as_kilobytes(after.resident, before.resident) / stalled.len() as f64;
    row(&format!("{} who read nothing of it hold {each:.1} kB each", stalled.len()), &Samples::new(Vec::new()));
    drop(stalled);
    service.stop(Signal::TERM)?;
    fs::remove_dir_all(&data)?;
    Ok((table, vec![goal]))
}

/// A session whose agent is warm.
async fn opened(service: &Service, token: &str) -> Result<String> {
    let mut caller = Caller::new(service.address, token).await?;
    let session = caller.open().await?;
    caller.turn(&session, PROMPT).await?;
    Ok(session_path(&session))
}

/// The path of `/v1` of a session that the first versions' route opened.
fn session_path(session: &str) -> String {
    format!("/v1/sessions/{session}")
}

/// A stream that is read as bytes.
struct Stream {
    stream: TcpStream,
    asked_at: Instant,
    text: String,
}

impl Stream {
    async fn ask(address: SocketAddr, head: &str, body: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let asked_at = Instant::now();
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).await?;
        Ok(Self { stream, asked_at, text: String::new() })
    }

    async fn post(address: SocketAddr, session: &str, token: &str, prompt: &str) -> Result<Self> {
        let body = serde_json::json!({ "prompt": prompt }).to_string();
        let head = format!(
            "POST {session}/turns HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nAccept: text/event-stream\r\n",
            body.len()
        );
        Self::ask(address, &head, &body).await
    }

    async fn follow(address: SocketAddr, session: &str, token: &str, after: u64) -> Result<Self> {
        let head = format!(
            "GET {session}/events?after={after} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Accept: text/event-stream\r\n"
        );
        Self::ask(address, &head, "").await
    }

    /// Reads until this has come; how long that was from the request on.
    async fn until(&mut self, wanted: &str) -> Result<Duration> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            if let Some(at) = self.text.find(wanted) {
                let took = self.asked_at.elapsed();
                self.text.drain(..at + wanted.len());
                return Ok(took);
            }
            // What was looked through need not be looked through again, but for what may be cut in two.
            let keep = self.text.len().saturating_sub(wanted.len());
            self.text.drain(..self.text.floor_char_boundary(keep));
            let count = self.stream.read(&mut buffer).await?;
            ensure!(count > 0, "a stream ended before {wanted:?}");
            self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }
}

/// The number of the last event of a session.
async fn head_of(service: &Service, session: &str, token: &str) -> Result<u64> {
    let mut after = 0;
    loop {
        let mut caller = Caller::new(service.address, token).await?;
        let page = caller.get(&format!("{session}/events?limit=500&after={after}")).await?;
        let Some(last) = page["data"].as_array().and_then(|all| all.last()?["seq"].as_u64()) else { return Ok(after) };
        after = last;
    }
}

/// From the prompt of a turn until the last follower has its end.
async fn fan_out(
    service: &Service,
    session: &str,
    token: &str,
    followers: usize,
    rounds: usize,
) -> Result<Vec<Duration>> {
    let head = head_of(service, session, token).await?;
    let mut streams = Vec::with_capacity(followers);
    for _ in 0..followers {
        let mut stream = Stream::follow(service.address, session, token, head).await?;
        stream.until("\r\n\r\n").await?;
        streams.push(stream);
    }
    let mut caller = Caller::new(service.address, token).await?;
    let id = session.rsplit('/').next().context("a path has an end")?.to_owned();
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let began = Instant::now();
        let mut reading = JoinSet::new();
        for mut stream in streams.drain(..) {
            reading.spawn(async move { stream.until("event: ended\n").await.map(|_| stream) });
        }
        caller.turn(&id, PROMPT).await?;
        while let Some(stream) = reading.join_next().await {
            streams.push(stream??);
        }
        times.push(began.elapsed());
    }
    Ok(times)
}

/// A closed session with a long log.
async fn flooded(service: &Service, token: &str, calls: usize) -> Result<String> {
    let mut caller = Caller::new(service.address, token).await?;
    let session = caller.open().await?;
    caller.turn(&session, &"use tool: Read {}\n".repeat(calls)).await?;
    caller.close(&session).await?;
    Ok(session_path(&session))
}

/// A whole log, by so many at once: events read in all, and until the last was through.
async fn replay(service: &Service, session: &str, token: &str, readers: usize) -> Result<(usize, Duration)> {
    let head = head_of(service, session, token).await?;
    let mut reading = JoinSet::new();
    let began = Instant::now();
    for _ in 0..readers {
        let (address, session, token) = (service.address, session.to_owned(), token.to_owned());
        reading
            .spawn(async move { Stream::follow(address, &session, &token, 0).await?.until("event: closed\n").await });
    }
    while let Some(read) = reading.join_next().await {
        read??;
    }
    Ok((usize::try_from(head)? * readers, began.elapsed()))
}

/// Streams that are begun and not read.
async fn stalled(service: &Service, session: &str, token: &str, count: usize) -> Result<Vec<Stream>> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = Stream::follow(service.address, session, token, 0).await?;
        stream.until("\r\n\r\n").await?;
        streams.push(stream);
    }
    Ok(streams)
}
