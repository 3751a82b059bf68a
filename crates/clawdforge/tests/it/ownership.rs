//! Nothing outlives its owner: after every end of an agent, at every level of isolation, none of the processes that it
//! left is there, whatever it did to stay. What is asked here for each cell is in `docs/security/process-ownership.md`.
//!
//! Each test leaves all kinds at once. That they are gone is told by two looks that do not depend on each other: nobody
//! carries the mark of a tree of this service, and the lock is free that every process that was left holds, which
//! counts also for those whose numbers change faster than anybody reads them.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clawdforge_agent::demo::LEFT_FILE;
use clawdforge_core::isolation::Isolation;
use clawdforge_testkit::app::{Answer, PATIENCE, Setup, TestApp, marked_for, poll_pause, until};
use reqwest::{Method, StatusCode};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::setup;
use crate::support::script;

/// What is promised.
const GONE_WITHIN: Duration = Duration::from_secs(3);

/// How much more a test allows. Chains of forks take both processors that the machine of the tests may have, other tests
/// run beside, and a start of the service is a part of some of these times.
const BUSY_FACTOR: u32 = 3;

/// Kinds of processes that an agent leaves; `forking` last, because from then on everything is slow.
const KINDS: [&str; 5] = ["setsid", "daemon", "deaf", "stopped", "forking"];

/// The lines of a prompt that has an agent leave one of each, deaf itself.
fn leave_all() -> String {
    let lines: Vec<String> = KINDS.iter().map(|kind| format!("leave: {kind}")).collect();
    format!("ignore term\nignore cancel\n{}", lines.join("\n"))
}

/// A service at a level; `None` where this machine does not offer it.
async fn at(level: Isolation) -> anyhow::Result<Option<TestApp>> {
    let root = geteuid().is_root();
    if level == Isolation::Uid && !root {
        return Ok(None);
    }
    let setup = level_of(setup().demo(), level, root).arg("--slots=4").env("CLAWDFORGE_SESSION_WARM_UP", "false");
    match setup.start().await {
        Ok(app) => Ok(Some(app)),
        Err(error) if error.to_string().contains("the sandbox could not make its") => Ok(None),
        Err(error) => Err(error),
    }
}

fn level_of(setup: Setup, level: Isolation, root: bool) -> Setup {
    let setup = setup.arg(format!("--isolation-mode={level}")).arg(format!("--isolation-require={level}"));
    match level {
        Isolation::Off if root => setup.arg("--isolation-off-as-root"),
        Isolation::Uid | Isolation::Namespaces if root => setup.arg("--isolation-users=23000-23009"),
        Isolation::Off | Isolation::Landlock | Isolation::Uid | Isolation::Namespaces => setup,
    }
}

/// What agents of a service have left.
struct Left {
    files: Vec<File>,
    app_folder: PathBuf,
}

impl Left {
    /// Waits until so many agents have left one of each kind. Their files are held open, because an end of a session
    /// takes its folder along.
    async fn by(agents: usize, app: &TestApp) -> anyhow::Result<Self> {
        let is_all =
            |path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.lines().count() == KINDS.len());
        until("every agent has left one of each kind", || {
            Ok(left_files(app).iter().filter(|path| is_all(path)).count() == agents)
        })
        .await?;
        let files = left_files(app).iter().map(File::open).collect::<Result<Vec<_>, _>>()?;
        let left = Self { files, app_folder: app.data_dir() };
        anyhow::ensure!(files_held(&left.files) == agents, "those who were left are there");
        anyhow::ensure!(left.marked().len() >= agents * (KINDS.len() - 1), "and are found: {:?}", left.marked());
        Ok(left)
    }

    /// Waits until all of them are gone, no later than promised, counted from `since`.
    async fn gone(&self, what: &str, app: &TestApp, since: Instant) -> anyhow::Result<()> {
        loop {
            let (held, marked) = (files_held(&self.files), self.marked());
            let took = since.elapsed();
            if held == 0 && marked.is_empty() {
                tell(&format!("{what}: gone after {} ms", took.as_millis()));
                return Ok(());
            }
            let told: Vec<String> = marked.iter().map(|pid| told(*pid)).collect();
            anyhow::ensure!(
                took < GONE_WITHIN * BUSY_FACTOR,
                "{what}: after {took:?} {held} agents have left somebody; with a mark:\n{}\nlog:\n{}",
                told.join("\n"),
                app.log()?
            );
            poll_pause().await;
        }
    }

    fn marked(&self) -> Vec<i32> {
        marked_for(&self.app_folder)
    }
}

fn left_files(app: &TestApp) -> Vec<PathBuf> {
    let inner = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let owners = ["sessions", "runs"].into_iter().flat_map(|name| inner(app.data_dir().join(name)));
    owners.flat_map(inner).map(|folder| folder.join(LEFT_FILE)).filter(|path| path.is_file()).collect()
}

