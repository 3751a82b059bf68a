//! `/v1` by the Rust SDK and by the command line, also over connections that do not last.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use clawdforge_client::shapes::{SessionChanges, SessionRequest, Token};
use clawdforge_client::{
    Client, ClientError, EventSource, EventStream, MintRequest, PageQuery, RunRequest, TurnRequest,
};
use clawdforge_testkit::app::{PATIENCE, TestApp};
use clawdforge_testkit::chaos_proxy::{ChaosProxy, Fault};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::setup;
use crate::support::{cli, command, stdout, uploads_on_disk};

/// Shorter than a heartbeat, for something comes all the time here.
const SILENCE_MAX: Duration = Duration::from_millis(500);

fn client(app: &TestApp, address: SocketAddr) -> anyhow::Result<Client> {
    let builder = Client::builder(format!("http://{address}")).token(app.demo_token()?);
    Ok(builder.stream_silence(SILENCE_MAX).stream_pause(Duration::from_millis(10)).build()?)
}

fn client_of(app: &TestApp) -> anyhow::Result<Client> {
    client(app, app.authority().parse()?)
}

/// Whoever begins to follow hears at once where the very first connection fails, so that is tried again here.
async fn first_connection(client: &Client, session: &str) -> anyhow::Result<EventStream> {
    for _ in 0..10 {
        if let Ok(stream) = client.follow_session(session, 0).await {
            return Ok(stream);
        }
    }
    anyhow::bail!("no connection held for the head of an answer")
}

/// The service behind a relay whose connections do not last.
async fn unreliable(app: &TestApp) -> anyhow::Result<(ChaosProxy, Client)> {
    let faults = vec![
        (900, Fault::Cut),
        (1_300, Fault::Reset),
        (0, Fault::Cut),
        (1_100, Fault::Stall),
        (5_000, Fault::Cut),
        (350, Fault::Reset),
    ];
    let proxy = ChaosProxy::start(app.authority().parse()?, faults).await?;
    let client = client(app, proxy.address())?;
    Ok((proxy, client))
}

/// So many tool calls, each an event and its answer another, and a last word.
fn busy_prompt(calls: usize) -> String {
    let calls: String = (0..calls).map(|call| format!("use tool: T {{\"n\": {call}}}\nsleep: 2\n")).collect();
    format!("{calls}say: done")
}

fn run(prompt: &str) -> RunRequest {
    RunRequest { prompt: prompt.to_owned(), ..RunRequest::default() }
}

fn turn(prompt: &str) -> TurnRequest {
    TurnRequest { prompt: prompt.to_owned(), ..TurnRequest::default() }
}

/// All numbers that come, and the answer's text.
async fn rest(mut stream: EventStream) -> anyhow::Result<(Vec<u64>, String)> {
    let (mut seen, mut answer) = (Vec::new(), String::new());
    let all = async {
        while let Some(event) = stream.next().await? {
            seen.push(event.seq);
            answer.push_str(event.text().unwrap_or_default());
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, all).await??;
    Ok((seen, answer))
}

#[tokio::test]
async fn a_run_is_streamed_over_connections_that_break_and_made_once() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let (proxy, client) = unreliable(&app).await?;
    let stream = client.stream_run(&run(&busy_prompt(40)), Some("once")).await?;
    let EventSource::Run(id) = stream.source().clone() else { panic!("{stream:?}") };
    let (seen, answer) = rest(stream).await?;
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    assert!(seen.len() > 80 && answer.ends_with("done"), "{} events, {answer:?}", seen.len());
    assert!(proxy.connections() > 5, "only {} connections", proxy.connections());

    let direct = client_of(&app)?;
    let again = direct.start_run(&run(&busy_prompt(40)), Some("once")).await?;
    assert_eq!((again.id.as_str(), again.progress.outcome.as_deref()), (id.as_str(), Some("completed")));
    assert_eq!(direct.list_runs(&PageQuery::default()).await?.data.len(), 1);
    let behind = rest(direct.follow_run(&id, seen.len() as u64).await?).await?;
    assert_eq!(behind.0, Vec::<u64>::new(), "there is nothing behind the end, and that is known");
    Ok(())
}

