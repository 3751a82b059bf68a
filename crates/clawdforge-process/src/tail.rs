//! The end of what a program says on its error stream: always drained, never more than a bound.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clawdforge_core::limits::STDERR_TAIL_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Bytes taken from the pipe at once.
const CHUNK_BYTES: usize = 8 * 1024;

/// How long after the leader's end its last words may take to arrive. Only a survivor that holds the
/// pipe open makes anybody wait this long; the pipe itself is empty within microseconds.
const SETTLE_MAX: Duration = Duration::from_millis(20);

/// Drains a stream into a bounded tail until the stream ends or this is dropped.
#[derive(Debug)]
pub(crate) struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    drain: Option<JoinHandle<()>>,
}

impl Tail {
    pub(crate) fn start(runtime: &Handle, stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        // This task is part of its `Tail`: it ends with the stream or is aborted with the owner, it
        // cannot fail, and what it loses by being cancelled is text that nobody can ask for any more.
        let drain = runtime.spawn(drain(stream, Arc::clone(&kept)));
        Self { kept, drain: Some(drain) }
    }

    /// What is kept, read as UTF-8; bytes that are none become replacement characters.
    pub(crate) fn text(&self) -> String {
        let mut kept = lock(&self.kept);
        let bytes = kept.make_contiguous();
        // The cut may have fallen into a character: its rest (at most three bytes) is no text.
        let rest = bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
        let cut = if bytes.len() == STDERR_TAIL_BYTES_MAX { rest } else { 0 };
        String::from_utf8_lossy(bytes.get(cut..).unwrap_or_default()).into_owned()
    }

    /// Waits until everything that was said is kept, for a short while at most. Cancel safe.
    pub(crate) async fn settle(&mut self) {
        if let Some(drain) = &mut self.drain {
            // Late is as good as done here: a survivor holds the pipe, and may say more later. A join
            // error would mean a panic, which the panic hook has reported.
            let settled = tokio::time::timeout(SETTLE_MAX, drain).await;
            if settled.is_ok() {
                self.drain = None;
            }
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if let Some(drain) = &self.drain {
            drain.abort();
        }
    }
}

async fn drain(mut stream: impl AsyncRead + Unpin, kept: Arc<Mutex<VecDeque<u8>>>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    // An error ends a pipe as its end does.
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        let mut kept = lock(&kept);
        kept.extend(chunk.iter().take(count));
        let surplus = kept.len().saturating_sub(STDERR_TAIL_BYTES_MAX);
        kept.drain(..surplus);
    }
}

fn lock(kept: &Mutex<VecDeque<u8>>) -> MutexGuard<'_, VecDeque<u8>> {
    // Text is text, whoever panicked meanwhile.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tail_of(bytes: Vec<u8>) -> String {
        let mut tail = Tail::start(&Handle::current(), std::io::Cursor::new(bytes));
        tail.settle().await;
        tail.text()
    }

    #[tokio::test]
    async fn a_short_stream_is_kept_whole() {
        assert_eq!(tail_of(b"error: no\n".to_vec()).await, "error: no\n");
        assert_eq!(tail_of(Vec::new()).await, "");
    }

    #[tokio::test]
    async fn of_a_long_stream_the_end_is_kept() {
        let mut bytes = vec![b'x'; 3 * STDERR_TAIL_BYTES_MAX];
        bytes.extend_from_slice(b"the end");
        let tail = tail_of(bytes).await;
        assert_eq!(tail.len(), STDERR_TAIL_BYTES_MAX);
        assert!(tail.ends_with("xthe end"));
    }

    #[tokio::test]
    async fn a_character_that_was_cut_is_left_out() {
        let tail = tail_of("€".repeat(STDERR_TAIL_BYTES_MAX).into_bytes()).await;
        assert!(tail.chars().all(|character| character == '€'));
        assert!(tail.len() > STDERR_TAIL_BYTES_MAX - 3);
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(tail_of(b"\x80a\xffb".to_vec()).await, "\u{fffd}a\u{fffd}b");
    }
}
