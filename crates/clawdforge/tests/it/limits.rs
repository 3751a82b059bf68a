//! How much at once, who is served next, and how long things are kept.

use std::time::Duration;

use anyhow::Context;
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::event::{Event, EventBody, TurnOutcome};
use clawdforge_core::file::File;
use clawdforge_core::id::{FileId, RequestId, RunId, SessionId, TurnId};
use clawdforge_core::session::Session;
use clawdforge_core::time::Timestamp;
use clawdforge_core::turn::{Turn, TurnState};
use clawdforge_store_sql::{Opened, SqliteOptions};
use clawdforge_testkit::app::{Answer, PATIENCE, Setup, TestApp, poll_pause};
use futures_util::future::try_join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::setup;
use crate::support::golden::Golden;
use crate::support::{memory_peak_kib, uploads_on_disk};

/// A service with this many slots and places in the queue.
fn narrow(slots: u32, queue: u32, queue_per_app: u32) -> Setup {
    let setup = setup().demo().arg("--slots").arg(slots.to_string()).arg("--queue-max").arg(queue.to_string());
    setup.arg("--queue-per-app-max").arg(queue_per_app.to_string()).arg("--drain-deadline-secs").arg("0")
}

/// Waits until so many runs were accepted.
async fn accepted(app: &TestApp, count: usize) -> anyhow::Result<()> {
    let kind = |lines: &[Value]| lines.iter().filter(|line| line["kind"] == "run_accepted").count();
    app.ledger_with(|lines| kind(lines) == count).await.map(drop)
}

#[tokio::test]
async fn a_full_queue_is_a_503_that_says_when_to_come_back() -> anyhow::Result<()> {
    let app = narrow(1, 2, 1).start().await?;
    let (other, third) = (app.mint("other").await?, app.mint("third").await?);
    let demo = app.demo_token()?;
    let hang = || json!({ "prompt": "hang" });
    let second = async {
        accepted(&app, 1).await?;
        app.run(&demo, hang()).await
    };
    let refused = async {
        accepted(&app, 2).await?;
        let own = app.run(&demo, hang()).await?;
        let full = async {
            accepted(&app, 3).await?;
            let full = app.run(&third, hang()).await?;
            // What is refused takes no place.
            assert_eq!(app.run(&third, hang()).await?.status, StatusCode::SERVICE_UNAVAILABLE);
            accepted(&app, 3).await?;
            app.signal(rustix::process::Signal::TERM)?;
            anyhow::Ok(full)
        };
        let (waited, full) = tokio::join!(app.run(&other, hang()), full);
        anyhow::Ok((own, full?, waited?))
    };
    let (first, second, refused) = tokio::join!(app.run(&demo, hang()), second, refused);
    let (own, full, third) = refused?;
    let mut golden = Golden::default();
    golden.add("the app's own queue is full", &own);
    golden.add("the queue is full", &full);
    insta::assert_snapshot!(golden);
    for answer in [first?, second?, third] {
        assert_eq!(answer.json()["code"], "interrupted", "{}", answer.text);
    }
    Ok(())
}

#[tokio::test]
async fn a_run_that_waits_too_long_for_a_slot_is_given_up() -> anyhow::Result<()> {
    let app = narrow(1, 5, 5).arg("--queue-wait-max-secs").arg("1").start().await?;
    let demo = app.demo_token()?;
    let late = async {
        accepted(&app, 1).await?;
        let late = app.run(&demo, json!({ "prompt": "say: late" })).await?;
        app.signal(rustix::process::Signal::TERM)?;
        anyhow::Ok(late)
    };
    let (late, first) = tokio::join!(late, app.prompt("hang"));
    let mut golden = Golden::default();
    golden.add("no slot in time", &late?);
    insta::assert_snapshot!(golden);
    assert_eq!(first?.json()["code"], "interrupted");
    Ok(())
}

#[tokio::test]
async fn eight_runs_at_once_share_two_slots() -> anyhow::Result<()> {
    let app = narrow(2, 100, 100).start().await?;
    let runs = try_join_all((0..8).map(|number| {
        let app = &app;
        async move { app.prompt(&format!("sleep: 100\nsay: {{\"number\": {number}}}")).await }
    }));
    tokio::pin!(runs);
    let mut most = 0;
    let answers: Vec<Answer> = loop {
        tokio::select! {
            answers = &mut runs => break answers?,
            () = poll_pause() => most = most.max(app.agent_programs().len()),
        }
    };
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.json()["result"], json!({ "number": number }), "each gets its own answer: {}", answer.text);
    }
    assert!((1..=2).contains(&most), "{most} at once");
    Ok(())
}

