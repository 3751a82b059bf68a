//! A service that is given a directory for control groups: its agents are in groups there, which end with them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clawdforge_process::own_cgroup;
use clawdforge_testkit::app::{TestApp, until};
use reqwest::Method;
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};

use crate::setup;
use crate::support::begin_turn;

/// A directory for groups. Gone when dropped.
struct Ground(PathBuf);

impl Ground {
    /// `None` where this user may make none: a container, or somebody who is not root.
    fn new(name: &str) -> anyhow::Result<Option<Self>> {
        let Some(own) = own_cgroup()? else { return Ok(None) };
        let path = own.join(format!("clawdforge-it-{name}-{}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Some(Self(path))),
            Err(error)
                if geteuid().is_root() && error.raw_os_error() != Some(rustix::io::Errno::ROFS.raw_os_error()) =>
            {
                Err(error.into())
            }
            Err(_) => Ok(None),
        }
    }

    fn groups(&self) -> anyhow::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.0)?.collect::<Result<Vec<_>, _>>()?;
        Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
    }

    /// The only group there is, once that of a tried sandbox has gone.
    async fn one_group(&self) -> anyhow::Result<PathBuf> {
        until("there is one group", || Ok(self.groups()?.len() == 1)).await?;
        self.groups()?.pop().context("the one that was there a moment ago")
    }

    async fn start(&self, level: &str) -> anyhow::Result<TestApp> {
        let setup = setup().demo().arg(format!("--isolation-mode={level}")).arg(format!("--isolation-require={level}"));
        setup.arg("--isolation-off-as-root").env("CLAWDFORGE_ISOLATION_CGROUP", &self.0).start().await
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // A test that failed may have left some; the failure is what is to be told.
        let removed = fs::remove_dir(&self.0);
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

/// Whether a process is in this group; `None` for one that has ended. Asked of the process and not of the group: what
/// a list of members does not name yet may have been born after it was read.
fn is_in(group: &Path, pid: i32) -> Option<bool> {
    let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let own = memberships.lines().find_map(|line| line.strip_prefix("0::"))?;
    // From the root of the groups, which is mounted anywhere; the last name is this group's alone.
    Some(Path::new(own).file_name() == group.file_name())
}

/// Whether this is what a grandchild stays as, once its shells are gone.
fn is_grandchild(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\0"))
}

#[tokio::test]
async fn every_program_of_an_agent_is_in_the_agents_group_which_goes_with_it() -> anyhow::Result<()> {
    let Some(ground) = Ground::new("members")? else { return Ok(()) };
    for level in ["off", "landlock", "namespaces"] {
        let app = ground.start(level).await?;
        assert!(app.log()?.contains("agents get control groups"), "{}", app.log()?);
        let id = app.open_session(json!({})).await?;
        let pending = begin_turn(&app, &id, "grandchild\nhang")?;
        let programs =
            app.wait_for_programs(|pids| pids.len() >= 2 && pids.iter().any(|pid| is_grandchild(*pid))).await?;
        let group = ground.one_group().await?;
        let inside: Vec<_> = programs.iter().filter_map(|pid| is_in(&group, *pid)).collect();
        assert!(inside.len() >= 2 && inside.iter().all(|is_in| *is_in), "{level}: {programs:?} {inside:?}");
        let closed = app.call(Method::DELETE, &format!("/sessions/{id}"), &app.demo_token()?, Value::Null).await?;
        assert_eq!(closed.status.as_u16(), 200, "{closed:?}");
        // Its end is told before the last of its processes is.
        until("the group goes with the agent", || Ok(ground.groups()?.is_empty())).await?;
        pending.await??;
    }
    Ok(())
}

#[tokio::test]
async fn groups_of_a_killed_service_are_gone_when_it_is_back() -> anyhow::Result<()> {
    let Some(ground) = Ground::new("killed")? else { return Ok(()) };
    let mut app = ground.start("landlock").await?;
    let id = app.open_session(json!({})).await?;
    let pending = begin_turn(&app, &id, "ignore term\ngrandchild\nhang")?;
    app.wait_for_programs(|pids| pids.len() >= 2).await?;
    let before = ground.one_group().await?;
    app.signal(Signal::KILL)?;
    app.ended().await?;
    let app = app.restart().await?;
    assert!(pending.await?.is_err(), "the connection broke with the service");
    assert!(ground.groups()?.iter().all(|group| *group != before), "{before:?}");
    assert_eq!(app.agent_programs(), Vec::<i32>::new());
    until("that of the tried sandbox goes as well", || Ok(ground.groups()?.is_empty())).await
}

#[tokio::test]
async fn a_directory_that_is_none_for_groups_is_refused_with_its_name() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let start = setup().demo().env("CLAWDFORGE_ISOLATION_CGROUP", dir.path()).start().await;
    let refused = start.err().map(|error| error.to_string()).unwrap_or_default();
    let named = dir.path().display().to_string();
    assert!(refused.contains("isolation_cgroup") && refused.contains(&named), "{refused}");
    assert!(refused.contains("is no control group of version 2"), "{refused}");
    Ok(())
}
