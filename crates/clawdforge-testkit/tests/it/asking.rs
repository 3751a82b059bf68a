//! How these tests talk to the mock model: as an agent would, over HTTP.

use std::time::Duration;

use clawdforge_testkit::mock_model::MockModel;
use serde_json::{Value, json};

/// Long enough for a busy machine; nothing waits for it unless something is broken.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A well-formed request of a turn with one prompt.
pub fn turn(prompt: &str) -> Value {
    json!({
        "model": "claude-sonnet-5-5",
        "max_tokens": 1000,
        "stream": true,
        "system": [{ "type": "text", "text": "You are an agent." }],
        "tools": [{ "name": "Read" }, { "name": "Bash" }],
        "output_config": { "effort": "medium" },
        "messages": [{ "role": "user", "content": [
            { "type": "text", "text": "<system-reminder>\nNotes of the agent.\n</system-reminder>" },
            { "type": "text", "text": prompt },
        ] }],
    })
}

/// The same, answered in one piece.
pub fn unstreamed_turn(prompt: &str) -> Value {
    let mut body = turn(prompt);
    body["stream"] = json!(false);
    body
}

/// Sends a request with everything the API wants.
pub async fn ask(model: &MockModel, body: &Value) -> reqwest::Result<reqwest::Response> {
    let request = request(model, body).header("content-type", "application/json");
    request.header("x-api-key", "sk-ant-fake").header("anthropic-version", "2023-06-01").send().await
}

/// A request with nothing but its body.
pub fn request(model: &MockModel, body: &Value) -> reqwest::RequestBuilder {
    let url = format!("{}/v1/messages?beta=true", model.base_url());
    client().post(url).body(body.to_string())
}

/// A client of its own, so that dropping it hangs up.
pub fn client() -> reqwest::Client {
    // The client asks for a TLS provider even where it speaks plain HTTP. Installing it twice fails, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// The objects of an event stream.
pub fn events(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

/// The deltas of one kind in an event stream, joined.
pub fn joined(stream: &str, key: &str) -> String {
    events(stream).iter().filter_map(|event| event["delta"][key].as_str()).collect()
}
