//! What the levels of isolation mean for apps and operators: what works in a sandbox, what is stamped, which starts are
//! refused. What an agent is kept from is `attack_suite.rs`.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use clawdforge_testkit::app::{Answer, Setup, TestApp};
use reqwest::{Method, StatusCode};
use rustix::process::geteuid;
use serde_json::{Value, json};

use crate::setup;
use crate::support::get;

/// Without any isolation, as explicitly as it must be said.
fn off(setup: Setup) -> Setup {
    setup.arg("--isolation-mode=off").arg("--isolation-require=off").arg("--isolation-off-as-root")
}

fn landlock(setup: Setup) -> Setup {
    setup.arg("--isolation-mode=landlock")
}

fn with_users(setup: Setup) -> Setup {
    setup.arg("--isolation-mode=uid").arg("--isolation-users=21000-21001").arg("--isolation-require=uid")
}

/// With namespaces, and with users where those can be had; `None` where this machine lets us make no namespaces.
async fn apart() -> anyhow::Result<Option<TestApp>> {
    let setup = setup().demo().arg("--isolation-mode=namespaces").arg("--isolation-require=namespaces");
    let setup = if geteuid().is_root() { setup.arg("--isolation-users=21000-21009") } else { setup };
    match setup.start().await {
        Ok(app) => Ok(Some(app)),
        Err(error) if error.to_string().contains("the sandbox could not make its") => Ok(None),
        Err(error) => Err(error),
    }
}

#[tokio::test]
async fn without_isolation_the_service_says_so_loudly() -> anyhow::Result<()> {
    let app = off(setup().demo()).start().await?;
    assert!(app.log()?.contains("agents are not isolated"));
    Ok(())
}

#[tokio::test]
async fn sessions_and_runs_with_namespaces_work_and_leave_nobody_behind() -> anyhow::Result<()> {
    let Some(app) = apart().await? else { return Ok(()) };
    let token = app.demo_token()?;
    let file = app.upload(&token, "note.txt", b"what was sent".to_vec()).await?;
    let answer = app.run(&token, json!({ "prompt": "read: attachment-1.txt", "files": [file] })).await?.json();
    assert_eq!(answer["result"], "what was sent", "{answer}");
    let answer = app.run(&token, json!({ "prompt": "grandchild\nsay: left one behind" })).await?.json();
    assert_eq!(answer["ok"], true, "{answer}");
    let session = app.open_session(json!({})).await?;
    app.turn(&session, "my name is Ada").await?;
    let state = get(&app, &format!("/sessions/{session}"), &token).await?.json();
    assert_eq!(state["isolation"], "namespaces", "{state}");
    let reply = app.turn(&session, "recall").await?;
    assert!(reply.text.contains("my name is Ada"), "{reply:?}");
    let late = app
        .call(
            Method::POST,
            &format!("/sessions/{session}/turn"),
            &token,
            json!({ "prompt": "ignore term\nignore cancel\ngrandchild\nhang", "timeout_secs": 5 }),
        )
        .await?;
    assert_eq!(late.json()["code"], "timed_out", "{late:?}");
    assert_eq!(app.agent_processes(), Vec::<i32>::new());
    let mut app = app;
    app.turn(&session, "recall").await?;
    assert!(!app.agent_processes().is_empty());
    app.signal(rustix::process::Signal::KILL)?;
    app.ended().await?;
    // Without anybody to end them.
    app.wait_for_processes(<[i32]>::is_empty).await.map(drop)
}

/// Runs the service where nobody may make namespaces, as in most containers: in a user namespace that allows no further
/// ones, without the power over those there are.
const WITHOUT_NAMESPACES: &str = "#!/bin/sh\nexec unshare -r sh -c 'echo 0 > /proc/sys/user/max_user_namespaces && \
    exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \"$@\"' sh ";