/// How many of these are locked by somebody.
fn files_held(files: &[File]) -> usize {
    let is_held = |file: &&File| {
        let is_free = flock(*file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if is_free {
            // A failure to give it back is a lock of this process's own, which is nobody's who was left.
            let _ = flock(*file, FlockOperation::Unlock);
        }
        !is_free
    };
    files.iter().filter(is_held).count()
}

/// A process in one line, for a message.
fn told(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{}: {}", stat.chars().take(60).collect::<String>(), String::from_utf8_lossy(&line).replace('\0', " "))
}

#[expect(clippy::print_stdout, reason = "who reads the output of the tests should see how much of the promise is left")]
fn tell(line: &str) {
    println!("{line}");
}

type Sent = JoinHandle<anyhow::Result<Answer>>;

/// Sends a request whose answer is looked at later, or never.
fn send(app: &TestApp, path: &str, body: Value) -> anyhow::Result<Sent> {
    let request = app.http().post(app.url(path)).bearer_auth(app.demo_token()?).json(&body);
    #[expect(clippy::disallowed_methods, reason = "a caller beside the test")]
    Ok(tokio::spawn(clawdforge_testkit::app::read(request)))
}

/// A run that leaves all kinds and does not come to its end.
fn hanging_run(app: &TestApp, timeout_secs: u64) -> anyhow::Result<Sent> {
    send(app, "/run", json!({ "prompt": format!("{}\nhang", leave_all()), "timeout_secs": timeout_secs }))
}

/// A session whose agent has left all kinds and is warm.
async fn warm_session(app: &TestApp) -> anyhow::Result<String> {
    let session = app.open_session(json!({})).await?;
    let answer = app.turn(&session, &leave_all()).await?;
    anyhow::ensure!(answer.status == StatusCode::OK, "{answer:?}");
    Ok(session)
}

async fn delete(app: &TestApp, session: &str) -> anyhow::Result<()> {
    let path = format!("/sessions/{session}");
    let answer = app.call(Method::DELETE, &path, &app.demo_token()?, Value::Null).await?;
    anyhow::ensure!(answer.status == StatusCode::OK, "{answer:?}");
    Ok(())
}

/// The end of a session that is idle, and of one in the middle of a turn.
async fn after_a_delete(level: Isolation) -> anyhow::Result<()> {
    let Some(app) = at(level).await? else { return Ok(()) };
    let idle = warm_session(&app).await?;
    let busy = app.open_session(json!({})).await?;
    let turn = send(&app, &format!("/sessions/{busy}/turn"), json!({ "prompt": format!("{}\nhang", leave_all()) }))?;
    let left = Left::by(2, &app).await?;
    let since = Instant::now();
    let (one, other) = tokio::join!(delete(&app, &idle), delete(&app, &busy));
    one.and(other)?;
    left.gone(&format!("delete, {level}"), &app, since).await?;
    anyhow::ensure!(turn.await??.status != StatusCode::OK, "a turn of a session that was deleted has failed");
    Ok(())
}

/// A run that takes too long, and one that comes to its end.
async fn after_a_run(level: Isolation) -> anyhow::Result<()> {
    let Some(app) = at(level).await? else { return Ok(()) };
    let limit = Duration::from_secs(5);
    let since = Instant::now() + limit;
    let late = hanging_run(&app, limit.as_secs())?;
    let left = Left::by(1, &app).await?;
    anyhow::ensure!(late.await??.json()["code"] == "timed_out", "it took too long");
    left.gone(&format!("timeout of a run, {level}"), &app, since).await?;

    let done = send(&app, "/run", json!({ "prompt": format!("{}\nsleep: 500", leave_all()) }))?;
    let left = Left::by(1, &app).await?;
    let since = Instant::now();
    anyhow::ensure!(done.await??.status == StatusCode::OK, "it came to its end");
    left.gone(&format!("end of a run, {level}"), &app, since).await
}

/// A service with a session that is idle and a run under way.
async fn at_work(level: Isolation) -> anyhow::Result<Option<(TestApp, Left, Sent)>> {
    let Some(app) = at(level).await? else { return Ok(None) };
    warm_session(&app).await?;
    let run = hanging_run(&app, PATIENCE.as_secs())?;
    let left = Left::by(2, &app).await?;
    Ok(Some((app, left, run)))
}

async fn after_a_drain(level: Isolation) -> anyhow::Result<()> {
    let Some((mut app, left, run)) = at_work(level).await? else { return Ok(()) };
    let since = Instant::now();
    app.signal(Signal::TERM)?;
    // A second one, whose deadline is now.
    until("it is stopping", || Ok(app.log()?.contains("stopping") || app.log()?.contains("drain"))).await?;
    app.signal(Signal::TERM)?;
    left.gone(&format!("drain, {level}"), &app, since).await?;
    anyhow::ensure!(app.ended().await?.success(), "it ended in good order");
    anyhow::ensure!(run.await??.json()["code"] == "interrupted", "the run was told");
    Ok(())
}

async fn after_a_kill(level: Isolation) -> anyhow::Result<()> {
    let Some((mut app, left, run)) = at_work(level).await? else { return Ok(()) };
    app.signal(Signal::KILL)?;
    app.ended().await?;
    let since = Instant::now();
    if level == Isolation::Namespaces {
        // Without anybody to end them.
        left.gone("kill -9 without a start, namespaces", &app, since).await?;
    }
    let app = app.restart().await?;
    left.gone(&format!("kill -9 and a start, {level}"), &app, since).await?;
    anyhow::ensure!(run.await?.is_err(), "the connection broke with the service");
    let log = app.log()?;
    anyhow::ensure!(!log.contains("panicked"), "{log}");
    Ok(())
}

/// An agent that answers every prompt, and neither leaves when its input ends nor heeds a signal.
const NEVER_LEAVES: &str = r#"trap '' TERM INT HUP
while read -r line; do
id=$(printf '%s' "$line" | sed 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/')
case "$line" in
*'"initialize"'*) answer='{"protocolVersion":1,"agentCapabilities":{}}' ;;
*'"session/new"'*) answer='{"sessionId":"s1"}' ;;
*) answer='{"stopReason":"end_turn"}' ;;
esac
printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$answer"
done
while :; do sleep 60; done"#;

