//! Multipart forms written byte by byte.

use clawdforge_testkit::app::{Answer, TestApp, read};

/// The boundary of all forms here.
const BOUNDARY: &str = "X-BOUNDARY";

/// The content type of all forms here.
pub const CONTENT_TYPE: &str = "multipart/form-data; boundary=X-BOUNDARY";

/// A part with this content disposition, written as it stands.
pub fn part(disposition: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
    [head.as_bytes(), body.as_ref(), b"\r\n"].concat()
}

/// The part of the file itself.
pub fn file(body: impl AsRef<[u8]>) -> Vec<u8> {
    part("name=\"file\"; filename=\"a.txt\"", body)
}

/// A whole form.
pub fn form(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), format!("--{BOUNDARY}--\r\n").into_bytes()].concat()
}

/// Sends a body to `POST /files`.
pub async fn post(app: &TestApp, bearer: &str, path: &str, body: Vec<u8>) -> anyhow::Result<Answer> {
    let request = app.http().post(app.url(path)).bearer_auth(bearer);
    read(request.header("content-type", CONTENT_TYPE).body(body)).await
}