#[tokio::test]
async fn where_namespaces_cannot_be_made_the_level_below_is_taken_and_said() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let script = dir.path().join("serve");
    std::fs::write(&script, format!("{WITHOUT_NAMESPACES}{} \"$@\"\n", env!("CARGO_BIN_EXE_clawdforge")))?;
    std::fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let confined = || Setup::new(&script).demo().env("PATH", path);
    let app = match confined().start().await {
        Ok(app) => app,
        // This machine lets us make none even for that, or lacks the programs.
        Err(error) if ["unshare", "setpriv", "max_user_namespaces"].iter().any(|it| error.to_string().contains(it)) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let session = app.open_session(json!({})).await?;
    app.turn(&session, "say: hello").await?;
    let state = get(&app, &format!("/sessions/{session}"), &app.demo_token()?).await?.json();
    assert_eq!(state["isolation"], "landlock", "{state}");
    let log = app.log()?;
    assert!(log.contains("agents have no namespaces of their own") && log.contains("make its namespaces"), "{log}");
    for option in ["--isolation-mode=namespaces", "--isolation-require=namespaces"] {
        let said = refusal(confined().arg(option)).await;
        assert!(said.contains("could not make its namespaces"), "{option}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn every_app_has_a_user_and_a_home_that_it_keeps() -> anyhow::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let app = with_users(setup().demo()).start().await?;
    let (demo, other) = (app.demo_token()?, app.mint("other").await?);
    let home = async |app: &TestApp, token: &str| -> anyhow::Result<String> {
        let answer = app.run(token, json!({ "prompt": "env: HOME" })).await?.json();
        Ok(answer["result"].as_str().unwrap_or_default().to_owned())
    };
    let homes = [home(&app, &demo).await?, home(&app, &other).await?];
    let number = |home: &str| Path::new(home).parent()?.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    assert_eq!(homes.each_ref().map(|home| number(home)), [Some(21_000), Some(21_001)]);
    for home in &homes {
        let found = std::fs::metadata(home)?;
        assert_eq!((Some(found.uid()), found.mode() & 0o777), (number(home), 0o700));
    }
    // The range is used up now, and nobody shares.
    let third = app.mint("third").await?;
    let refused = app.run(&third, json!({ "prompt": "say: hello" })).await?.json();
    assert!(refused["error"].as_str().unwrap_or_default().contains("no user left"), "{refused}");
    let app = app.restart().await?;
    assert_eq!([home(&app, &demo).await?, home(&app, &other).await?], homes);
    Ok(())
}

#[tokio::test]
async fn attachments_are_the_agents_own_whichever_user_it_is() -> anyhow::Result<()> {
    for setup in [Some(setup().demo()), geteuid().is_root().then(|| with_users(setup().demo()))].into_iter().flatten() {
        let app = setup.start().await?;
        let token = app.demo_token()?;
        let file = app.upload(&token, "note.txt", b"what was sent".to_vec()).await?;
        let body = json!({ "prompt": "read: attachment-1.txt", "files": [file] });
        let answer = app.run(&token, body).await?.json();
        assert_eq!(answer["result"], "what was sent", "{answer}");
        let session = app.open_session(json!({})).await?;
        let path = format!("/sessions/{session}/turn");
        for _ in 0..2 {
            let body = json!({ "prompt": "attached", "files": [file] });
            let answer = app.call(Method::POST, &path, &token, body).await?;
            assert!(answer.text.contains("attachment-1.txt"), "{answer:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_level_is_stamped_on_sessions_and_in_the_ledger() -> anyhow::Result<()> {
    let app = landlock(setup().demo()).start().await?;
    let token = app.demo_token()?;
    let session = app.open_session(json!({})).await?;
    app.turn(&session, "say: hello").await?;
    let run = app.prompt("say: hello").await?.json();
    let mut keys: Vec<&String> = run.as_object().into_iter().flat_map(|run| run.keys()).collect();
    keys.sort();
    assert_eq!(keys, ["duration_ms", "ok", "result", "stop_reason"], "a run keeps its four keys");
    let state = get(&app, &format!("/sessions/{session}"), &token).await?.json();
    assert_eq!(state["isolation"], "landlock", "{state}");
    let about_agents = ["run_accepted", "run_ended", "session_created", "turn_accepted", "turn_ended"];
    let lines = app.ledger_with(|lines| lines.iter().any(|line| line["kind"] == "run_ended")).await?;
    for line in lines {
        let expected =
            if about_agents.iter().any(|kind| line["kind"] == *kind) { json!("landlock") } else { Value::Null };
        assert_eq!(line["isolation"], expected, "{line}");
    }
    Ok(())
}

/// Asks for a run and for a session with a demand, of the demo app.
async fn demand(app: &TestApp, level: &str) -> anyhow::Result<[Answer; 2]> {
    let token = app.demo_token()?;
    let run = app.run(&token, json!({ "prompt": "say: hello", "isolation": level })).await?;
    Ok([run, app.call(Method::POST, "/sessions", &token, json!({ "isolation": level })).await?])
}

fn assert_too_weak(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
    assert_eq!(answer.json()["code"], "isolation_too_weak", "{answer:?}");
    assert!(
        answer.json()["detail"].as_str().is_some_and(|detail| detail.ends_with("nothing was started")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_request_that_demands_more_than_there_is_is_refused_before_it_is_accepted() -> anyhow::Result<()> {
    let app = landlock(setup().demo()).start().await?;
    let before = app.ledger().await?.len();
    for level in ["uid", "namespaces"] {
        demand(&app, level).await?.iter().for_each(assert_too_weak);
    }
    for answer in demand(&app, "jail").await? {
        assert_eq!(answer.json()["detail"][0]["type"], "literal_error", "{answer:?}");
    }
    assert_eq!(app.ledger().await?.len(), before, "nothing was accepted");
    for level in ["off", "landlock"] {
        for answer in demand(&app, level).await? {
            assert_eq!((answer.status, &answer.json()["ok"]), (StatusCode::OK, &json!(true)), "{level}: {answer:?}");
        }
    }
    let refused = crate::support::cli(&app, &["run", "say: hello", "--isolation", "uid"]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("isolation `uid` is demanded"), "{said}");
    Ok(())
}

#[tokio::test]
async fn namespaces_without_users_are_not_what_a_demand_for_users_asks_for() -> anyhow::Result<()> {
    let without_users = setup().demo().arg("--isolation-mode=namespaces");
    let app = match without_users.start().await {
        Ok(app) => app,
        Err(error) if error.to_string().contains("could not make its") => return Ok(()),
        Err(error) => return Err(error),
    };
    demand(&app, "uid").await?.iter().for_each(assert_too_weak);
    for answer in demand(&app, "namespaces").await? {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_session_demanded_holds_for_its_turns_after_a_start_with_less() -> anyhow::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let app = with_users(setup().demo()).start().await?;
    let demanding = app.open_session(json!({ "isolation": "uid" })).await?;
    assert_eq!(app.turn(&demanding, "say: hello").await?.json()["ok"], true);
    let app = app.restart_as(landlock(setup().demo())).await?;
    assert_too_weak(&app.turn(&demanding, "say: hello").await?);
    let other = app.open_session(json!({})).await?;
    assert_eq!(app.turn(&other, "say: hello").await?.json()["ok"], true, "who demands nothing is served");
    let app = app.restart_as(with_users(setup().demo())).await?;
    assert_eq!(app.turn(&demanding, "say: hello").await?.json()["ok"], true, "and so does it, where it may");
    Ok(())
}

#[tokio::test]
async fn an_agent_may_require_more_than_the_service_does() -> anyhow::Result<()> {
    let table = |level: &str| setup().demo().config(format!("[agents.demo]\nisolation_require = \"{level}\"\n"));
    let app = landlock(table("uid")).start().await?;
    for level in ["off", "landlock"] {
        demand(&app, level).await?.iter().for_each(assert_too_weak);
    }
    let app = app.restart_as(landlock(table("landlock"))).await?;
    for answer in demand(&app, "off").await? {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    Ok(())
}

/// What a start says that is refused.
pub async fn refusal(setup: Setup) -> String {
    match setup.start().await {
        Ok(_) => "it started".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn below_the_floor_there_is_no_start() -> anyhow::Result<()> {
    let said = refusal(setup().demo().arg("--isolation-require=uid")).await;
    assert!(said.contains("less isolation than `isolation_require` demands"), "{said}");
    assert!(said.contains("`isolation_users` names no users"), "it says what is lacking: {said}");
    let said = refusal(setup().demo().arg("--isolation-mode=uid")).await;
    assert!(said.contains("`isolation_mode` is `uid`, but `isolation_users` names no users"), "{said}");
    let said = refusal(setup().demo().arg("--isolation-mode=off")).await;
    assert!(said.contains("`isolation_mode` is `off`, and `landlock` is required"), "{said}");
    let said = refusal(setup().demo().env("CLAWDFORGE_SESSIONS_PER_PROCESS", "2")).await;
    assert!(said.contains("`sessions_per_process` is 2, but a process in a sandbox"), "{said}");
    if geteuid().is_root() {
        let said = refusal(setup().demo().arg("--isolation-mode=off").arg("--isolation-require=off")).await;
        assert!(said.contains("`isolation_off_as_root`"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_in_the_data_directory_cannot_be_opened_by_an_option() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    std::fs::create_dir(&data)?;
    std::fs::set_permissions(&data, Permissions::from_mode(0o700))?;
    std::os::unix::fs::symlink(&data, dir.path().join("link"))?;
    for place in ["data/clawdforge.sqlite", "link/clawdforge.sqlite", "link"] {
        for option in ["isolation-read", "isolation-write"] {
            let option = format!("--{option}={}", dir.path().join(place).display());
            let said = refusal(setup().demo().data_dir(&data).arg(option)).await;
            assert!(said.contains("is in the data directory"), "{place}: {said}");
        }
    }
    assert_eq!(std::fs::read_dir(&data)?.count(), 0, "nothing was made");
    Ok(())
}

#[tokio::test]
async fn a_home_that_is_the_data_directory_is_refused() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let said =
        refusal(setup().demo().arg("--agent-home=shared").data_dir(dir.path()).env("HOME", dir.path().as_os_str()))
            .await;
    assert!(said.contains("HOME is the data directory"), "{said}");
    Ok(())
}

#[tokio::test]
async fn secrets_are_gone_from_the_environment_of_the_service() -> anyhow::Result<()> {
    let canary = "cf_admin_canary_0123456789abcdef";
    let app = setup().demo().env("CLAWDFORGE_ADMIN_TOKEN", canary).env("ANTHROPIC_API_KEY", canary).start().await?;
    let environ = std::fs::read(format!("/proc/{}/environ", app.pid()?.as_raw_nonzero()))?;
    let text = String::from_utf8_lossy(&environ);
    assert!(text.contains("ANTHROPIC_API_KEY="), "it was there: {text}");
    assert!(!text.contains("canary"), "{text}");
    // And yet it is in force, and agents that may have it get it.
    assert!(app.call(Method::GET, "/admin/tokens", canary, Value::Null).await?.status.is_success());
    Ok(())
}
