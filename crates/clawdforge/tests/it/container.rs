//! The service in a container: Docker's default filter of system calls, and its default capabilities or those that our compose
//! files leave, set up here. There are no namespaces to be had there, so the service takes the level below, says so, and holds it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clawdforge_core::isolation::Isolation;
use clawdforge_testkit::app::{Setup, TestApp};
use clawdforge_testkit::attack::{Ground, Weakness, run};
use clawdforge_testkit::container::{self, Seat, shown};
use rustix::process::geteuid;
use rustix::thread::CapabilitySet;
use serde_json::json;

use crate::BINARY;
use crate::sandbox::refusal;
use crate::support::get;

/// Who a container's plain user is, where this test is root's.
const PLAIN_USER: u32 = 21_900;

/// The image's setting, word by word: an option of the command line here.
const USERS: &str = "--isolation-users=20000-29999";

/// Does something where a container's process is, in a thread of its own, which stays there.
fn inside<F: Future<Output = anyhow::Result<()>>>(
    seat: Seat,
    what: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<()> {
    let thread = std::thread::Builder::new().name("container".to_owned());
    let thread = thread.spawn(move || {
        container::enter(seat)?;
        // All its threads come from this one.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(what())
    })?;
    thread.join().map_err(|panic| anyhow::anyhow!("{}", panic.downcast_ref::<String>().cloned().unwrap_or_default()))?
}

/// Lines of what the kernel says of a process.
fn status(app: &TestApp, key: &str) -> anyhow::Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid()?.as_raw_nonzero()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).context("the kernel tells it")?;
    Ok(line.trim_start_matches(':').trim().to_owned())
}

/// Asserts that the service is in such a container, at a level, and has said so.
async fn assert_stands_at(app: &TestApp, level: &str, bounds: CapabilitySet) -> anyhow::Result<()> {
    // The launcher's filters come on top of these two in agents only.
    assert_eq!(status(app, "Seccomp_filters")?, "2");
    if geteuid().is_root() {
        assert_eq!(status(app, "CapBnd")?, shown(bounds));
    }
    let log = app.log()?;
    assert!(log.contains(&format!("\"isolation.level\":\"{level}\"")), "{log}");
    assert!(log.contains("agents have no namespaces of their own") && log.contains("make its namespaces"), "{log}");
    let session = app.open_session(json!({})).await?;
    let turn = app.turn(&session, "say: hello").await?;
    assert_eq!(turn.json()["ok"], true, "{turn:?}");
    let state = get(app, &format!("/sessions/{session}"), &app.demo_token()?).await?.json();
    assert_eq!(state["isolation"], level, "{state}");
    Ok(())
}

/// What comes of attacks there, in the agent's order, where agents have users of their own. Not the suite: that watches the agents, and a
/// container's root sees nothing of other users' processes.
const ATTACKS: [(&str, &str); 12] = [
    ("read_database", "denied"),
    ("read_database_by_link", "denied"),
    ("link_database", "denied"),
    ("change_database_mode", "denied"),
    // By namespaces alone.
    ("stat_database", "open"),
    ("read_other_workspace", "denied"),
    ("write_other_workspace", "denied"),
    ("signal_service", "denied"),
    ("read_service_environment", "denied"),
    ("read_service_memory", "denied"),
    ("read_through_service_root", "denied"),
    // As above.
    ("read_service_arguments", "open"),
];

/// What an agent of another app says of each, where the demo app has a session.
async fn attacked(app: &TestApp) -> anyhow::Result<Vec<String>> {
    let sessions = app.data_dir().join("sessions");
    let workspace = std::fs::read_dir(sessions)?.next().context("the session has a folder")??.path().join("work");
    std::fs::write(workspace.join("secret"), "another app's")?;
    let prompt = format!(
        "attack: {} database={} workspace={} service={} abstract=x socket=/x tcp=1 udp=1",
        ATTACKS.map(|(name, _)| name).join(","),
        app.data_dir().join("clawdforge.sqlite").display(),
        workspace.display(),
        app.pid()?.as_raw_nonzero(),
    );
    let answer = app.run(&app.mint("other").await?, json!({ "prompt": prompt })).await?.json();
    let said = answer["result"].as_str().with_context(|| answer.to_string())?;
    Ok(said.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect())
}

/// What a service that is a container's root with these capabilities comes to.
fn as_root(powers: CapabilitySet) -> anyhow::Result<()> {
    inside(Seat::Root(powers), async move || {
        let setup = || Setup::new(BINARY).demo().arg(USERS);
        let app = setup().arg("--isolation-require=uid").start().await?;
        assert_eq!(status(&app, "CapEff")?, shown(powers));
        assert_stands_at(&app, "uid", powers).await?;
        assert_eq!(attacked(&app).await?, ATTACKS.map(|(name, outcome)| format!("{name} {outcome}")));
        let said = refusal(setup().arg("--isolation-require=namespaces")).await;
        assert!(said.contains("this machine offers `uid` at most"), "{said}");
        Ok(())
    })
}

#[test]
fn as_root_in_a_container_agents_have_users_of_their_own() -> anyhow::Result<()> {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can be a container's root");
        return Ok(());
    }
    as_root(container::DEFAULT)
}

#[test]
fn the_capabilities_of_the_compose_file_are_enough_for_users_of_their_own() -> anyhow::Result<()> {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can be a container's root");
        return Ok(());
    }
    as_root(container::added(include_str!("../../../../compose.yml"))?)
}

#[test]
fn as_a_plain_user_in_a_container_agents_are_held_by_landlock() -> anyhow::Result<()> {
    let mut user = None;
    // Where this test is root's, what is its own may lie where no other user comes.
    let (dir, mut binary) = (tempfile::tempdir()?, PathBuf::from(BINARY));
    if geteuid().is_root() {
        user = Some(PLAIN_USER);
        binary = readable_copy(dir.path())?;
    }
    inside(Seat::Plain(user), async move || {
        let setup = || Setup::new(&binary).demo();
        // The image names users whoever it is started as.
        let app = setup().arg(USERS).start().await?;
        assert_eq!(status(&app, "CapEff")?, "0000000000000000");
        assert_stands_at(&app, "landlock", container::DEFAULT).await?;
        drop(app);
        let ground = Ground::here(Isolation::Landlock);
        let report = run(Setup::new(&binary), ground, Weakness::None).await?.context("the level is to be had")?;
        assert_eq!(report.wrong(), Vec::<&str>::new(), "\n{report}");
        assert_eq!(report.unpublished(), Vec::<&str>::new(), "the service names {:?}", report.published);
        let said = refusal(setup().arg("--isolation-require=uid").arg(USERS)).await;
        assert!(said.contains("the service may not run programs as other users (it is not root)"), "{said}");
        Ok(())
    })
}

fn readable_copy(dir: &Path) -> anyhow::Result<PathBuf> {
    let copy = dir.join("clawdforge");
    std::fs::copy(BINARY, &copy)?;
    for path in [dir, &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(copy)
}
