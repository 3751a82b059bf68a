//! `clawdforge upload PATH`

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use clap::Args;
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};

use super::connection::ConnectionArgs;
use super::failure::CommandError;
use super::io::Io;
use super::{progress, settings, text};
use crate::error::ClientError;
use crate::upload as body;

/// Options of `upload`.
#[derive(Debug, Args)]
pub struct UploadArgs {
    /// The file to upload
    pub path: PathBuf,
    /// How long the service keeps it, in seconds (60 to 86400) [default: the service's, 3600]
    #[arg(long, value_name = "SECS")]
    pub ttl: Option<u64>,
    /// Upload it once, however often the same is sent with this key; prints the file of /v1, whose `id` is the token
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Where the service is.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

pub(super) async fn upload(args: &UploadArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_app(&args.connection, io)?;
    let source = body::open(&args.path).await.map_err(ClientError::Source)?;
    let read = Arc::new(AtomicU64::new(0));
    let broken = Arc::new(OnceLock::new());
    let counted = Counted { file: source.file, read: Arc::clone(&read) };
    let form = body::form(&source.name, counted, args.ttl, Arc::clone(&broken));
    let sent = async {
        // The first versions' endpoint would pass over a key; for the rest it stays the one that scripts know.
        Ok(match args.idempotency_key.as_deref() {
            None => client.perform(client.upload_call(form)?).await?.bytes,
            key => client.perform(client.file_upload_call(form, key)?).await?.bytes,
        })
    };
    let line = |time| uploading(read.load(Ordering::Relaxed), source.size, time);
    match progress::watch(io, line, sent).await {
        Ok(json) => Ok(io.print_json(&json)?),
        Err(error) => Err(body::cause(&broken, error).into()),
    }
}

fn uploading(read: u64, size: Option<u64>, time: Duration) -> String {
    let done = text::bytes(read);
    let time = progress::elapsed(time);
    match size {
        // A file may grow while it is read.
        Some(size) if size > 0 && read <= size => {
            let percent = u128::from(read) * 100 / u128::from(size);
            format!("uploading… {done} of {} ({percent} %), {time}", text::bytes(size))
        }
        _ => format!("uploading… {done}, {time}"),
    }
}

/// A file that counts what is read of it.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.file).poll_read(context, buffer);
        self.read.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_how_far_an_upload_is() {
        let time = Duration::from_secs(5);
        assert_eq!(uploading(1 << 30, Some(4 << 30), time), "uploading… 1.0 GiB of 4.0 GiB (25 %), 5 s");
        assert_eq!(uploading(10, None, time), "uploading… 10 B, 5 s");
        assert_eq!(uploading(10, Some(5), time), "uploading… 10 B, 5 s");
        assert_eq!(uploading(0, Some(0), time), "uploading… 0 B, 5 s");
    }
}
