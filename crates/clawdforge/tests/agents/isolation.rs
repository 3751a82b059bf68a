//! The real Claude Code in the sandbox: its shell works in its workspace, and reaches nothing of the service or of another app.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use clawdforge_testkit::mock_model::{ModelRequest, Reply};
use rustix::process::geteuid;
use serde_json::json;

use crate::bench::{Bench, Kind};

/// A file that nobody else makes.
const NAME: &str = "clawdforge-written-by-an-agent";

const SHELL: &str = r#"args = ["--allowedTools", "Bash"]"#;

/// At every level that can be made here: as usual, which is the strongest, and below; where the service may give agents
/// users of their own, so as well.
fn kinds() -> Vec<Kind> {
    let usual = Kind { agent_lines: SHELL, ..Kind::default() };
    let with_users = Kind {
        agent_lines: SHELL,
        env: &[
            ("CLAWDFORGE_ISOLATION_MODE", "uid"),
            ("CLAWDFORGE_ISOLATION_USERS", "22000-22009"),
            ("CLAWDFORGE_ISOLATION_REQUIRE", "uid"),
        ],
        ..Kind::default()
    };
    let with_both = Kind {
        agent_lines: SHELL,
        env: &[("CLAWDFORGE_ISOLATION_USERS", "22000-22009"), ("CLAWDFORGE_ISOLATION_REQUIRE", "uid")],
        ..Kind::default()
    };
    let plain = Kind { agent_lines: SHELL, env: &[("CLAWDFORGE_ISOLATION_MODE", "landlock")], ..Kind::default() };
    if geteuid().is_root() { vec![usual, plain, with_users, with_both] } else { vec![usual, plain] }
}

/// A model that has a command run and says what came of it.
fn runs(command: String) -> impl FnMut(&ModelRequest) -> Reply {
    move |request| match request.tool_answers().first() {
        None => Reply::tool_use("Bash", json!({ "command": command, "description": "x" })),
        Some(answer) => Reply::text(answer.text.clone()),
    }
}

/// What no level lets it do; each line says its name where it succeeds. Names in capitals are variables of the script.
const ATTACKS: &str = r#"
for f in $DATA/clawdforge.sqlite $DATA/clawdforge.sqlite-wal $DATA/admin-token $DATA/files/* $UPLOAD $OTHER/secret \
    /proc/$SERVICE/environ /proc/$SERVICE/mem /proc/$SERVICE/root$DATA/admin-token /proc/$VICTIM/environ \
    /proc/$VICTIM/mem /proc/$VICTIM/cwd/secret /proc/$VICTIM/root$OTHER/secret /etc/shadow \
    ../../../../../../../../../../../..$OTHER/secret
do head -c 1 $f > /dev/null 2>&1 && echo read $f; done
for d in $DATA $OTHER /etc /usr $SHARED; do touch $d/$NAME 2> /dev/null; done
ln -s $DATA/admin-token by-link && cat by-link > /dev/null 2>&1 && echo read by link
ln $OTHER/secret by-name 2> /dev/null && echo linked
for p in $SERVICE $VICTIM; do
    kill -0 $p 2> /dev/null && echo signalled $p
    readlink /proc/$p/cwd > /dev/null 2>&1 && echo looked at $p
done
mkdir over && mount --bind $OTHER over 2> /dev/null && echo mounted
unshare -U true 2> /dev/null && echo unshared
env | grep -q DATABASE_PASSWORD && echo found a variable
printf %s $CANARY | grep -qsF -f - /proc/[0-9]*/environ /proc/[0-9]*/cmdline && echo found the canary
(setsid sh -c 'trap "" TERM HUP INT; exec sleep 86400' > /dev/null 2>&1 < /dev/null &)
echo tried
"#;

/// A secret in the environment of the service that is no agent's. Asked for in two halves, so that the question does not
/// hold it.
const CANARY: [&str; 2] = ["cf-canary-", "of-the-service-81c4"];

