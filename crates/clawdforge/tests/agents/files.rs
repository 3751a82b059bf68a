//! Uploads in the agent's hands: it finds them by the list at the end of the prompt and reads them with its own tool.

use clawdforge_testkit::mock_model::{ModelRequest, Reply};
use serde_json::json;

use crate::bench::Bench;

/// The smallest picture there is: one grey pixel.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\
    \0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\x3a\x7e\x9b\x55\
    \0\0\0\x0aIDAT\x78\x9c\x63\x68\0\0\0\x82\0\x81\x77\xcd\x72\xb6\
    \0\0\0\0IEND\xae\x42\x60\x82";

/// A model that reads a file and then says what it read.
fn reads(name: &'static str) -> impl FnMut(&ModelRequest) -> Reply {
    move |request| match request.tool_answers().first() {
        None => Reply::tool_use("Read", json!({ "file_path": name })),
        Some(read) => Reply::text(format!("It says: {}", read.text)),
    }
}

#[tokio::test]
async fn an_upload_is_read_by_the_agents_own_tool() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.script(reads("attachment-1.txt"));
    let file = bench.app.upload(&bench.token, "../notes of the cook.txt", b"three spoons of salt\n".to_vec()).await?;
    let body = bench.answered(json!({ "prompt": "what do the notes say?", "files": [file] })).await?;
    let result = body["result"].as_str().unwrap_or_default();
    assert!(result.starts_with("It says: ") && result.contains("three spoons of salt"), "{body}");
    let requests = bench.model.turn_requests();
    assert_eq!(requests.len(), 2, "one that asks for the tool, one with what it gave");
    assert_eq!(
        requests[0].last_user_text(),
        Some("what do the notes say?\n\nAttached files in the current directory:\n- attachment-1.txt\n")
    );
    bench.finish().await
}

#[tokio::test]
async fn an_uploaded_picture_is_seen_as_a_picture() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.script(reads("attachment-1.png"));
    let file = bench.app.upload(&bench.token, "Holiday.PNG", PNG.to_vec()).await?;
    let body = bench.answered(json!({ "prompt": "what is on it?", "files": [file] })).await?;
    assert_eq!(body["result"], "It says: [image]");
    bench.finish().await
}

#[tokio::test]
async fn a_file_outside_the_workspace_is_not_handed_to_the_model() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.script(reads("/etc/passwd"));
    let body = bench.answered(json!({ "prompt": "who lives here?" })).await?;
    let result = body["result"].as_str().unwrap_or_default();
    assert!(!result.contains("root:"), "{body}");
    let answers = bench.model.turn_requests().last().map(ModelRequest::tool_answers).unwrap_or_default();
    assert!(answers.iter().all(|answer| answer.is_error) && !answers.is_empty(), "{answers:?}");
    bench.finish().await
}
