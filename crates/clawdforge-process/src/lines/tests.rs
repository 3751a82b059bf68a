//! Lines of every length, from bytes that arrive as they like.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncWriteExt as _, duplex};

use super::*;

fn whole(text: &[u8]) -> Line {
    Line::Whole(text.to_vec())
}

async fn lines(bytes: &[u8], line_bytes_max: usize) -> Vec<Line> {
    let mut reader = LineReader::new(bytes, line_bytes_max);
    let mut lines = Vec::new();
    while let Some(line) = reader.next_line().await.unwrap() {
        lines.push(line);
    }
    assert_eq!(reader.next_line().await.unwrap(), None, "the end stays the end");
    lines
}

#[tokio::test]
async fn lines_end_with_either_break_or_the_end() {
    assert_eq!(lines(b"a\nbc\r\nd", 10).await, [whole(b"a"), whole(b"bc"), whole(b"d")]);
    assert_eq!(lines(b"a\n", 10).await, [whole(b"a")]);
    assert_eq!(lines(b"", 10).await, []);
}

#[tokio::test]
async fn empty_lines_are_lines() {
    assert_eq!(lines(b"\n\r\n\n", 10).await, [whole(b""), whole(b""), whole(b"")]);
}

#[tokio::test]
async fn a_carriage_return_elsewhere_is_content() {
    assert_eq!(lines(b"a\rb\n\r\r\n", 10).await, [whole(b"a\rb"), whole(b"\r")]);
}

#[tokio::test]
async fn bytes_that_are_no_text_come_through() {
    assert_eq!(lines(b"\xff\xfe\0\n", 10).await, [whole(b"\xff\xfe\0")]);
}

#[tokio::test]
async fn the_bound_is_inclusive_and_what_follows_is_not_lost() {
    let oversized = Line::Oversized { bytes: 6, head: b"123456".to_vec() };
    assert_eq!(lines(b"12345\n123456\nok\n", 5).await, [whole(b"12345"), oversized, whole(b"ok")]);
}

#[tokio::test]
async fn an_oversized_line_without_a_break_counts_too() {
    assert_eq!(lines(b"123456", 5).await, [Line::Oversized { bytes: 6, head: b"123456".to_vec() }]);
}

#[tokio::test]
async fn a_huge_line_costs_no_memory_beyond_its_head() {
    let (mut far, near) = duplex(4096);
    let megabyte = vec![b'x'; 1024 * 1024];
    let writing = async {
        for _ in 0..64 {
            far.write_all(&megabyte).await.unwrap();
        }
        far.write_all(b"\nnext\n").await.unwrap();
        drop(far);
    };
    let reading = async {
        let mut reader = LineReader::new(near, 100_000);
        let first = reader.next_line().await.unwrap();
        assert!(reader.kept.capacity() <= OVERSIZED_HEAD_BYTES_MAX);
        (first, reader.next_line().await.unwrap())
    };
    let ((), (first, second)) = tokio::join!(writing, reading);
    let head = vec![b'x'; OVERSIZED_HEAD_BYTES_MAX];
    assert_eq!(first, Some(Line::Oversized { bytes: 64 * 1024 * 1024, head }));
    assert_eq!(second, Some(whole(b"next")));
}

#[tokio::test]
async fn a_line_may_arrive_byte_by_byte() {
    let (mut far, near) = duplex(1);
    let writing = async {
        far.write_all("héllo\r\nwörld".as_bytes()).await.unwrap();
        drop(far);
    };
    let reading = async {
        let mut reader = LineReader::new(near, 100);
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line().await.unwrap() {
            lines.push(line);
        }
        lines
    };
    let ((), lines) = tokio::join!(writing, reading);
    assert_eq!(lines, [whole("héllo".as_bytes()), whole("wörld".as_bytes())]);
}

#[tokio::test]
async fn a_line_that_was_begun_survives_a_dropped_read() {
    let (mut far, near) = duplex(64);
    let mut reader = LineReader::new(near, 100);
    far.write_all(b"half ").await.unwrap();
    {
        let mut context = Context::from_waker(Waker::noop());
        let reading = pin!(reader.next_line());
        assert!(matches!(reading.poll(&mut context), Poll::Pending));
    }
    far.write_all(b"whole\n").await.unwrap();
    assert_eq!(reader.next_line().await.unwrap(), Some(whole(b"half whole")));
}