#[tokio::test]
async fn the_shell_of_the_agent_does_not_reach_the_service_or_another_app() -> anyhow::Result<()> {
    for kind in kinds() {
        let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
        let (data, service) = (bench.app.data_dir().canonicalize()?, bench.app.pid()?.as_raw_nonzero());
        // Another app, with a warm agent, a secret in its workspace and an upload.
        let other = bench.app.mint("other").await?;
        let body = json!({ "agent": "claude" });
        let opened = bench.app.call(reqwest::Method::POST, "/sessions", &other, body).await?.json();
        let session = format!("/sessions/{}", opened["session_id"].as_str().unwrap_or_default());
        let body = json!({ "prompt": "Wait." });
        let turn = bench.app.call(reqwest::Method::POST, &format!("{session}/turn"), &other, body).await?;
        assert_eq!(turn.status, reqwest::StatusCode::OK, "{turn:?}");
        let work = bench.work()?.canonicalize()?;
        std::fs::write(work.join("secret"), "another app's")?;
        bench.app.upload(&other, "secret.txt", b"another app's".to_vec()).await?;
        let upload = std::fs::read_dir(data.join("files"))?.next().context("there is an upload")??.path();
        let victims = bench.app.agent_programs();
        let victim = *victims.first().context("the other app's agent is warm")?;
        let shared = tempfile::tempdir_in("/tmp")?;
        std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o777))?;

        let (data_shown, shown, upload) = (data.display(), work.display(), upload.display());
        let [one, two] = CANARY;
        bench.model.script(runs(format!(
            "DATA={data_shown} OTHER={shown} UPLOAD={upload} SERVICE={service} VICTIM={victim} SHARED={} NAME={NAME}\n\
             CANARY={one}; CANARY=${{CANARY}}{two}\n{ATTACKS}",
            shared.path().display()
        )));
        let before = bench.app.agent_processes();
        let body = bench.answered(json!({ "prompt": "attack" })).await?;
        assert_eq!(body["result"].as_str().map(str::trim), Some("tried"), "{body}");
        // It may have a /tmp of its own to write in, and then the data directory, if that is there, looks so as well.
        for folder in [data.as_path(), &work, Path::new("/etc"), Path::new("/usr"), shared.path()] {
            assert!(!folder.join(NAME).exists(), "{folder:?}");
        }
        bench.app.wait_for_processes(|found| found.iter().all(|pid| before.contains(pid))).await?;
        bench.app.call(reqwest::Method::DELETE, &session, &other, serde_json::Value::Null).await?;
        bench.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_shell_of_the_agent_works_in_its_workspace() -> anyhow::Result<()> {
    for kind in kinds() {
        let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
        bench.model.script(runs(
            "set -e; echo one > a.txt; mkdir -p lib; printf '{\"name\":\"lib\",\"version\":\"1.0.0\"}' > lib/package.json; \
             git init -q . && git add -A && git -c user.name=x -c user.email=x@x commit -qm first && git log --format=%s; \
             node -e 'console.log(1 + 1)'; mktemp > /dev/null && echo temporary; \
             npm install --offline --no-update-notifier --no-audit --no-fund ./lib > /dev/null && ls node_modules"
                .to_owned(),
        ));
        let body = bench.answered(json!({ "prompt": "work" })).await?;
        let lines: Vec<&str> = body["result"].as_str().unwrap_or_default().lines().collect();
        assert_eq!(lines, ["first", "2", "temporary", "lib"], "{body}");
        bench.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_session_goes_on_in_the_home_of_its_app() -> anyhow::Result<()> {
    for kind in kinds() {
        let Some(mut bench) = Bench::start_as(kind).await? else { return Ok(()) };
        let session = bench.session(json!({ "agent": "claude" })).await?;
        bench.turned(&session, json!({ "prompt": "The word is plum." })).await?;
        bench.app = bench.app.restart().await?;
        let reply = bench.turned(&session, json!({ "prompt": "Go on." })).await?;
        assert_eq!(reply["context"], "resumed", "{reply}");
        bench.close(&session).await?;
        bench.finish().await?;
    }
    Ok(())
}
