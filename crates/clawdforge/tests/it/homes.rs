//! Homes of agents, with the demo agent: whose they are, what lies in them, how long they stay; and what signs an
//! agent in.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clawdforge_testkit::app::{PATIENCE, Setup, TestApp, poll_pause};
use reqwest::{Method, StatusCode};
use rustix::process::geteuid;
use serde_json::{Value, json};

use crate::{BINARY, setup};

/// Looked for where it must not be.
const CANARY: &str = "canary-7f3a91";

/// As usual, and without a sandbox: homes do not depend on it.
fn levels() -> [Setup; 2] {
    let off = setup().demo().arg("--isolation-mode=off").arg("--isolation-require=off").arg("--isolation-off-as-root");
    [setup().demo(), off]
}

async fn said(app: &TestApp, token: &str, prompt: &str) -> anyhow::Result<String> {
    let answer = app.run(token, json!({ "prompt": prompt })).await?.json();
    Ok(answer["result"].as_str().map_or_else(|| answer["result"].to_string(), str::to_owned))
}

fn mode(path: &Path) -> anyhow::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o7777)
}

#[tokio::test]
async fn agents_of_an_app_have_a_home_that_no_other_app_has_and_that_stays() -> anyhow::Result<()> {
    for setup in levels() {
        let mut app = setup.start().await?;
        let (one, other) = (app.demo_token()?, app.mint("other").await?);
        let homes = [said(&app, &one, "env: HOME").await?, said(&app, &other, "env: HOME").await?];
        let mut known = homes.clone().map(PathBuf::from);
        known.sort();
        assert_eq!(app.agent_homes(), known, "two, below the data directory");
        for home in &known {
            assert_eq!((mode(home)?, home.file_name()), (0o700, Some("demo".as_ref())), "{}", home.display());
        }
        let session = app.open_session(json!({})).await?;
        let turn = app.turn(&session, "env: HOME").await?.json();
        assert!(turn.to_string().contains(&homes[0]), "runs and sessions share it: {turn}");
        std::fs::write(Path::new(&homes[1]).join("kept"), "")?;
        app = app.restart().await?;
        assert_eq!(said(&app, &other, "env: HOME").await?, homes[1]);
        let revoked = app.call(Method::DELETE, "/admin/tokens/other", &app.admin_token()?, Value::Null).await?;
        assert_eq!(revoked.status, StatusCode::OK, "{revoked:?}");
        assert!(Path::new(&homes[1]).join("kept").exists(), "it is the operator's to remove");
    }
    Ok(())
}

/// What came of an agent of another app that tries to read and write in the home of the demo app's.
async fn tries(app: &TestApp) -> anyhow::Result<[bool; 2]> {
    let home = PathBuf::from(said(app, &app.demo_token()?, "env: HOME").await?);
    std::fs::write(home.join("secret"), CANARY)?;
    let other = app.mint("other").await?;
    let prompt = format!("attack: read_other_workspace,write_other_workspace workspace={}", home.display());
    let prompt = format!("{prompt} database=/x service=1 abstract=x socket=/x tcp=1 udp=1");
    let outcome = said(app, &other, &prompt).await?;
    assert_eq!(outcome.lines().count(), 2, "{outcome}");
    assert!(!outcome.contains(CANARY), "{outcome}");
    Ok(["read", "write"].map(|way| outcome.contains(&format!("{way}_other_workspace denied"))))
}

#[tokio::test]
async fn an_agent_of_another_app_reaches_nothing_in_a_home() -> anyhow::Result<()> {
    let [confined, off] = levels();
    assert_eq!(tries(&confined.start().await?).await?, [true, true]);
    assert_eq!(tries(&off.start().await?).await?, [false, false], "without a sandbox the tries succeed");
    Ok(())
}

