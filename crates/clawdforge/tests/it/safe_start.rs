//! What the service refuses to start with, and what it makes when it does.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clawdforge_testkit::app::Setup;
use tokio::process::Command;

use crate::support::script;
use crate::{BINARY, setup};

/// A listener on all addresses, which only this machine is let in to.
fn beyond_loopback(data_dir: &Path) -> Setup {
    setup().demo().listen("0.0.0.0:0").data_dir(data_dir)
}

/// The one sentence of a refused start.
async fn refused(setup: Setup) -> anyhow::Result<String> {
    let told = setup.start().await.err().map(|error| error.to_string());
    let told = told.ok_or_else(|| anyhow::anyhow!("it started"))?;
    let sentences: Vec<&str> = told.lines().filter(|line| line.starts_with("clawdforge: ")).collect();
    anyhow::ensure!(sentences.len() == 1 && !told.contains("panicked"), "{told}");
    Ok(sentences[0].to_owned())
}

async fn rotate(data_dir: &Path, env: &[(&str, &str)]) -> anyhow::Result<std::process::Output> {
    let mut command = Command::new(BINARY);
    command.args(["admin-token", "rotate", "--data-dir"]).arg(data_dir).env_clear().envs(env.iter().copied());
    Ok(command.output().await?)
}

fn mode(path: &Path) -> anyhow::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

#[tokio::test]
async fn listening_beyond_loopback_wants_an_admin_token_that_was_rotated() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let data_dir = dir.path().join("data");
    let told = refused(beyond_loopback(&data_dir)).await?;
    assert!(told.contains("0.0.0.0:0") && told.contains("admin-token rotate --data-dir"), "{told}");
    assert!(!data_dir.exists(), "a refused start leaves nothing behind");

    // On loopback the first start makes one; that one is refused as well.
    setup().demo().data_dir(&data_dir).start().await?.stop().await?;
    let (path, made) = (data_dir.join("admin-token"), std::fs::read_to_string(data_dir.join("admin-token"))?);
    assert!(refused(beyond_loopback(&data_dir)).await?.contains("--start-despite generated-admin-token"));
    beyond_loopback(&data_dir).arg("--start-despite").arg("generated-admin-token").start().await?.stop().await?;

    let output = rotate(&data_dir, &[]).await?;
    assert!(output.status.success(), "{output:?}");
    let rotated = std::fs::read_to_string(&path)?;
    assert!(rotated != made && !String::from_utf8(output.stdout)?.contains(rotated.trim()), "it is not printed");
    assert_eq!(mode(&path)?, 0o600);
    let app = beyond_loopback(&data_dir).start().await?;
    for (token, status) in [(&rotated, 200), (&made, 401)] {
        let request = app.http().get(app.url("/admin/tokens")).bearer_auth(token.trim());
        assert_eq!(request.send().await?.status().as_u16(), status);
    }
    Ok(())
}

#[tokio::test]
async fn a_token_is_rotated_before_the_first_start_but_not_where_the_service_does_not_look() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let data_dir = dir.path().join("data");
    let output = rotate(&data_dir, &[("CLAWDFORGE_ADMIN_TOKEN", "9f86d081884c7d659a2feaa0c55ad015")]).await?;
    let told = String::from_utf8(output.stderr)?;
    assert!(!output.status.success() && told.contains("set CLAWDFORGE_ADMIN_TOKEN anew"), "{told}");
    assert!(!data_dir.exists());
    assert!(rotate(&data_dir, &[]).await?.status.success());
    assert_eq!((mode(&data_dir)?, mode(&data_dir.join("admin-token"))?), (0o700, 0o600));
    assert_eq!(std::fs::read_dir(&data_dir)?.count(), 1, "nothing else is left");
    beyond_loopback(&data_dir).start().await?.stop().await?;
    Ok(())
}

#[tokio::test]
async fn listening_beyond_loopback_wants_an_admin_token_that_is_hard_to_guess() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let with = |token: &str| beyond_loopback(&dir.path().join("data")).env("CLAWDFORGE_ADMIN_TOKEN", token);
    let told = refused(with("changeme-changeme")).await?;
    assert!(told.contains("weak-admin-token") && !told.contains("changeme"), "{told}");
    with("changeme-changeme").arg("--start-despite=weak-admin-token").start().await?.stop().await?;
    with("9f86d081884c7d659a2feaa0c55ad015").start().await?.stop().await?;
    setup().demo().env("CLAWDFORGE_ADMIN_TOKEN", "changeme-changeme").start().await?.stop().await?;
    Ok(())
}

#[tokio::test]
async fn data_and_tokens_that_others_may_read_are_refused_with_the_command_that_helps() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (data_dir, given) = (dir.path().join("data"), dir.path().join("token"));
    std::fs::write(&given, "9f86d081884c7d659a2feaa0c55ad015")?;
    std::fs::set_permissions(&given, Permissions::from_mode(0o600))?;
    let service = || setup().demo().data_dir(&data_dir).arg("--admin-token-file").arg(&given);
    service().start().await?.stop().await?;
    for (path, open, closed, fix) in [
        (data_dir.clone(), 0o750, 0o700, "chmod 700"),
        (data_dir.join("clawdforge.sqlite"), 0o644, 0o600, "chmod 600"),
        (data_dir.join("demo-token"), 0o604, 0o600, "chmod 600"),
        (given.clone(), 0o640, 0o600, "chmod 600"),
    ] {
        std::fs::set_permissions(&path, Permissions::from_mode(open))?;
        let told = refused(service()).await?;
        let expected = format!("{fix} {}", path.display());
        assert!(told.contains(&expected) && told.contains("--start-despite readable-data"), "{told}");
        service().arg("--start-despite=readable-data").start().await?.stop().await?;
        std::fs::set_permissions(&path, Permissions::from_mode(closed))?;
    }
    service().start().await?.stop().await?;
    Ok(())
}

#[tokio::test]
async fn nothing_the_service_or_an_agent_makes_is_anybody_elses_whatever_the_umask() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let careless = dir.path().join("clawdforge");
    script(&careless, &format!("umask 000; exec {BINARY} \"$@\""))?;
    let app = Setup::new(careless).demo().start().await?;
    app.upload(&app.demo_token()?, "a.txt", b"bytes".to_vec()).await?;
    app.prompt("say: hi").await?;
    let session = app.open_session(serde_json::json!({})).await?;
    app.turn(&session, "note: something").await?;
    let (mut left, mut seen) = (vec![app.data_dir()], 0);
    while let Some(path) = left.pop() {
        let found = std::fs::symlink_metadata(&path)?;
        if found.is_symlink() {
            continue;
        }
        // Folders of workspaces may be passed through, behind the data directory's closed door.
        assert_eq!(found.permissions().mode() & 0o066, 0, "{} {:o}", path.display(), found.permissions().mode());
        if found.is_dir() {
            left.extend(
                std::fs::read_dir(&path)?
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<Result<Vec<_>, _>>()?,
            );
        }
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} files");
    Ok(())
}
