//! A log that is followed as a stream of server-sent events, whoever serves it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Bytes read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// What is followed, and from where.
#[derive(Clone)]
pub struct Log {
    /// Who serves it.
    pub address: SocketAddr,
    /// The path.
    pub path: String,
    /// Further lines of the request's head, each with its end.
    pub headers: String,
    /// What stands in the last event alone: of the log where it is read whole, of a turn where it is followed.
    pub end: &'static str,
}

impl Log {
    /// Begins to follow it; the head of the answer has come.
    ///
    /// # Errors
    /// When the answer is not a stream.
    pub async fn follow(&self) -> Result<Stream> {
        let Self { address, path, headers, .. } = self;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n{headers}\r\n");
        let mut stream = Stream::ask(*address, &head).await?;
        let answer = stream.text_until("\r\n\r\n").await?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{path} is not followed: {answer}");
        Ok(stream)
    }

    /// So many who have begun to follow it.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn followers(&self, count: usize) -> Result<Vec<Stream>> {
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            streams.push(self.follow().await?);
        }
        Ok(streams)
    }

    /// All of it read by so many at once; until the last was through.
    ///
    /// # Errors
    /// When one does not see the end.
    pub async fn replay(&self, readers: usize) -> Result<Duration> {
        let mut reading = JoinSet::new();
        let began = Instant::now();
        for _ in 0..readers {
            let log = self.clone();
            reading.spawn(async move { log.follow().await?.until(log.end).await });
        }
        while let Some(read) = reading.join_next().await {
            read??;
        }
        Ok(began.elapsed())
    }

    /// So many followers see turns: from a turn's prompt until it is over and the last follower has its end.
    ///
    /// # Errors
    /// When a turn fails, or a stream ends.
    pub async fn fan_out(
        &self,
        followers: usize,
        rounds: usize,
        mut turn: impl AsyncFnMut() -> Result<()>,
    ) -> Result<Vec<Duration>> {
        let mut streams = self.followers(followers).await?;
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let began = Instant::now();
            let mut reading = JoinSet::new();
            for mut stream in streams.drain(..) {
                let end = self.end;
                reading.spawn(async move { stream.until(end).await.map(|_| stream) });
            }
            turn().await?;
            while let Some(stream) = reading.join_next().await {
                streams.push(stream??);
            }
            times.push(began.elapsed());
        }
        Ok(times)
    }
}

/// An answer that is read as bytes, piece by piece.
pub struct Stream {
    stream: TcpStream,
    asked_at: Instant,
    text: String,
}

impl Stream {
    /// Sends a request on a connection of its own.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn ask(address: SocketAddr, request: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let asked_at = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        Ok(Self { stream, asked_at, text: String::new() })
    }

    /// Reads until this has come; how long that was from the request on.
    ///
    /// # Errors
    /// When the stream ends before.
    pub async fn until(&mut self, wanted: &str) -> Result<Duration> {
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
            self.read_more(&mut buffer, wanted).await?;
        }
    }

    /// Reads until this has come; all that was read, up to and with it.
    ///
    /// # Errors
    /// When the stream ends before.
    pub async fn text_until(&mut self, wanted: &str) -> Result<String> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            if let Some(at) = self.text.find(wanted) {
                return Ok(self.text.drain(..at + wanted.len()).collect());
            }
            self.read_more(&mut buffer, wanted).await?;
        }
    }

    async fn read_more(&mut self, buffer: &mut [u8], wanted: &str) -> Result<()> {
        let count = self.stream.read(buffer).await?;
        ensure!(count > 0, "a stream ended before {wanted:?}");
        self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        Ok(())
    }
}