#[tokio::test]
async fn an_app_is_served_before_the_backlog_of_another() -> anyhow::Result<()> {
    let app = narrow(1, 100, 100).start().await?;
    let modest = app.mint("modest").await?;
    let backlog = try_join_all((0..6).map(|_| app.prompt("sleep: 300\nsay: greedy")));
    let later = async {
        accepted(&app, 6).await?;
        app.run(&modest, json!({ "prompt": "say: modest" })).await
    };
    let (backlog, later) = tokio::join!(backlog, later);
    assert_eq!(later?.json()["result"], "modest");
    assert_eq!(backlog?.len(), 6);
    let ledger = app.ledger().await?;
    let place = |kind: &str| ledger.iter().position(|line| line["kind"] == kind && line["app"] == "modest");
    let (came, done) = (place("run_accepted").unwrap(), place("run_ended").unwrap());
    let greedy =
        |lines: &[Value]| lines.iter().filter(|line| line["kind"] == "run_ended" && line["app"] == "demo").count();
    assert!(greedy(&ledger[came..done]) <= 1, "only the one that had the slot ends before: {ledger:#?}");
    assert!(greedy(&ledger[done..]) >= 1, "there was a backlog: {ledger:#?}");
    Ok(())
}

#[tokio::test]
async fn a_caller_who_gives_up_waiting_still_has_his_run_done() -> anyhow::Result<()> {
    let app = narrow(1, 5, 5).start().await?;
    let demo = app.demo_token()?;
    {
        let first = app.prompt("sleep: 500\nsay: first");
        let queued = app.run(&demo, json!({ "prompt": "say: second" }));
        let both = async { tokio::join!(first, queued) };
        tokio::select! {
            _ = both => anyhow::bail!("both ended although one had to wait"),
            all = accepted(&app, 2) => all?,
        }
    }
    let done = |line: &&Value| line["kind"] == "run_ended" && line["outcome"] == "completed";
    app.ledger_with(|lines| lines.iter().filter(done).count() == 2).await?;
    Ok(())
}

#[tokio::test]
async fn a_run_that_waited_is_given_its_whole_request() -> anyhow::Result<()> {
    let app = narrow(1, 5, 5).start().await?;
    let file = app.upload(&app.demo_token()?, "a.txt", b"attached".to_vec()).await?;
    let request = json!({ "prompt": "say: x\nsystem\nmodel\nread: attachment-1.txt", "system": "be kind",
        "system_mode": "replace", "model": "opus", "files": [file] });
    let waiting = async {
        accepted(&app, 1).await?;
        app.run(&app.demo_token()?, request).await
    };
    let (first, waited) = tokio::join!(app.prompt("sleep: 300"), waiting);
    assert_eq!(first?.status, 200);
    assert_eq!(waited?.json()["result"], "x\nreplace: be kind\nopus\nattached");
    Ok(())
}

#[tokio::test]
async fn a_long_queue_of_large_prompts_is_not_held_in_memory() -> anyhow::Result<()> {
    const WAITING: usize = 20;
    const BYTES: usize = 5_000_000;
    let app = narrow(1, 100, 100).start().await?;
    let demo = app.demo_token()?;
    let large = json!({ "prompt": "x".repeat(BYTES) });
    let before_kib = memory_peak_kib(&app)?;
    for number in 0..=WAITING {
        let body = if number == 0 { json!({ "prompt": "hang" }) } else { large.clone() };
        // Who gives up waiting leaves the run in the queue.
        tokio::select! {
            answer = app.run(&demo, body) => anyhow::bail!("answered: {answer:?}"),
            all = accepted(&app, number + 1) => all?,
        }
    }
    let grown_kib = memory_peak_kib(&app)? - before_kib;
    // What one request takes on its way in, not what all of them would.
    assert!(grown_kib < (WAITING * BYTES / 1024) as u64, "{grown_kib} KiB");
    Ok(())
}

/// The store of a service that has been stopped.
async fn store_of(app: &mut TestApp) -> anyhow::Result<Opened> {
    if app.pid().is_ok() {
        app.stop().await?;
    }
    Ok(clawdforge_store_sql::open(SqliteOptions::at(app.data_dir().join("clawdforge.sqlite"))).await?)
}

/// Lets an upload expire at another instant than it would.
async fn expire(app: &mut TestApp, token: &str, expires_at: Timestamp) -> anyhow::Result<()> {
    let opened = store_of(app).await?;
    let id: FileId = token.parse()?;
    let file = opened.store.files.file(id).await?.context("the upload is known")?;
    let writes = vec![Write::RemoveFile(id), Write::AddFile(File { expires_at, ..file })];
    opened.store.door.commit(Commit { writes, ..Commit::default() }).await?;
    Ok(opened.close().await?)
}

#[expect(clippy::disallowed_methods, reason = "the service under test has the real clock")]
fn now() -> anyhow::Result<Timestamp> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(Timestamp::from_micros(i64::try_from(since.as_micros())?))
}

