//! `POST /run`: every shape of its replies, pinned byte for byte.

use clawdforge_testkit::app::read;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::setup;
use crate::support::golden::Golden;

#[tokio::test]
async fn an_answer_is_given_as_the_json_it_is_or_as_text() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let mut golden = Golden::default();
    for (title, prompt) in [
        ("an object in a fence", r#"json: {"qty": 2, "unit": "cup"}"#),
        ("an object, keys and digits as they were written", r#"say: {"z":1,"a":12345678901234567890123}"#),
        ("an array", "say: [1, [2], {}]"),
        ("a number", "say: 42"),
        ("true", "say: true"),
        ("null", "say: null"),
        ("a JSON string", r#"say: "quoted""#),
        ("text", "What is a cup?"),
        ("text with everything that needs escaping", "say: \"é\u{1F980}\\ \t\u{2028}</script>"),
        ("text around a fence", "say: Here:\njson: {}"),
        ("a number no reader takes", "say: 1e999"),
    ] {
        let answer = app.prompt(prompt).await?;
        golden.add(title, &answer);
        let keys: Vec<String> = answer.json().as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default();
        assert_eq!(keys, ["ok", "result", "duration_ms", "stop_reason"], "exactly the four: {title}");
    }
    insta::assert_snapshot!(golden);
    Ok(())
}

#[tokio::test]
async fn a_failed_run_is_a_502_that_says_what_failed() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let mut golden = Golden::default();
    for prompt in [
        "api error: 400",
        "api error: 401",
        "api error: 403",
        "api error: 404",
        "api error: 413",
        "api error: 429",
        "api error: 500",
        "api error: 529",
        "not signed in",
        "refuse",
        "no answer",
        "crash: 3",
        "stderr: what went wrong\nstderr: and where\ncrash: 3",
        "die: KILL",
    ] {
        golden.add(prompt, &app.prompt(prompt).await?);
    }
    insta::assert_snapshot!(golden);
    Ok(())
}

#[tokio::test]
async fn a_run_without_an_agent_says_how_to_get_one() -> anyhow::Result<()> {
    let nothing = tempfile::tempdir()?;
    let app = setup().env("PATH", nothing.path()).start().await?;
    let token = app.mint("app").await?;
    let mut golden = Golden::default();
    golden.add("claude is not installed", &app.run(&token, json!({ "prompt": "hello" })).await?);
    insta::assert_snapshot!(golden);
    Ok(())
}

#[tokio::test]
async fn a_wrong_body_is_refused_with_every_fault_at_its_place() -> anyhow::Result<()> {
    let app = setup().demo().arg("--timeout-max-secs").arg("600").start().await?;
    let too_long = "x".repeat(8 * 1024 * 1024 + 1);
    let many: Vec<String> = (0..65).map(|n| format!("ff_{n}")).collect();
    let mut golden = Golden::default();
    for (title, body) in [
        ("no prompt", json!({ "model": "opus" })),
        ("a null prompt", json!({ "prompt": null })),
        ("a prompt that is no string", json!({ "prompt": ["hello"] })),
        ("an empty prompt", json!({ "prompt": "" })),
        ("a blank prompt", json!({ "prompt": " \n\t" })),
        ("a prompt over the limit", json!({ "prompt": too_long })),
        ("a system that is no string", json!({ "prompt": "p", "system": {} })),
        ("an unknown system_mode", json!({ "prompt": "p", "system_mode": "prepend" })),
        ("a system_mode that is no string", json!({ "prompt": "p", "system_mode": 1 })),
        ("an unknown effort", json!({ "prompt": "p", "effort": "huge" })),
        ("a model that would be an option", json!({ "prompt": "p", "model": "--verbose" })),
        ("a model with a line break", json!({ "prompt": "p", "model": "a\nb" })),
        ("a model that is too long", json!({ "prompt": "p", "model": "x".repeat(129) })),
        ("files that are no list", json!({ "prompt": "p", "files": "ff_x" })),
        ("a file that is no string", json!({ "prompt": "p", "files": ["ff_x", 5] })),
        ("too many files", json!({ "prompt": "p", "files": many })),
        ("too little time", json!({ "prompt": "p", "timeout_secs": 4 })),
        ("too much time", json!({ "prompt": "p", "timeout_secs": 601 })),
        ("half a second of time", json!({ "prompt": "p", "timeout_secs": 5.5 })),
        ("time in words", json!({ "prompt": "p", "timeout_secs": "long" })),
        ("time that is true", json!({ "prompt": "p", "timeout_secs": true })),
        ("everything wrong at once", json!({ "prompt": 1, "system": 2, "effort": 3, "files": 4, "timeout_secs": [] })),
        ("an array", json!(["prompt"])),
        ("a string", json!("prompt")),
    ] {
        let answer = app.run(&app.demo_token()?, body).await?;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{title}");
        golden.add(title, &answer);
    }
    for (title, body) in
        [("nothing", ""), ("broken JSON", "{\"prompt\": \"a\",\n  oops}"), ("half of it", "{\"prompt\"")]
    {
        let request = app.http().post(app.url("/run")).bearer_auth(app.demo_token()?);
        golden.add(title, &read(request.header("content-type", "application/json").body(body)).await?);
    }
    insta::assert_snapshot!(golden);
    assert_eq!(app.ledger().await?.iter().filter(|line| line["kind"] == "run_accepted").count(), 0, "nothing ran");
    Ok(())
}

#[tokio::test]
async fn what_older_clients_send_besides_is_passed_over() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let body = json!({
        "prompt": "say: fine", "created_at": 0, "stream": true, "files": null, "system": null, "system_mode": null,
        "effort": null, "model": null, "timeout_secs": null, "": {"": []},
    });
    assert_eq!(app.run(&app.demo_token()?, body).await?.json()["result"], "fine");
    for secs in [json!(5), json!(3600), json!("5"), json!(5.0)] {
        let answer = app.run(&app.demo_token()?, json!({ "prompt": "say: fine", "timeout_secs": secs })).await?;
        assert_eq!(answer.status, StatusCode::OK, "{secs}");
    }
    let bare = app.http().post(app.url("/run")).bearer_auth(app.demo_token()?).body("{\"prompt\": \"say: fine\"}");
    assert_eq!(read(bare).await?.status, StatusCode::OK, "without a content type it is taken for JSON");
    Ok(())
}

