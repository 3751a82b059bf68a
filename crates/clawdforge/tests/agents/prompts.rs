//! What of a request reaches the model: prompt, system prompt, model and effort, as they were sent.

use std::time::Duration;

use clawdforge_testkit::app::PATIENCE;
use clawdforge_testkit::mock_model::Reply;
use serde_json::json;

use crate::bench::{Bench, Kind};

/// The size of the largest prompt that an app of the first versions sent.
const LARGE_PROMPT_BYTES: usize = 577 * 1024;

/// Beyond what one argument may have (128 KiB), several times.
const LARGE_SYSTEM_BYTES: usize = 400 * 1024;

/// Text of at least so many bytes in which no line is like another.
fn long_text(marker: &str, bytes_min: usize) -> String {
    let mut text = String::new();
    while text.len() < bytes_min {
        text.push_str(&format!("{marker} line {} of mäny\n", text.len()));
    }
    text.push_str("the end");
    text
}

#[tokio::test]
async fn a_system_text_joins_the_agents_own() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.answered(json!({ "prompt": "hi" })).await?;
    let own = bench.the_request()?.system_text();
    bench.model.forget_requests();
    bench.answered(json!({ "prompt": "hi", "system": "Answer in rhymes.", "system_mode": "append" })).await?;
    let joined = bench.the_request()?.system_text();
    assert!(joined.ends_with("Answer in rhymes."), "{joined}");
    assert!(joined.len() > own.len(), "{} bytes beside {}", joined.len(), own.len());
    assert!(!own.contains("Answer in rhymes."));
    bench.finish().await
}

#[tokio::test]
async fn a_system_text_takes_the_place_of_the_agents_own() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.answered(json!({ "prompt": "hi" })).await?;
    let own = bench.the_request()?.system_text();
    bench.model.forget_requests();
    bench.answered(json!({ "prompt": "hi", "system": "You are a kitchen scale.", "system_mode": "replace" })).await?;
    let replaced = bench.the_request()?.system_text();
    assert!(replaced.contains("You are a kitchen scale."), "{replaced}");
    assert!(replaced.len() < own.len() / 4, "{} bytes instead of {}: {replaced}", replaced.len(), own.len());
    bench.finish().await
}

#[tokio::test]
async fn a_system_text_may_be_larger_than_an_argument() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let system = long_text("system", LARGE_SYSTEM_BYTES);
    bench.answered(json!({ "prompt": "hi", "system": system })).await?;
    assert!(bench.the_request()?.system_text().ends_with(&system));
    bench.finish().await
}

#[tokio::test]
async fn the_effort_reaches_the_model() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    for effort in ["low", "max"] {
        bench.answered(json!({ "prompt": "think", "effort": effort })).await?;
        assert_eq!(bench.the_request()?.effort(), Some(effort));
        bench.model.forget_requests();
    }
    bench.finish().await
}

#[tokio::test]
async fn the_model_is_the_one_of_the_request_or_else_the_default() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    for (asked, sent) in [
        (json!({ "prompt": "hi" }), "claude-sonnet-5-5"),
        (json!({ "prompt": "hi", "model": "sonnet" }), "claude-sonnet-5-5"),
        (json!({ "prompt": "hi", "model": "claude-opus-5-5" }), "claude-opus-5-5"),
    ] {
        bench.answered(asked).await?;
        assert_eq!(bench.the_request()?.model(), sent);
        bench.model.forget_requests();
    }
    bench.finish().await
}

#[tokio::test]
async fn the_operators_default_model_is_asked() -> anyhow::Result<()> {
    let kind = Kind { agent_lines: "default_model = \"opus\"", ..Kind::default() };
    let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
    bench.answered(json!({ "prompt": "hi" })).await?;
    assert_eq!(bench.the_request()?.model(), "claude-opus-5-5");
    bench.finish().await
}

#[tokio::test]
async fn a_large_prompt_arrives_whole_and_is_in_nobodys_arguments() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let prompt = long_text("zauberwort", LARGE_PROMPT_BYTES);
    // Slow enough to look around meanwhile.
    bench.model.reply_next(Reply::text("ten and ten and ten and ten words").slow(Duration::from_millis(500)));
    let run = bench.answered(json!({ "prompt": prompt, "system": "geheimnis" }));
    let look = async {
        bench.model.wait_for_requests(1, PATIENCE).await?;
        let told = process_facts("cmdline");
        let agents = bench.app.agent_processes().len();
        anyhow::ensure!(agents > 0 && bench.model.open_replies() > 0, "the run was over before it was looked at");
        Ok(told)
    };
    let (body, told) = tokio::try_join!(run, look)?;
    assert_eq!(body["result"], "ten and ten and ten and ten words");
    assert!(
        told.iter().any(|line| line.contains("--append-system-prompt-file")),
        "the agent's own arguments were seen"
    );
    let telling = told.iter().filter(|line| line.contains("zauberwort") || line.contains("geheimnis"));
    assert_eq!(telling.collect::<Vec<_>>(), Vec::<&String>::new());
    let request = bench.the_request()?;
    assert_eq!(request.last_user_text().map(str::len), Some(prompt.len()));
    assert!(request.last_user_text() == Some(&prompt), "the text differs");
    bench.finish().await
}

#[tokio::test]
async fn a_prompt_that_begins_like_a_command_is_a_prompt() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    for prompt in ["/cost", "/clear\nand say hello", "/init"] {
        bench.answered(json!({ "prompt": prompt })).await?;
        let request = bench.the_request()?;
        assert_eq!(request.last_user_text().map(str::trim), Some(prompt));
        bench.model.forget_requests();
    }
    bench.finish().await
}

#[tokio::test]
async fn a_file_that_a_prompt_mentions_is_not_read() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let secret = bench.app.home().join("diary.txt");
    std::fs::write(&secret, "dear diary, nobody may know")?;
    let prompt = format!("summarise @{} and @/etc/hostname", secret.display());
    bench.answered(json!({ "prompt": prompt })).await?;
    let request = bench.the_request()?;
    assert_eq!(request.last_user_text(), Some(prompt.as_str()));
    let everything = request.body.to_string();
    assert!(!everything.contains("nobody may know"), "{everything}");
    assert!(!everything.contains("Called the Read tool"), "{everything}");
    bench.finish().await
}

/// One file of every process there is, where it may be read.
fn process_facts(name: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| std::fs::read(entry.path().join(name)).ok());
    files.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " ")).collect()
}
