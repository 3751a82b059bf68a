//! What was asked reaches the agent, and nothing else does.

use clawdforge_testkit::app::TestApp;
use serde_json::{Value, json};

use crate::setup;
use crate::support::script;

/// What the agent says to a request of the demo app.
async fn said(app: &TestApp, body: Value) -> anyhow::Result<Value> {
    let answer = app.run(&app.demo_token()?, body).await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    Ok(answer.json()["result"].take())
}

#[tokio::test]
async fn the_system_text_is_appended_or_takes_the_place() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let text = "Be \"brief\".\n--model=opus\n\u{1F980}";
    for (body, expected) in [
        (json!({ "prompt": "system" }), "none".to_owned()),
        (json!({ "prompt": "system", "system": "" }), "none".to_owned()),
        (json!({ "prompt": "system", "system": text }), format!("append: {text}")),
        (json!({ "prompt": "system", "system": text, "system_mode": "append" }), format!("append: {text}")),
        (json!({ "prompt": "system", "system": text, "system_mode": "replace" }), format!("replace: {text}")),
        (json!({ "prompt": "system", "system_mode": "replace" }), "none".to_owned()),
    ] {
        assert_eq!(said(&app, body).await?, expected);
    }
    Ok(())
}

#[tokio::test]
async fn model_and_effort_are_the_callers_or_the_defaults() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    assert_eq!(said(&app, json!({ "prompt": "model" })).await?, "sonnet");
    for model in ["opus", "claude-opus-4-1@20250805", "us.anthropic/claude:0[1m]", "a b", "$(id)"] {
        assert_eq!(said(&app, json!({ "prompt": "model", "model": model })).await?, model);
    }
    assert_eq!(said(&app, json!({ "prompt": "effort" })).await?, "none");
    for effort in ["low", "medium", "high", "xhigh", "max"] {
        assert_eq!(said(&app, json!({ "prompt": "effort", "effort": effort })).await?, effort);
    }
    let app = setup().demo().arg("--default-model").arg("haiku").start().await?;
    assert_eq!(said(&app, json!({ "prompt": "model" })).await?, "haiku");
    Ok(())
}

#[tokio::test]
async fn neither_prompt_nor_system_text_is_in_the_process_list() -> anyhow::Result<()> {
    let app = setup().demo().arg("--drain-deadline-secs").arg("0").start().await?;
    let body = json!({ "prompt": "say: canary-prompt\nhang", "system": "canary-system" });
    let token = app.demo_token()?;
    let run = app.run(&token, body);
    let look = async {
        // Between its fork and its exec an agent still shows the service's own line.
        let is_agent = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("--model=sonnet")
        };
        let pids = app.wait_for_processes(|pids| !pids.is_empty() && pids.iter().all(is_agent)).await?;
        for pid in pids {
            let shown =
                [std::fs::read(format!("/proc/{pid}/cmdline"))?, std::fs::read(format!("/proc/{pid}/environ"))?];
            let shown = String::from_utf8_lossy(&shown.concat()).into_owned();
            assert!(!shown.contains("canary"), "{shown}");
        }
        app.signal(rustix::process::Signal::TERM)?;
        app.signal(rustix::process::Signal::TERM)
    };
    let (answer, looked) = tokio::join!(run, look);
    looked?;
    assert_eq!(answer?.json()["code"], "interrupted");
    assert!(!app.log()?.contains("canary"), "nor in the log");
    Ok(())
}

#[tokio::test]
async fn texts_far_beyond_an_argument_reach_the_agent_whole() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    // The size of the prompts of a known app, which broke the first implementation.
    let large = "0123456789abcde\u{e9}".repeat(577 * 1024 / 17);
    let characters = large.chars().count();
    assert_eq!(said(&app, json!({ "prompt": large })).await?, format!("You said {characters} characters."));
    let system = said(&app, json!({ "prompt": "system", "system": large })).await?;
    assert_eq!(system, format!("append: {large}"));
    Ok(())
}

