//! What the demo agent reaches over the network: by itself, and through the proxy it was given.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long a neighbour on this machine, which the proxy is, may take.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// Bytes of an answer that are read: a head and a sentence.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;

/// Digits of base64.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Connects to `host:port` and says `connected`, or why not.
pub(super) fn directly(target: &str) -> String {
    match TcpStream::connect(target) {
        Ok(_) => "connected".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Asks the proxy (`http://user:password@host:port`) for a tunnel to `host:port`; what it says comes back,
/// without the names and values of its head.
pub(super) fn through(proxy: Option<&str>, target: &str) -> String {
    let Some(proxy) = proxy else { return "no proxy".to_owned() };
    ask(proxy, target).unwrap_or_else(|error| error.to_string())
}

fn ask(proxy: &str, target: &str) -> io::Result<String> {
    let rest = proxy.trim_start_matches("http://");
    let (userinfo, address) = rest.rsplit_once('@').unwrap_or(("", rest));
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(WAIT_MAX))?;
    let credential = base64(userinfo.as_bytes());
    write!(
        stream,
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic {credential}\r\nConnection: close\r\n\r\n"
    )?;
    let mut said = String::new();
    // A tunnel stays open and says nothing; its head is enough.
    let mut stream = stream.take(ANSWER_BYTES_MAX);
    let mut buffer = [0; 512];
    while !(said.starts_with("HTTP/1.1 200") && said.contains("\r\n\r\n")) {
        match stream.read(&mut buffer)? {
            0 => break,
            length => said.push_str(&String::from_utf8_lossy(&buffer[..length])),
        }
    }
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or((&said, ""));
    let status = head.lines().next().unwrap_or_default().trim_start_matches("HTTP/1.1 ");
    Ok(format!("{status} {body}").trim().to_owned())
}

fn base64(bytes: &[u8]) -> String {
    let digit = |chunk: &[u8], place: usize| {
        let word = chunk.iter().enumerate().fold(0_u32, |word, (at, byte)| word | (u32::from(*byte) << (16 - 8 * at)));
        if place > chunk.len() { '=' } else { char::from(DIGITS[((word >> (18 - 6 * place)) & 63) as usize]) }
    };
    bytes.chunks(3).flat_map(|chunk| (0..4).map(move |place| digit(chunk, place))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded_as_proxies_expect() {
        assert_eq!(base64(b"agent:secret"), "YWdlbnQ6c2VjcmV0");
        assert_eq!([base64(b"a"), base64(b"ab"), base64(b"")], ["YQ==", "YWI=", ""]);
    }
}
