//! The least of an HTTP/1.1 client: kept-alive connections, bodies with a length.
//!
//! A client library would cost more per request than the service does, and would be measured with it.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of headers at most: what our service sends is a tenth of it.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// An open connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, read whole.
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(HEAD_BYTES_MAX) })
    }

    /// Sends one request and reads its answer whole.
    ///
    /// # Errors
    /// When the connection breaks or the answer is not one this client understands.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Reply> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            if let Some(head) = head(&self.buffer)? {
                break head;
            }
            ensure!(self.buffer.len() <= HEAD_BYTES_MAX, "the headers of an answer do not end");
            self.read_more().await?;
        };
        let end = head.bytes + head.body_bytes;
        while self.buffer.len() < end {
            self.read_more().await?;
        }
        Ok(Reply { status: head.status, body: self.buffer[head.bytes..end].to_vec() })
    }

    async fn read_more(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the connection was closed in the middle of an answer");
        }
        Ok(())
    }
}

impl Reply {
    /// The body, where the status is the one that is wanted.
    ///
    /// # Errors
    /// With the body's text, where it is not.
    pub fn expect(self, status: u16) -> Result<Vec<u8>> {
        ensure!(self.status == status, "HTTP {} instead of {status}: {}", self.status, self.text());
        Ok(self.body)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A `GET`, ready to be sent; no `Authorization` where the bearer is empty.
pub fn get(path: &str, bearer: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{}\r\n", authorization(bearer)).into_bytes()
}

/// A `DELETE`, ready to be sent.
pub fn delete(path: &str, bearer: &str) -> Vec<u8> {
    format!("DELETE {path} HTTP/1.1\r\nhost: localhost\r\n{}\r\n", authorization(bearer)).into_bytes()
}

/// A `POST` of JSON, ready to be sent.
pub fn post(path: &str, bearer: &str, body: &serde_json::Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\n{}content-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}",
        authorization(bearer)
    )
    .into_bytes()
}

fn authorization(bearer: &str) -> String {
    if bearer.is_empty() { String::new() } else { format!("authorization: Bearer {bearer}\r\n") }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// With the empty line behind it.
    bytes: usize,
    body_bytes: usize,
}

/// The head of an answer, once all of it is there.
fn head(bytes: &[u8]) -> Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).context("headers are ASCII")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("an answer begins with its status")?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("an answer says how long its body is")?;
    Ok(Some(Head { status: status.parse()?, bytes: end + 4, body_bytes: length.1.trim().parse()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\nhi";
        assert_eq!(head(&whole[..20]).unwrap(), None);
        assert_eq!(head(whole).unwrap(), Some(Head { status: 200, bytes: whole.len() - 2, body_bytes: 2 }));
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