#[tokio::test]
async fn a_session_is_followed_over_connections_that_break_until_it_is_closed() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let (proxy, follower) = unreliable(&app).await?;
    let client = client_of(&app)?;
    let session = client.open_v1_session(&SessionRequest::default(), None).await?;
    let stream = first_connection(&follower, &session.id).await?;
    let turns = async {
        for _ in 0..2 {
            rest(client.stream_turn(&session.id, &turn(&busy_prompt(30)), None).await?).await?;
        }
        let waiting = client.start_turn(&session.id, &turn("hang"), None).await?;
        client.cancel_turn(&session.id, &waiting.id).await?;
        let (seen, _) = rest(client.follow_turn(&session.id, &waiting.id, 0).await?).await?;
        let ended = client.get_turn(&session.id, &waiting.id).await?;
        assert_eq!(ended.progress.outcome.as_deref(), Some("cancelled"));
        client.close_v1_session(&session.id).await?;
        anyhow::Ok(seen)
    };
    let (followed, last) = tokio::join!(rest(stream), turns);
    let (seen, last) = (followed?.0, last?);
    assert_eq!(seen, (1..=*last.last().context("it was told")?).collect::<Vec<_>>());
    assert!(proxy.connections() > 5, "only {} connections", proxy.connections());
    let page = PageQuery { limit: Some(500), ..PageQuery::default() };
    let kept = client.session_events(&session.id, 0, &page).await?.data;
    assert_eq!(kept.len(), seen.len());
    assert_eq!(client.list_turns(&session.id, &PageQuery::default()).await?.data.len(), 3);
    assert_eq!(client.usage(None, None).await?.turns, 3);
    Ok(())
}

#[tokio::test]
async fn a_stream_goes_on_over_a_kill_and_a_restart_of_the_service() -> anyhow::Result<()> {
    // An address that no other test binds or calls from, so that the port is still free for the second start.
    let address = std::net::TcpListener::bind("127.0.0.2:0")?.local_addr()?;
    let app = setup().demo().listen(address.to_string()).start().await?;
    let client = Client::builder(format!("http://{address}")).token(app.demo_token()?).build()?;
    let session = client.open_v1_session(&SessionRequest::default(), None).await?.id;
    rest(client.stream_turn(&session, &turn("say: one"), None).await?).await?;
    let stream = client.follow_session(&session, 0).await?;
    let restarted = async {
        let app = app.restart().await?;
        rest(client.stream_turn(&session, &turn("say: two"), None).await?).await?;
        client.close_v1_session(&session).await?;
        anyhow::Ok(app)
    };
    let (followed, restarted) = tokio::join!(rest(stream), restarted);
    let ((seen, answer), _app) = (followed?, restarted?);
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    assert_eq!(answer, "onetwo");
    Ok(())
}

#[tokio::test]
async fn the_command_line_streams_a_run_and_ends_as_it_did() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let streamed = cli(&app, &["run", "--stream", "think: hm\nuse tool: Read {\"path\": \"x\"}\nsay: plum"]).await?;
    let told = String::from_utf8_lossy(&streamed.stderr).into_owned();
    assert!(stdout(&streamed).ends_with("plum\n"), "{streamed:?}");
    assert!(told.starts_with("hm\n") && told.contains("· Read {\"path\":\"x\"}\n"), "{told}");
    let failed = cli(&app, &["run", "--stream", "api error: 429"]).await?;
    assert_eq!(failed.status.code(), Some(5), "{failed:?}");
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    let failure: Value = serde_json::from_str(told.lines().last().unwrap_or_default()).context(told.clone())?;
    assert_eq!(failure["code"], "agent_rate_limited");

    let id = stdout(&cli(&app, &["session", "new"]).await?).trim().to_owned();
    cli(&app, &["session", "turn", &id, "say: pear"]).await?;
    let events = stdout(&cli(&app, &["events", &id]).await?);
    let kinds: Vec<Value> = events
        .lines()
        .map(|line| Ok(serde_json::from_str::<Value>(line)?["type"].take()))
        .collect::<anyhow::Result<_>>()?;
    assert_eq!((kinds.first(), kinds.last()), (Some(&"prompt".into()), Some(&"ended".into())), "{events}");
    let rest = stdout(&cli(&app, &["events", &id, "--after", &(kinds.len() - 1).to_string()]).await?);
    assert_eq!(rest.lines().count(), 1, "{rest}");
    Ok(())
}

