//! What the whole-system tests share beside the service itself: golden pages, raw connections, forms
//! written byte by byte, fake programs.

use std::path::Path;
use std::process::Output;

use clawdforge_testkit::app::{Answer, TestApp};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::BINARY;

pub use clawdforge_testkit::sse as events;
pub mod form;
pub mod golden;
pub mod raw;

/// Asserts that the service came through what was just done to it: it answers, and nothing panicked.
pub async fn assert_unharmed(app: &TestApp) -> anyhow::Result<()> {
    let health = app.call(Method::GET, "/healthz", "", Value::Null).await?;
    assert_eq!(health.status, StatusCode::OK, "{health:?}");
    let log = app.log()?;
    assert!(!log.contains("panicked"), "{log}");
    Ok(())
}

/// A client verb of the binary against the service, with both tokens, as an operator would call it.
pub fn command(app: &TestApp, args: &[&str]) -> anyhow::Result<tokio::process::Command> {
    let mut command = tokio::process::Command::new(BINARY);
    command.args(args).env_clear().env("HOME", app.home());
    command.env("CLAWDFORGE_URL", app.url("")).env("CLAWDFORGE_ADMIN_TOKEN", app.admin_token()?);
    command.env("CLAWDFORGE_TOKEN", app.demo_token()?);
    Ok(command)
}

/// Runs it to its end.
pub async fn cli(app: &TestApp, args: &[&str]) -> anyhow::Result<Output> {
    Ok(command(app, args)?.output().await?)
}

/// What a verb that succeeded printed.
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `GET` with a bearer; none where it is empty.
pub async fn get(app: &TestApp, path: &str, bearer: &str) -> anyhow::Result<Answer> {
    app.call(Method::GET, path, bearer, Value::Null).await
}

/// Names of the uploads on disk, whole or not.
pub fn uploads_on_disk(app: &TestApp) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(app.data_dir().join("files"))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Writes an executable shell script.
pub fn script(path: &Path, body: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("#!/bin/sh\n{body}\n"))?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

/// The most memory the service ever had, in KiB.
pub fn memory_peak_kib(app: &TestApp) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid()?.as_raw_nonzero()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Sends a turn whose answer is not waited for here.
pub fn begin_turn(
    app: &TestApp,
    session: &str,
    prompt: &str,
) -> anyhow::Result<tokio::task::JoinHandle<reqwest::Result<()>>> {
    let url = app.url(&format!("/sessions/{session}/turn"));
    let request = app.http().post(url).bearer_auth(app.demo_token()?).json(&json!({ "prompt": prompt }));
    #[expect(clippy::disallowed_methods, reason = "the caller of a turn that will not be answered")]
    Ok(tokio::spawn(async move { request.send().await.map(drop) }))
}