/// Variables a service may well have, most of which are no agent's business.
const SURROUNDINGS: [(&str, &str); 9] = [
    ("CLAWDFORGE_ADMIN_TOKEN", "cfadmin_0123456789abcdef0123456789abcdef"),
    ("CLAWDFORGE_LOG", "info"),
    ("ALLOW_CIDRS", "192.168.0.0/24"),
    ("DATABASE_PASSWORD", "secret"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
    ("LD_LIBRARY_PATH", "/nowhere"),
    ("ANTHROPIC_API_KEY", "sk-dummy"),
    ("LC_ALL", "C.UTF-8"),
    ("NO_PROXY", "localhost"),
];

#[tokio::test]
async fn an_agent_gets_the_listed_variables_and_no_other() -> anyhow::Result<()> {
    let setup = SURROUNDINGS.iter().fold(setup().demo(), |setup, (name, value)| setup.env(name, *value));
    let app = setup.start().await?;
    let names = said(&app, json!({ "prompt": "env" })).await?;
    let expected = [
        "ALL_PROXY",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY",
        "CLAUDE_CODE_DISABLE_FILE_MENTIONS",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "CLAUDE_CODE_MAX_RETRIES",
        "CLAUDE_CODE_PROXY_RESOLVES_HOSTS",
        "CLAUDE_CODE_TMPDIR",
        // The mark by which the next start finds what a killed service left; it is no secret.
        "CLAWDFORGE_TREE",
        "DISABLE_AUTOUPDATER",
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LC_ALL",
        "NODE_USE_ENV_PROXY",
        "PATH",
        "TMPDIR",
        "all_proxy",
        "http_proxy",
        "https_proxy",
    ];
    // In a network of the agent's own, its own loopback needs no proxy.
    let no_proxy: &[&str] = match app.log()?.contains("\"isolation.network\":\"namespace\"") {
        true => &["NO_PROXY", "no_proxy"],
        false => &[],
    };
    let mut expected: Vec<&str> = expected.iter().chain(no_proxy).copied().collect();
    expected.sort_unstable();
    let found: Vec<&str> = names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(found, expected);
    // The service's own would lead around the proxy that agents are given.
    assert_ne!(said(&app, json!({ "prompt": "env: NO_PROXY" })).await?, "localhost");
    let homes: Vec<String> = app.agent_homes().iter().map(|home| home.display().to_string()).collect();
    assert_eq!(json!([said(&app, json!({ "prompt": "env: HOME" })).await?]), json!(homes));
    Ok(())
}

#[tokio::test]
async fn claude_gets_the_variables_its_documentation_names_as_well() -> anyhow::Result<()> {
    let path = tempfile::tempdir()?;
    let program = r#"
[ "$1" = --version ] && { echo '2.1.330 (Claude Code)'; exit 0; }
/bin/cat > /dev/null
names=$(/usr/bin/tr '\0' '\n' < /proc/$$/environ | /usr/bin/cut -d= -f1 | /usr/bin/sort | /usr/bin/tr '\n' ' ')
printf '{"type":"result","subtype":"success","is_error":false,"stop_reason":"end_turn","result":"%s"}\n' "$names""#;
    script(&path.path().join("claude"), program)?;
    let setup = SURROUNDINGS.iter().fold(setup(), |setup, (name, value)| setup.env(name, *value));
    let app = setup.env("PATH", path.path()).start().await?;
    let admin = SURROUNDINGS[0].1;
    let minted = app.call(reqwest::Method::POST, "/admin/tokens", admin, json!({ "name": "app" })).await?;
    let token = minted.json()["token"].as_str().unwrap_or_default().to_owned();
    let answer = app.run(&token, json!({ "prompt": "hello" })).await?;
    let names = answer.json()["result"].as_str().unwrap_or_default().to_owned();
    assert!(names.contains("ANTHROPIC_API_KEY") && names.contains("HOME"), "{}", answer.text);
    for secret in [
        "CLAWDFORGE_ADMIN",
        "CLAWDFORGE_LOG",
        "ALLOW_CIDRS",
        "DATABASE_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "LD_LIBRARY_PATH",
    ] {
        assert!(!names.contains(secret), "{names}");
    }
    Ok(())
}

#[tokio::test]
async fn attachments_lie_in_the_workspace_and_are_listed_after_the_prompt() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let token = app.demo_token()?;
    let text = app.upload(&token, "Notes.TXT", b"first".to_vec()).await?;
    let image = app.upload(&token, "no extension", b"second".to_vec()).await?;
    let listed = said(&app, json!({ "prompt": "hello", "files": [text, image] })).await?;
    assert_eq!(
        listed,
        "You said: hello\n\nAttached files in the current directory:\n- attachment-1.txt\n- attachment-2"
    );
    let read = json!({ "prompt": "read: attachment-1.txt\nread: attachment-2", "files": [text, image] });
    assert_eq!(said(&app, read.clone()).await?, "first\nsecond");
    assert_eq!(said(&app, read).await?, "first\nsecond", "a file may be used again");
    let twice = json!({ "prompt": "read: attachment-2.txt", "files": [text, text] });
    assert_eq!(said(&app, twice).await?, "first", "and twice in one run");
    Ok(())
}