#[tokio::test]
async fn an_interrupted_run_goes_on_and_is_followed_and_cancelled_by_its_id() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let mut command = command(&app, &["run", "--stream", "say: half\nsleep: 50\nhang"])?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    #[expect(clippy::disallowed_methods, reason = "the client under test is started as a person starts it")]
    let mut child = command.spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id().context("it runs")?)?).context("a process id is not zero")?;
    let mut answer = BufReader::new(child.stdout.take().context("stdout is a pipe")?);
    let mut begun = [0; 4];
    tokio::time::timeout(PATIENCE, answer.read_exact(&mut begun)).await??;
    assert_eq!(&begun, b"half");
    kill_process(pid, Signal::INT)?;
    let mut told = BufReader::new(child.stderr.take().context("stderr is a pipe")?).lines();
    let mut id = None;
    while let Some(line) = tokio::time::timeout(PATIENCE, told.next_line()).await?? {
        id = id.or(line.split(' ').find(|word| word.starts_with("run_")).map(str::to_owned));
    }
    assert_eq!(tokio::time::timeout(PATIENCE, child.wait()).await??.code(), Some(130));
    let id = id.context("it names the run")?;

    let run: Value = serde_json::from_str(&stdout(&cli(&app, &["runs", "get", &id]).await?))?;
    assert_eq!(run["state"], "running");
    let so_far = stdout(&cli(&app, &["events", &id]).await?);
    assert!(so_far.contains("half") && !so_far.contains("\"ended\""), "{so_far}");
    let cancelled: Value = serde_json::from_str(&stdout(&cli(&app, &["runs", "cancel", &id]).await?))?;
    assert!(cancelled["cancel_asked_at"].is_string(), "{cancelled}");
    let followed = stdout(&cli(&app, &["events", &id, "--follow"]).await?);
    let end: Value = serde_json::from_str(followed.lines().last().unwrap_or_default())?;
    assert_eq!((&end["type"], &end["failure"]["kind"]), (&"ended".into(), &"cancelled".into()));
    let listed: Value = serde_json::from_str(&stdout(&cli(&app, &["runs", "list", "--limit", "1"]).await?))?;
    assert_eq!((&listed["data"][0]["id"], &listed["data"][0]["outcome"]), (&id.into(), &"cancelled".into()));
    assert_eq!(cli(&app, &["runs", "cancel", "run_01m8j9p30bf0es9ar7nd5hjkgn"]).await?.status.code(), Some(4));
    Ok(())
}

