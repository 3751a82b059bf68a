//! The multipart body of an upload: streamed, never held whole.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::Body;
use reqwest::multipart::{Form, Part};
use tokio::fs::File;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use crate::error::ClientError;
use crate::limits::UPLOAD_CHUNK_BYTES;

/// An opened file, with the name it is uploaded under.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) file: File,
    /// Its size now, where it has one (a pipe has none).
    pub(crate) size: Option<u64>,
}

/// Opens what is to be uploaded; errors name the path.
pub(crate) async fn open(path: &Path) -> io::Result<Source> {
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file = File::open(path).await.map_err(at)?;
    let kind = file.metadata().await.map_err(at)?;
    if kind.is_dir() {
        return Err(at(io::ErrorKind::IsADirectory.into()));
    }
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(Source { name, file, size: kind.is_file().then_some(kind.len()) })
}

/// The form with the life time first, so that the service knows it before the bytes come.
///
/// A failure of `reader` ends the body early and is left in `broken`: the HTTP client would only
/// say that the body failed.
pub(crate) fn form<R>(name: &str, reader: R, ttl_secs: Option<u64>, broken: Arc<OnceLock<io::Error>>) -> Form
where
    R: AsyncRead + Send + 'static,
{
    let chunks = ReaderStream::with_capacity(reader, UPLOAD_CHUNK_BYTES).map(move |chunk| -> io::Result<Bytes> {
        chunk.map_err(|error| {
            let kind = error.kind();
            // A stream ends with its first error, so there is no second to lose.
            let _ = broken.set(error);
            kind.into()
        })
    });
    let part = Part::stream(Body::wrap_stream(chunks)).file_name(header_name(name));
    let form = Form::new();
    let form = match ttl_secs {
        Some(ttl_secs) => form.text("ttl_secs", ttl_secs.to_string()),
        None => form,
    };
    form.part("file", part)
}

/// What ended an upload: the reader's own failure where there was one.
pub(crate) fn cause(broken: &OnceLock<io::Error>, error: ClientError) -> ClientError {
    match broken.get() {
        Some(source) => ClientError::Source(io::Error::new(source.kind(), source.to_string())),
        None => error,
    }
}

/// A file name as it can stand in a header: control characters would end the line.
fn header_name(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
    if name.is_empty() { "file".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_header_line() {
        assert_eq!(header_name("a\r\nX-Evil: 1\0.txt"), "a__X-Evil: 1_.txt");
        assert_eq!(header_name(""), "file");
        assert_eq!(header_name("naïve \"q\" 名.txt"), "naïve \"q\" 名.txt");
    }
}