#[tokio::test]
async fn a_file_that_expires_is_gone_like_one_that_never_was() -> anyhow::Result<()> {
    let mut app = setup().demo().start().await?;
    let token = app.demo_token()?;
    let file = app.upload(&token, "a.txt", b"inside".to_vec()).await?;
    expire(&mut app, &file, now()?.plus(Duration::from_secs(2))).await?;
    // The sweep at the start finds it alive, and the next is a minute away: what is tested is the look.
    let app = app.restart().await?;
    let body = json!({ "prompt": "read: attachment-1.txt", "files": [file] });
    let began = std::time::Instant::now();
    let gone = loop {
        let answer = app.run(&token, body.clone()).await?;
        if answer.status != StatusCode::OK {
            break answer;
        }
        assert!(began.elapsed() < PATIENCE, "it does not expire");
        poll_pause().await;
    };
    let unknown = format!("ff_{}", "0".repeat(26));
    let unknown = app.run(&token, json!({ "prompt": "say: x", "files": [unknown] })).await?;
    assert_eq!((gone.status, gone.text), (StatusCode::NOT_FOUND, unknown.text));
    Ok(())
}

#[tokio::test]
async fn expired_files_are_erased_and_live_ones_stay() -> anyhow::Result<()> {
    let mut app = setup().demo().start().await?;
    let token = app.demo_token()?;
    let old = app.upload(&token, "old.txt", b"old".to_vec()).await?;
    let young = app.upload(&token, "young.txt", b"young".to_vec()).await?;
    expire(&mut app, &old, now()?).await?;
    let app = app.restart().await?;
    let erased = |line: &Value| line["kind"] == "file_erased" && line["subject"] == json!(old);
    app.ledger_with(|lines| lines.iter().any(erased)).await?;
    let began = std::time::Instant::now();
    while uploads_on_disk(&app)? != [young.as_str()] {
        assert!(began.elapsed() < PATIENCE, "{:?}", uploads_on_disk(&app)?);
        poll_pause().await;
    }
    let body = json!({ "prompt": "read: attachment-1.txt", "files": [young] });
    assert_eq!(app.run(&token, body).await?.json()["result"], "young");
    Ok(())
}

/// A run of the demo app that ended at an instant.
fn ended_run(like: &Session, at: Timestamp) -> (SessionId, Commit) {
    let id = SessionId::new(at, [7; 10]);
    let turn = TurnId::new(at, [7; 10]);
    let session = Session { id, created_at: at, ..like.clone() };
    let queued = Turn {
        id: turn,
        session: id,
        index: 1,
        state: TurnState::Queued,
        request: RequestId::new(at, [7; 10]),
        queued_at: at,
        timeout: Duration::from_secs(5),
    };
    let outcome = TurnOutcome {
        answer: Some("canary".to_owned()),
        output: None,
        stop_reason: None,
        failure: None,
        stderr: String::new(),
        duration_ms: 1,
        usage: Default::default(),
        events_dropped: 0,
    };
    let event = Event { session: id, seq: 1, turn, at, body: EventBody::Ended(outcome.clone()) };
    let writes = vec![
        Write::OpenSession(session),
        Write::QueueTurn(queued, None),
        Write::AppendEvents(vec![event]),
        Write::EndTurn(turn, at, outcome),
    ];
    (id, Commit { writes, ..Commit::default() })
}

#[tokio::test]
async fn what_a_run_said_is_erased_after_the_time_to_keep_and_its_ledger_stays() -> anyhow::Result<()> {
    let mut app = setup().demo().arg("--run-retention-secs").arg("3600").start().await?;
    app.prompt("say: young").await?;
    let line = app.ledger().await?.into_iter().find(|line| line["kind"] == "run_ended").unwrap();
    let young: SessionId = line["subject"].as_str().unwrap_or_default().parse::<RunId>()?.into();
    let opened = store_of(&mut app).await?;
    let all = opened.store.sessions.runs_ended_before(now()?, 10).await?;
    let (old, commit) = ended_run(&all[0], now()?.minus(Duration::from_secs(3_660)));
    opened.store.door.commit(commit).await?;
    opened.close().await?;

    let mut app = app.restart().await?;
    let erased = |line: &Value| line["kind"] == "run_erased";
    let lines = app.ledger_with(|lines| lines.iter().any(erased)).await?;
    let subjects: Vec<&Value> = lines.iter().filter(|line| erased(line)).map(|line| &line["subject"]).collect();
    assert_eq!(subjects, [&json!(RunId::from(old).to_string())]);
    let opened = store_of(&mut app).await?;
    assert_eq!(opened.store.events.head(old).await?, 0, "erased");
    assert!(opened.store.events.head(young).await? > 0, "kept");
    assert!(lines.contains(&line), "the ledger keeps its lines");
    Ok(opened.close().await?)
}