#[tokio::test]
async fn a_home_of_a_session_or_a_run_is_erased_with_it() -> anyhow::Result<()> {
    let setup = setup().demo().arg("--agent-home=session");
    let setup = setup.env("CLAWDFORGE_SESSION_HARD_TTL_SECS", "1").env("CLAWDFORGE_SWEEP_INTERVAL_SECS", "1");
    let app = setup.start().await?;
    let token = app.demo_token()?;
    let run = PathBuf::from(said(&app, &token, "env: HOME").await?);
    assert!(run.starts_with(app.data_dir().join("runs")), "{}", run.display());
    let session = app.open_session(json!({})).await?;
    let turn = app.turn(&session, "env: HOME").await?.json();
    let folder = std::fs::read_dir(app.data_dir().join("sessions"))?.next().context("the session has a folder")??;
    let home = folder.path().join("home");
    assert!(turn.to_string().contains(&home.display().to_string()), "{turn}");
    assert_eq!(mode(&home)?, 0o700);
    app.call(Method::DELETE, &format!("/sessions/{session}"), &token, Value::Null).await?;
    let gone = async {
        while run.exists() || home.exists() {
            poll_pause().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await?;
    assert_eq!(app.agent_homes(), Vec::<PathBuf>::new());
    Ok(())
}

#[tokio::test]
async fn a_shared_home_is_the_services_own_and_loudly_so() -> anyhow::Result<()> {
    let app = setup().demo().arg("--agent-home=shared").start().await?;
    assert_eq!(said(&app, &app.demo_token()?, "env: HOME").await?, app.home().display().to_string());
    let log = app.log()?;
    assert!(log.contains("agents of all apps share one home"), "{log}");
    assert!(log.contains("shared_home"), "a named gap: {log}");
    Ok(())
}

/// A folder with a sign-in and files for homes in it.
struct Operator {
    folder: tempfile::TempDir,
}

impl Operator {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir_all(folder.path().join("home/.demo"))?;
        std::fs::write(folder.path().join("home/.demo/settings.json"), "{}")?;
        let operator = Self { folder };
        operator.sign_in(CANARY, 0o600)?;
        Ok(operator)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn sign_in(&self, value: &str, mode: u32) -> anyhow::Result<()> {
        std::fs::write(self.at("token"), value)?;
        Ok(std::fs::set_permissions(self.at("token"), Permissions::from_mode(mode))?)
    }

    fn setup(&self) -> Setup {
        let (token, home) = (json!(self.at("token")), json!(self.at("home")));
        let demo = format!("[agents.demo]\nsign_in = {{ DEMO_TOKEN = {token} }}\nhome_files = {home}\n");
        setup().demo().config(format!("{demo}[agents.other]\ndialect = \"demo\"\n"))
    }
}

#[tokio::test]
async fn what_the_operator_lays_into_homes_is_there_and_is_put_right_at_every_start() -> anyhow::Result<()> {
    let operator = Operator::new()?;
    let app = operator.setup().start().await?;
    let token = app.demo_token()?;
    let laid = PathBuf::from(said(&app, &token, "env: HOME").await?).join(".demo/settings.json");
    assert_eq!((std::fs::read_to_string(&laid)?.as_str(), mode(&laid)?), ("{}", 0o444));
    std::fs::remove_file(&laid)?;
    std::fs::write(&laid, "the agent's")?;
    said(&app, &token, "env: HOME").await?;
    assert_eq!(std::fs::read_to_string(&laid)?, "{}");
    std::fs::remove_file(operator.at("home/.demo/settings.json"))?;
    said(&app, &token, "env: HOME").await?;
    assert!(!laid.exists());
    Ok(())
}

#[tokio::test]
async fn a_sign_in_reaches_its_agent_and_nothing_else() -> anyhow::Result<()> {
    let operator = Operator::new()?;
    let setup = operator.setup().env("CLAWDFORGE_LOG", "info,clawdforge=trace").env("DEMO_PASSWORD", "outer");
    let app = setup.start().await?;
    let token = app.demo_token()?;
    assert_eq!(said(&app, &token, "env: DEMO_TOKEN").await?, CANARY);
    let session = app.open_session(json!({})).await?;
    assert!(app.turn(&session, "env: DEMO_TOKEN").await?.json().to_string().contains(CANARY), "of sessions as well");
    let other = app.open_session(json!({ "agent": "other" })).await?;
    let names = app.turn(&other, "env").await?.json().to_string();
    assert!(names.contains("HOME") && !names.contains("DEMO_TOKEN"), "{names}");
    for pid in std::iter::once(app.pid()?.as_raw_nonzero().get()).chain(app.agent_processes()) {
        let line = String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline"))?).into_owned();
        assert!(!line.contains(CANARY), "{line}");
    }
    let log = app.log()?;
    assert!(!log.contains(CANARY), "{log}");
    assert_eq!(said(&app, &token, "args").await?.matches(CANARY).count(), 0);

    let config = app.home().join("clawdforge.toml");
    let shown = tokio::process::Command::new(BINARY)
        .args(["config", "show", "--json", "--config"])
        .arg(config)
        .env_clear()
        .output()
        .await?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("agents.demo.sign_in.DEMO_TOKEN") && !shown.contains(CANARY), "{shown}");

    operator.sign_in("renewed", 0o600)?;
    assert_eq!(said(&app, &token, "env: DEMO_TOKEN").await?, "renewed", "no restart is needed");
    operator.sign_in("renewed", 0o644)?;
    let answer = app.run(&token, json!({ "prompt": "env: DEMO_TOKEN" })).await?;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (502, &json!("agent_not_signed_in")), "{answer:?}");
    let (answer, path) = (answer.json().to_string(), operator.at("token").display().to_string());
    assert!(answer.contains("clawdforge doctor") && !answer.contains(&path), "{answer}");
    assert!(app.log()?.contains(&format!("run `chmod 600 {path}`")));
    Ok(())
}

#[tokio::test]
async fn a_sign_in_that_others_can_read_is_no_start() -> anyhow::Result<()> {
    let operator = Operator::new()?;
    operator.sign_in(CANARY, 0o640)?;
    let refused = operator.setup().start().await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(refused.contains("run `chmod 600 "), "{refused}");
    assert!(!refused.contains(CANARY), "{refused}");
    Ok(())
}

#[tokio::test]
async fn homes_that_contradict_other_options_are_no_start() -> anyhow::Result<()> {
    let sharing = setup().demo().arg("--agent-home=session").arg("--sessions-per-process=2");
    let sharing = sharing.arg("--isolation-mode=off").arg("--isolation-require=off").arg("--isolation-off-as-root");
    let refused = sharing.start().await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(refused.contains("no two sessions can share a process"), "{refused}");
    if geteuid().is_root() {
        let users = setup().demo().arg("--agent-home=shared").arg("--isolation-users=21000-21001");
        let refused = users.start().await.err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(refused.contains("users of `isolation_users` cannot use one home"), "{refused}");
    }
    Ok(())
}
