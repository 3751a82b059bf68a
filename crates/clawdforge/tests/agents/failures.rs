//! When the provider fails: which failure it was, in a sentence, soon.

use std::ops::RangeInclusive;
use std::time::Duration;

use clawdforge_testkit::mock_model::Reply;
use serde_json::{Value, json};

use crate::bench::{Bench, Kind};

/// How often the agent asks where another time would change nothing.
const ONCE: RangeInclusive<usize> = 1..=1;

/// How often it asks where the failure may pass: once, and twice more.
const TRIES: RangeInclusive<usize> = 3..=3;

/// How often it asks after a 400: each time with fewer of the API's newest features, six times in 2.1.330.
const FEWER_FEATURES: RangeInclusive<usize> = 1..=8;

/// The agent's own retries take some three minutes; ours must not.
const FAILURE_TIME_MAX: Duration = Duration::from_secs(30);

/// A model that always gives this reply: the run fails with the code, and its sentence has the words.
async fn always(reply: Reply, code: &str, words: &str, tries: RangeInclusive<usize>) -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.script(move |_| reply.clone());
    let body = bench.failed(json!({ "prompt": "hi", "model": "claude-sonnet-5-5" }), code).await?;
    says(&body, words);
    let asked = bench.model.turn_requests().len();
    assert!(tries.contains(&asked), "asked {asked} times");
    let duration = Duration::from_millis(body["duration_ms"].as_u64().unwrap_or(u64::MAX));
    assert!(duration < FAILURE_TIME_MAX, "{duration:?}");
    let end = bench.the_end().await?;
    assert_eq!(end["outcome"], code);
    bench.finish().await
}

#[track_caller]
fn says(body: &Value, words: &str) {
    assert!(body["error"].as_str().is_some_and(|error| error.contains(words)), "no {words:?} in {body}");
}

#[tokio::test]
async fn credentials_that_are_refused_are_a_failure_of_their_own() -> anyhow::Result<()> {
    always(Reply::status(401), "agent_unauthorized", "refused the agent's credentials (401)", TRIES).await
}

#[tokio::test]
async fn a_request_that_is_forbidden_is_a_failure_of_its_own() -> anyhow::Result<()> {
    always(Reply::status(403), "agent_forbidden", "forbids this request (403)", ONCE).await
}

#[tokio::test]
async fn a_request_that_is_rejected_is_a_failure_of_its_own() -> anyhow::Result<()> {
    always(Reply::status(400), "agent_request_rejected", "rejected the request (400)", FEWER_FEATURES).await
}

#[tokio::test]
async fn a_request_that_is_too_large_is_a_failure_of_its_own() -> anyhow::Result<()> {
    always(Reply::status(413), "agent_request_too_large", "larger than the model takes (413)", ONCE).await
}

#[tokio::test]
async fn a_model_nobody_knows_is_named() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.script(|_| Reply::status(404));
    let body = bench.failed(json!({ "prompt": "hi", "model": "claude-of-tomorrow" }), "agent_unknown_model").await?;
    says(&body, "does not know the model claude-of-tomorrow");
    // It asks a second time, without a stream.
    assert!(bench.model.turn_requests().iter().all(|request| request.model() == "claude-of-tomorrow"));
    bench.finish().await
}

#[tokio::test]
async fn a_rate_limit_is_a_failure_of_its_own_after_waiting_as_told() -> anyhow::Result<()> {
    let reply = Reply::status(429).with_retry_after(1);
    always(reply, "agent_rate_limited", "limit is reached (429)", TRIES).await
}

#[tokio::test]
async fn a_provider_that_fails_is_a_failure_of_its_own() -> anyhow::Result<()> {
    always(Reply::status(500), "agent_provider_error", "the model API failed (500)", TRIES).await
}

#[tokio::test]
async fn an_overloaded_provider_is_a_failure_of_its_own() -> anyhow::Result<()> {
    always(Reply::status(529), "agent_overloaded", "overloaded (529)", TRIES).await
}

#[tokio::test]
async fn an_overload_that_passes_is_not_noticed() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.reply_next(Reply::status(529));
    bench.model.reply_next(Reply::text("at last"));
    let body = bench.answered(json!({ "prompt": "hi" })).await?;
    assert_eq!(body["result"], "at last");
    bench.finish().await
}

#[tokio::test]
async fn a_refusal_of_the_model_is_a_failure_of_its_own() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.script(|_| Reply::text("I would rather not").stopping("refusal"));
    let body = bench.failed(json!({ "prompt": "something bad" }), "agent_refused").await?;
    says(&body, "refused to answer");
    assert_eq!(body["stop_reason"], "refusal");
    bench.finish().await
}

#[tokio::test]
async fn an_agent_that_nobody_signed_in_says_how_to() -> anyhow::Result<()> {
    let Some(bench) = Bench::start_as(Kind { signed_out: true, ..Kind::default() }).await? else { return Ok(()) };
    let body = bench.failed(json!({ "prompt": "hi" }), "agent_not_signed_in").await?;
    says(&body, "clawdforge doctor");
    assert!(bench.model.requests().is_empty());
    bench.finish().await
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_a_failure_of_its_own() -> anyhow::Result<()> {
    // Bound and not listening: the port is taken, and whoever connects is refused.
    let port = tokio::net::TcpSocket::new_v4()?;
    port.bind("127.0.0.1:0".parse()?)?;
    let kind = Kind { provider: Some(format!("http://{}", port.local_addr()?)), ..Kind::default() };
    let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
    let body = bench.failed(json!({ "prompt": "hi" }), "agent_connection_failed").await?;
    says(&body, "could not reach the model API");
    bench.finish().await
}

#[tokio::test]
async fn an_answer_that_breaks_off_once_is_asked_for_again() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.reply_next(Reply::cut_mid_stream());
    bench.model.reply_next(Reply::text("the whole answer"));
    let body = bench.answered(json!({ "prompt": "hi" })).await?;
    assert_eq!(body["result"], "the whole answer", "and nothing of the first piece");
    bench.finish().await
}

#[tokio::test]
async fn answers_that_always_break_off_are_a_failure() -> anyhow::Result<()> {
    // After its retries the agent asks once more, without a stream.
    always(Reply::cut_mid_stream(), "agent_connection_failed", "the connection broke", 4..=4).await
}
