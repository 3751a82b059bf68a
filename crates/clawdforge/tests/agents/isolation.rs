//! The real Claude Code in the sandbox: its shell works in its workspace, and reaches nothing of the service.

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

#[tokio::test]
async fn the_shell_of_the_agent_does_not_reach_the_service() -> anyhow::Result<()> {
    for kind in kinds() {
        let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
        let (data, pid) = (bench.app.data_dir(), bench.app.pid()?.as_raw_nonzero());
        let data = data.display();
        bench.model.script(runs(format!(
            "for f in {data}/clawdforge.sqlite {data}/admin-token /proc/{pid}/environ /etc/shadow; do \
             head -c 1 $f > /dev/null 2>&1 && echo read $f; done; \
             for d in {data} /etc /usr /tmp; do touch $d/{NAME} 2> /dev/null; done; \
             kill -0 {pid} 2> /dev/null && echo signalled; unshare -U true 2> /dev/null && echo unshared; echo tried"
        )));
        let body = bench.answered(json!({ "prompt": "attack" })).await?;
        assert_eq!(body["result"].as_str().map(str::trim), Some("tried"), "{body}");
        // It may have a /tmp of its own to write in, and then the data directory, if that is there, looks so as well.
        for folder in [bench.app.data_dir(), "/etc".into(), "/usr".into(), "/tmp".into()] {
            assert!(!folder.join(NAME).exists(), "{folder:?}");
        }
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
