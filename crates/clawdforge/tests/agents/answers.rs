//! What comes back from a run that went well, and what is written down about it.

use clawdforge_testkit::mock_model::Reply;
use serde_json::json;

use crate::bench::Bench;

#[tokio::test]
async fn an_answer_that_is_json_becomes_that_json() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.reply_next(Reply::text(r#"{"qty": 2, "unit": "cup"}"#));
    let body = bench.answered(json!({ "prompt": "two cups of flour, as JSON" })).await?;
    assert_eq!(body["result"], json!({ "qty": 2, "unit": "cup" }));
    assert_eq!(body["stop_reason"], "end_turn");
    bench.finish().await
}

#[tokio::test]
async fn json_inside_a_fence_is_taken_out_of_it() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.reply_next(Reply::text("```json\n{\"list\": [1, 2, 3]}\n```"));
    let body = bench.answered(json!({ "prompt": "three numbers, as JSON" })).await?;
    assert_eq!(body["result"], json!({ "list": [1, 2, 3] }));
    bench.finish().await
}

#[tokio::test]
async fn an_answer_in_words_stays_a_string() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let words = "Grüße, 世界 🌍:\n\n\"quoted\" \\ and more.";
    bench.model.reply_next(Reply::thinking_then_text("What would they like to hear?", words));
    let body = bench.answered(json!({ "prompt": "greet the world" })).await?;
    assert_eq!(body["result"], words);
    bench.finish().await
}

#[tokio::test]
async fn the_ledger_tells_what_a_run_used_and_cost() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.reply_next(Reply::text("A short answer."));
    let body = bench.answered(json!({ "prompt": "say something", "model": "sonnet" })).await?;
    let request = bench.the_request()?;
    let end = bench.the_end().await?;
    assert_eq!(end["outcome"], "completed", "{end}");
    assert_eq!((&end["app"], &end["agent"]), (&json!("app"), &json!("claude")));
    assert_eq!(end["model_asked"], "sonnet");
    assert_eq!(end["model_used"], request.model());
    assert_eq!(end["prompt_chars"], "say something".len());
    assert_eq!(end["answer_chars"], "A short answer.".len());
    assert_eq!(end["input_tokens"], request.body_bytes.div_ceil(4), "as the model counted");
    assert_eq!(end["output_tokens"], "A short answer.".len().div_ceil(4));
    assert!(end["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0 && cost < 1.0), "{end}");
    assert_eq!(end["duration_ms"], body["duration_ms"]);
    bench.finish().await
}
