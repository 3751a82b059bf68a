//! The body of a form, watched: what its reader takes in and has not given out is bounded.
//!
//! The reader of forms keeps everything until it has seen the end of a part's head, or the first
//! boundary. Without a bound, a head that never ends would fill the memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};

use crate::limits::FORM_HELD_BYTES_MAX;

/// What the reader of a form holds. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<AtomicUsize>);

/// The reader holds more than it may.
#[derive(Debug, thiserror::Error)]
#[error("what is not part of the file is larger than the allowed {FORM_HELD_BYTES_MAX} bytes")]
pub(crate) struct HeldTooMuch;

impl Held {
    /// Has the body of a request watched.
    pub fn watch(&self, request: Request) -> Request {
        request.map(|body| Body::new(Watched { body, held: self.clone(), pausing: false }))
    }

    /// Tells that the reader gave out so many bytes.
    pub fn give_out(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether the reader was stopped because it held too much.
    pub fn is_too_much(&self) -> bool {
        self.0.load(Ordering::Relaxed) > FORM_HELD_BYTES_MAX
    }

    fn take_in(&self, bytes: usize) -> Result<(), HeldTooMuch> {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        if self.is_too_much() { Err(HeldTooMuch) } else { Ok(()) }
    }
}

struct Watched {
    body: Body,
    held: Held,
    pausing: bool,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        // The reader takes in whatever is ready before it gives anything out: one piece at a time, then.
        if std::mem::take(&mut self.pausing) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        self.pausing = true;
        let taken = frame.data_ref().map_or(Ok(()), |data| self.held.take_in(data.len()));
        Poll::Ready(Some(taken.map(|()| frame).map_err(Into::into)))
    }
}