#[tokio::test]
async fn a_file_of_nobody_and_of_somebody_else_are_not_told_apart() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let (mine, other) = (app.demo_token()?, app.mint("other").await?);
    let foreign = app.upload(&other, "secret.txt", b"secret".to_vec()).await?;
    let own = app.upload(&mine, "own.txt", b"own".to_vec()).await?;
    let unknown = format!("ff_{}", "0".repeat(26));
    let ask = async |files: Value| app.run(&mine, json!({ "prompt": "say: x", "files": files })).await;

    let answer = ask(json!([unknown])).await?;
    let mut golden = Golden::default();
    golden.add("unknown", &answer);
    insta::assert_snapshot!(golden);
    for files in [
        json!([foreign]),
        json!([own, foreign]),
        json!(["ff_"]),
        json!([""]),
        json!(["../../etc/passwd"]),
        json!([foreign.to_uppercase()]),
        json!([format!("{own} ")]),
        json!([own.replace("ff_", "ses_")]),
    ] {
        let refused = ask(files.clone()).await?;
        assert_eq!((refused.status, &refused.text), (StatusCode::NOT_FOUND, &answer.text), "{files}");
    }
    assert_eq!(ask(json!([own])).await?.status, StatusCode::OK);
    let theirs = app.run(&other, json!({ "prompt": "read: attachment-1.txt", "files": [foreign] })).await?;
    assert_eq!(theirs.json()["result"], "secret");
    Ok(())
}
