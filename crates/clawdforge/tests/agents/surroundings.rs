//! What the agent gets around its prompt, and what stays of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clawdforge_testkit::agents;
use clawdforge_testkit::app::PATIENCE;
use clawdforge_testkit::mock_model::Reply;
use reqwest::Method;
use serde_json::{Value, json};

use crate::bench::{API_KEY, Bench, Kind};

#[tokio::test]
async fn healthz_names_the_claude_there_is() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let Some(claude) = agents::claude()? else { return Ok(()) };
    let health = bench.app.call(Method::GET, "/healthz", "", Value::Null).await?.json();
    assert_eq!((&health["ok"], &health["claude_present"]), (&json!(true), &json!(true)), "{health}");
    let version = agents::claude_version(&claude)?;
    assert!(health["claude_version"].as_str().is_some_and(|said| said.contains(&version)), "{health}");
    bench.finish().await
}

#[tokio::test]
async fn the_agent_gets_its_key_its_switches_and_nothing_of_ours() -> anyhow::Result<()> {
    let kind = Kind {
        env: &[("AWS_SECRET_ACCESS_KEY", "not for you"), ("CLAUDE_CODE_SESSION_ID", "outer")],
        ..Kind::default()
    };
    let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
    bench.model.reply_next(Reply::text("ten and ten and ten and ten words").slow(Duration::from_millis(500)));
    let run = bench.answered(json!({ "prompt": "hi" }));
    let look = async {
        bench.model.wait_for_requests(1, PATIENCE).await?;
        let pids = bench.app.agent_processes();
        anyhow::ensure!(!pids.is_empty(), "the run was over before it was looked at");
        environment(pids[0])
    };
    let (_, env) = tokio::try_join!(run, look)?;
    let value = |name: &str| env.get(name).map(String::as_str);
    assert_eq!(value("ANTHROPIC_API_KEY"), Some(API_KEY));
    assert_eq!(value("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"), Some("1"));
    assert_eq!(value("CLAUDE_CODE_MAX_RETRIES"), Some("2"));
    assert_eq!(value("HOME").map(PathBuf::from).as_slice(), bench.app.agent_homes());
    assert_eq!((value("AWS_SECRET_ACCESS_KEY"), value("CLAUDE_CODE_SESSION_ID")), (None, None));
    let ours: Vec<&String> = env.keys().filter(|name| name.starts_with("CLAWDFORGE_")).collect();
    assert_eq!(ours, ["CLAWDFORGE_TREE"], "only the mark by which the processes of a run are known");
    let tmp = value("TMPDIR").map(PathBuf::from).unwrap_or_default();
    assert!(tmp.starts_with(bench.app.data_dir().join("runs")), "{tmp:?}");
    bench.wait_until_clean().await?;
    assert!(!tmp.exists());
    bench.finish().await
}

#[tokio::test]
async fn nothing_of_the_conversation_stays_in_the_agents_home() -> anyhow::Result<()> {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    bench.model.reply_next(Reply::text("the answer is parsley"));
    bench.answered(json!({ "prompt": "the question is rosemary", "system": "the rule is sage" })).await?;
    bench.wait_until_clean().await?;
    let homes = bench.app.agent_homes();
    assert_eq!(homes.len(), 1, "{homes:?}");
    assert!(!homes[0].join(".claude/projects").exists(), "no transcript, no folder for one");
    assert!(!bench.app.home().join(".claude").exists(), "and the service's own home was not used");
    let telling: Vec<PathBuf> = files_below(&homes[0])?
        .into_iter()
        .filter(|path| {
            let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
            ["parsley", "rosemary", "sage is"].iter().any(|word| text.contains(word))
        })
        .collect();
    assert_eq!(telling, Vec::<PathBuf>::new());
    bench.finish().await
}

#[tokio::test]
async fn neither_key_nor_prompt_nor_answer_is_logged() -> anyhow::Result<()> {
    let kind = Kind { env: &[("CLAWDFORGE_LOG", "info,clawdforge=trace")], ..Kind::default() };
    let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
    bench.model.reply_next(Reply::text("the answer is parsley"));
    bench.answered(json!({ "prompt": "the question is rosemary", "system": "the rule is sage" })).await?;
    bench.model.script(|_| Reply::status(401));
    bench.failed(json!({ "prompt": "the question is rosemary" }), "agent_unauthorized").await?;
    let log = bench.app.log()?;
    assert!(!log.is_empty());
    for word in [API_KEY, &bench.token, "parsley", "rosemary", "the rule is"] {
        assert!(!log.contains(word), "{word} is in the log:\n{log}");
    }
    bench.finish().await
}

/// The environment a process was started with.
fn environment(pid: i32) -> anyhow::Result<BTreeMap<String, String>> {
    let bytes = fs::read(format!("/proc/{pid}/environ"))?;
    let text = String::from_utf8_lossy(&bytes);
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}