/// How often an end may take longer than promised because the machine was busy: once in three is in time.
const TRIES: usize = 3;

#[tokio::test]
async fn waiting_for_an_agent_to_leave_is_a_part_of_its_grace() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("agent");
    script(&program, NEVER_LEAVES)?;
    let config = format!("[agents.stubborn]\ndialect = \"acp\"\ncommand = {}\n", json!(program));
    let app = setup().demo().config(config).env("CLAWDFORGE_SESSION_WARM_UP", "false").start().await?;
    let mut took = Vec::new();
    for _ in 0..TRIES {
        let session = app.open_session(json!({ "agent": "stubborn" })).await?;
        let answer = app.turn(&session, "hello").await?;
        anyhow::ensure!(answer.status == StatusCode::OK, "{answer:?}");
        let since = Instant::now();
        delete(&app, &session).await?;
        took.push(since.elapsed());
        anyhow::ensure!(app.agent_processes().is_empty(), "it is gone when that is answered");
        if took.iter().any(|took| *took < GONE_WITHIN) {
            return Ok(());
        }
    }
    anyhow::bail!("an agent took {took:?} to be ended")
}

#[tokio::test]
async fn a_service_that_a_test_drops_leaves_nobody() -> anyhow::Result<()> {
    let Some(app) = at(Isolation::Off).await? else { return Ok(()) };
    let session = app.open_session(json!({})).await?;
    app.turn(&session, "leave: daemon\nleave: deaf\nleave: stopped").await?;
    let folder = app.data_dir();
    anyhow::ensure!(marked_for(&folder).len() > 3, "they are there: {:?}", marked_for(&folder));
    drop(app);
    anyhow::ensure!(marked_for(&folder).is_empty(), "{:?}", marked_for(&folder));
    Ok(())
}

macro_rules! cells {
    ($($event:ident: $($name:ident at $level:ident),+;)+) => {
        $($(
            #[tokio::test]
            async fn $name() -> anyhow::Result<()> {
                $event(Isolation::$level).await
            }
        )+)+
    };
}

cells! {
    after_a_delete:
        a_deleted_session_leaves_nobody_without_isolation at Off,
        a_deleted_session_leaves_nobody_with_landlock at Landlock,
        a_deleted_session_leaves_nobody_with_users at Uid,
        a_deleted_session_leaves_nobody_with_namespaces at Namespaces;
    after_a_run:
        a_run_that_ended_leaves_nobody_without_isolation at Off,
        a_run_that_ended_leaves_nobody_with_landlock at Landlock,
        a_run_that_ended_leaves_nobody_with_users at Uid,
        a_run_that_ended_leaves_nobody_with_namespaces at Namespaces;
    after_a_drain:
        a_drained_service_leaves_nobody_without_isolation at Off,
        a_drained_service_leaves_nobody_with_landlock at Landlock,
        a_drained_service_leaves_nobody_with_users at Uid,
        a_drained_service_leaves_nobody_with_namespaces at Namespaces;
    after_a_kill:
        a_killed_service_leaves_nobody_after_a_start_without_isolation at Off,
        a_killed_service_leaves_nobody_after_a_start_with_landlock at Landlock,
        a_killed_service_leaves_nobody_after_a_start_with_users at Uid,
        a_killed_service_leaves_nobody_after_a_start_with_namespaces at Namespaces;
}