#[tokio::test]
async fn a_session_is_changed_and_its_next_turns_go_by_it() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let id = stdout(&cli(&app, &["session", "new", "--effort", "low"]).await?).trim().to_owned();
    let told = async |prompt: &str| anyhow::Ok(stdout(&cli(&app, &["session", "turn", &id, prompt]).await?));
    for (args, mode) in [(["--mode", "plan"], "plan\n"), (["--clear", "mode"], "none\n")] {
        let args = [&["session", "set", &id], &args[..]].concat();
        let changed: Value = serde_json::from_str(&stdout(&cli(&app, &args).await?))?;
        assert_eq!(changed["effort"], "low", "{changed}");
        assert_eq!(told("mode").await?, mode);
    }
    let client = client_of(&app)?;
    let changes = SessionChanges { model: Some(Some("large".to_owned())), effort: Some(None), ..Default::default() };
    let changed = client.change_session(&id, &changes).await?;
    assert_eq!((changed.model.as_deref(), changed.effort.as_deref()), (Some("large"), None));
    assert_eq!(told("model").await?, "large\n");
    client.close_v1_session(&id).await?;
    let refused = client.change_session(&id, &changes).await;
    assert_eq!(refused.map_err(|error| error.code().map(str::to_owned)), Err(Some("session_closed".to_owned())));
    assert_eq!(cli(&app, &["session", "set", &id, "--clear", "model"]).await?.status.code(), Some(4));
    Ok(())
}

#[tokio::test]
async fn an_operator_lets_an_app_in_looks_at_its_token_and_revokes_it() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let operator = Client::builder(app.url("")).admin_token(app.admin_token()?).build()?;
    let wish = MintRequest { name: "kitchen".to_owned(), mcp_servers: Some("none".to_owned()), ..Default::default() };
    let minted = operator.mint_v1_token(&wish).await?;
    let kitchen = Client::builder(app.url("")).token(minted.secret).build()?;
    assert_eq!(kitchen.list_runs(&PageQuery::default()).await?.data, []);
    let shown: Token = serde_json::from_str(&stdout(&cli(&app, &["token", "get", "kitchen"]).await?))?;
    assert_eq!((&shown, shown.mcp_servers.as_str()), (&minted.token, "none"));
    let first: Value = serde_json::from_str(&stdout(&cli(&app, &["token", "list", "--limit", "1"]).await?))?;
    let cursor = first["next_cursor"].as_str().context("there is a second page")?.to_owned();
    let rest = operator.list_v1_tokens(&PageQuery { cursor: Some(cursor), limit: None }).await?;
    assert_eq!((&first["data"][0]["name"], rest.data), (&"demo".into(), vec![minted.token]));
    let twice = operator.mint_v1_token(&wish).await.err();
    assert_eq!(twice.as_ref().and_then(ClientError::code), Some("name_taken"));
    operator.revoke_v1_token("kitchen").await?;
    assert_eq!(kitchen.list_runs(&PageQuery::default()).await.err().and_then(|error| error.status()), Some(401));
    let gone = operator.revoke_v1_token("kitchen").await.err();
    assert_eq!(gone.as_ref().and_then(ClientError::code), Some("not_found"));
    assert_eq!(cli(&app, &["token", "get", "kitchen"]).await?.status.code(), Some(4));
    Ok(())
}

#[tokio::test]
async fn an_upload_with_a_key_is_one_file_whoever_sends_it_again() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let path = app.home().join("note.txt");
    std::fs::write(&path, "plum")?;
    let client = client_of(&app)?;
    let file = client.upload_v1_path(&path, None, Some("once")).await?;
    let args = ["upload", &path.display().to_string(), "--idempotency-key", "once"];
    let again: Value = serde_json::from_str(&stdout(&cli(&app, &args).await?))?;
    assert_eq!(again, serde_json::to_value(&file)?);
    assert_eq!(uploads_on_disk(&app)?, [file.id.as_str()]);
    let prompt = "read: attachments/turn-1/attachment-1.txt";
    let id = stdout(&cli(&app, &["session", "new"]).await?).trim().to_owned();
    assert_eq!(stdout(&cli(&app, &["session", "turn", &id, prompt, "--files", &file.id]).await?), "plum\n");
    std::fs::write(&path, "pear")?;
    let other = client.upload_v1_path(&path, None, Some("once")).await.err();
    assert_eq!(other.as_ref().and_then(ClientError::code), Some("idempotency_key_reused"));
    assert_eq!(cli(&app, &args).await?.status.code(), Some(4));
    Ok(())
}
