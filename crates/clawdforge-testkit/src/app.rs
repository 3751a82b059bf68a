//! A real service for one test: the binary in a process of its own, on a free port, with its own
//! data directory, environment and nothing else.
//!
//! The service is found by what it prints and stopped by its process id. One that is dropped is killed, and so is
//! what its agents have left: a test need not stop its service for nothing to outlive it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clawdforge_agent::acpx::socket_folder;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long anything a test waits for may take; far beyond what it should, for busy machines.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a log's end that are shown where a service did not start.
const LOG_SHOWN_BYTES_MAX: usize = 32 * 1024;

/// Name of the home in a service's folder. It is not around the data directory, as no home of agents should
/// be.
const HOME: &str = "home";

/// How a service is started.
#[derive(Debug, Clone)]
pub struct Setup {
    binary: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    config: Option<String>,
    data_dir: Option<PathBuf>,
    listen: String,
}

/// A running service.
#[derive(Debug)]
pub struct TestApp {
    setup: Setup,
    // Before the folder: once the service is killed, nobody is born in it any more.
    child: Child,
    root: Root,
    address: String,
    log: PathBuf,
    http: reqwest::Client,
}

/// How often the processes of a dropped service are looked for and killed: far more than any needs to be gone.
const KILLS_MAX: usize = 400;

/// Between two such looks.
const KILL_PAUSE: Duration = Duration::from_millis(5);

/// The folder of a service. What acpx makes outside of it, for the homes in it, goes with it, and so does every process
/// whose environment names it.
#[derive(Debug)]
struct Root(TempDir);

impl Root {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        end_marked(self.path());
        let homes = homes_below(&self.path().join("data"));
        for home in homes.into_iter().chain([self.path().join(HOME)]) {
            let sockets = socket_folder(&home);
            // Most services never call acpx. Sockets are what owners leave that were killed.
            for socket in std::fs::read_dir(&sockets).into_iter().flatten().flatten() {
                let _ = std::fs::remove_file(socket.path());
            }
            let _ = std::fs::remove_dir(sockets);
        }
    }
}

/// Kills what agents of a service that is no more have left.
fn end_marked(dir: &Path) {
    for _ in 0..KILLS_MAX {
        let left = marked_for(dir);
        if left.is_empty() {
            return;
        }
        for pid in left.into_iter().filter_map(Pid::from_raw) {
            // It may have ended a moment ago; the next look tells.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(KILL_PAUSE);
    }
}

/// The homes of agents below a data directory, by app and agent.
fn homes_below(data_dir: &Path) -> Vec<PathBuf> {
    let inner = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut homes: Vec<PathBuf> = inner(data_dir.join("homes")).into_iter().flat_map(inner).collect();
    homes.sort();
    homes
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }
}

impl Setup {
    /// The binary under test: `env!("CARGO_BIN_EXE_clawdforge")`. The environment begins empty but for
    /// `PATH`.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let env = BTreeMap::from([("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())]);
        Self {
            binary: binary.into(),
            args: Vec::new(),
            env,
            config: None,
            data_dir: None,
            listen: "127.0.0.1:0".into(),
        }
    }

    /// The binary under test.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// With the demo agent as default and a ready token.
    #[must_use]
    pub fn demo(self) -> Self {
        self.arg("--demo")
    }

    /// With a further argument of `serve`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// With a configuration file of this text.
    #[must_use]
    pub fn config(mut self, toml: impl Into<String>) -> Self {
        self.config = Some(toml.into());
        self
    }

    /// On this data directory instead of one of its own.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// At this address instead of a free port of loopback.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = address.into();
        self
    }

    /// Starts it in a fresh folder, with a home beside the data directory, and waits until it has printed its
    /// start block.
    ///
    /// # Errors
    /// With the log, when it does not start.
    pub async fn start(self) -> anyhow::Result<TestApp> {
        let root = tempfile::Builder::new().prefix("cf").tempdir()?;
        std::fs::create_dir(root.path().join(HOME))?;
        // Other users, where a service gives agents some, get as far as what is theirs.
        std::fs::set_permissions(root.path(), Permissions::from_mode(0o711))?;
        self.start_in(Root(root)).await
    }

    async fn start_in(self, root: Root) -> anyhow::Result<TestApp> {
        // Reqwest speaks plain HTTP here, but wants a TLS provider installed; a second install is refused.
        drop(rustls::crypto::ring::default_provider().install_default());
        let log = root.path().join("log");
        let mut child = spawn(&self, root.path(), &log)?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        let address = match tokio::time::timeout(PATIENCE, read_address(stdout)).await {
            Ok(Ok(address)) => address,
            other => bail!("the service did not start ({other:?}); its log ends with:\n{}", end_of(&log)?),
        };
        let http = reqwest::Client::builder().no_proxy().timeout(4 * PATIENCE).build()?;
        Ok(TestApp { setup: self, root, child, address, log, http })
    }
}

/// The end of a log; the whole of one that a long campaign wrote would bury what matters.
fn end_of(log: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(log)?;
    Ok(text[text.ceil_char_boundary(text.len().saturating_sub(LOG_SHOWN_BYTES_MAX))..].to_owned())
}

#[expect(clippy::disallowed_methods, reason = "the service under test is started as an operator starts it")]
fn spawn(setup: &Setup, root: &Path, log: &Path) -> anyhow::Result<Child> {
    let home = root.join(HOME);
    let mut command = Command::new(&setup.binary);
    command.arg("serve").arg("--listen").arg(&setup.listen).arg("--data-dir");
    command.arg(setup.data_dir.clone().unwrap_or_else(|| root.join("data")));
    if let Some(config) = &setup.config {
        let path = home.join("clawdforge.toml");
        std::fs::write(&path, config)?;
        command.arg("--config").arg(path);
    }
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    command.args(&setup.args).env_clear().env("HOME", &home).envs(&setup.env).current_dir(&home);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
    Ok(command.spawn()?)
}

/// Reads the start block to its end, for the address in it.
async fn read_address(stdout: tokio::process::ChildStdout) -> anyhow::Result<String> {
    let mut lines = BufReader::new(stdout).lines();
    let mut address = None;
    while let Some(line) = lines.next_line().await? {
        if let Some(rest) = line.trim().strip_prefix("address") {
            address = Some(rest.trim().to_owned());
        }
        // The command that works when pasted comes last.
        if line.trim_start().starts_with("curl") {
            // What it prints later goes nowhere, but must not block it.
            let mut rest = lines.into_inner();
            #[expect(clippy::disallowed_methods, reason = "the drain of a pipe ends with the service")]
            drop(tokio::spawn(async move {
                let mut sink = Vec::new();
                drop(rest.read_to_end(&mut sink).await);
            }));
            return address.context("the start block names the address");
        }
    }
    bail!("the service ended without a start block")
}

impl TestApp {
    /// The whole URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.address.trim_start_matches("http://")
    }

    /// The HTTP client of the tests.
    #[must_use]
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// The homes of agents there are below the data directory, by app and agent.
    pub fn agent_homes(&self) -> Vec<PathBuf> {
        homes_below(&self.data_dir())
    }

    /// The home the service runs in.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.root.path().join(HOME)
    }

    /// The service's process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        let raw = self.child.id().context("the service has ended")?;
        Pid::from_raw(i32::try_from(raw)?).context("a process id is not zero")
    }

    /// The admin token.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn admin_token(&self) -> anyhow::Result<String> {
        self.secret("admin-token")
    }

    /// The demo's app token.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn demo_token(&self) -> anyhow::Result<String> {
        self.secret("demo-token")
    }

    fn secret(&self, name: &str) -> anyhow::Result<String> {
        let path = self.data_dir().join(name);
        Ok(std::fs::read_to_string(&path).with_context(|| path.display().to_string())?.trim().to_owned())
    }

    /// Everything the service has logged so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// One JSON request with a bearer; no body where it is null.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn call(&self, method: Method, path: &str, bearer: &str, body: Value) -> anyhow::Result<Answer> {
        let mut request = self.http.request(method, self.url(path));
        if !bearer.is_empty() {
            request = request.bearer_auth(bearer);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        read(request).await
    }

    /// `POST /run` with a bearer.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn run(&self, bearer: &str, body: Value) -> anyhow::Result<Answer> {
        self.call(Method::POST, "/run", bearer, body).await
    }

    /// `POST /run` of the demo app with just a prompt.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn prompt(&self, prompt: &str) -> anyhow::Result<Answer> {
        self.run(&self.demo_token()?, json!({ "prompt": prompt })).await
    }

    /// Opens a session of the demo app, whose id comes back.
    ///
    /// # Errors
    /// When it is not opened.
    pub async fn open_session(&self, body: Value) -> anyhow::Result<String> {
        let answer = self.call(Method::POST, "/sessions", &self.demo_token()?, body).await?;
        anyhow::ensure!(answer.status == StatusCode::OK, "{answer:?}");
        Ok(answer.json()["session_id"].as_str().unwrap_or_default().to_owned())
    }

    /// A turn of a session of the demo app.
    ///
    /// # Errors
    /// When the service does not answer.
    pub async fn turn(&self, session: &str, prompt: &str) -> anyhow::Result<Answer> {
        let body = json!({ "prompt": prompt });
        self.call(Method::POST, &format!("/sessions/{session}/turn"), &self.demo_token()?, body).await
    }

    /// Mints a token for an app.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn mint(&self, name: &str) -> anyhow::Result<String> {
        let answer = self.call(Method::POST, "/admin/tokens", &self.admin_token()?, json!({ "name": name })).await?;
        let token = answer.json()["token"].as_str().map(str::to_owned);
        token.with_context(|| format!("no token: {answer:?}"))
    }

    /// Uploads bytes under a name and gives the file's token.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn upload(&self, bearer: &str, name: &str, bytes: Vec<u8>) -> anyhow::Result<String> {
        let part = reqwest::multipart::Part::bytes(bytes).file_name(name.to_owned());
        let form = reqwest::multipart::Form::new().part("file", part);
        let answer = read(self.http.post(self.url("/files")).bearer_auth(bearer).multipart(form)).await?;
        let token = answer.json()["file_token"].as_str().map(str::to_owned);
        token.with_context(|| format!("no file token: {answer:?}"))
    }

    /// The ledger, oldest line first (its first 1,000 lines).
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn ledger(&self) -> anyhow::Result<Vec<Value>> {
        let path = "/admin/ledger?order=oldest&limit=1000";
        let answer = self.call(Method::GET, path, &self.admin_token()?, Value::Null).await?;
        answer.json()["entries"].as_array().cloned().with_context(|| format!("no ledger: {answer:?}"))
    }

    /// The ledger once it has lines that satisfy the condition; fails after [`PATIENCE`].
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn ledger_with(&self, condition: impl Fn(&[Value]) -> bool) -> anyhow::Result<Vec<Value>> {
        let began = Instant::now();
        loop {
            let lines = self.ledger().await?;
            if condition(&lines) {
                return Ok(lines);
            }
            if began.elapsed() > PATIENCE {
                let brief: Vec<String> = lines.iter().map(brief).collect();
                bail!(
                    "the ledger did not come to what was waited for:\n{}\nlog:\n{}",
                    brief.join("\n"),
                    self.log().unwrap_or_default()
                );
            }
            poll_pause().await;
        }
    }

    /// Process ids of everything that works in a directory of a run or of a session of this service: its agents and
    /// whatever they started.
    #[must_use]
    pub fn agent_processes(&self) -> Vec<i32> {
        processes_in(&self.data_dir())
    }

    /// The same without those that only stand around a program: the launcher of a sandbox stays as two processes where
    /// the sandbox has namespaces.
    #[must_use]
    pub fn agent_programs(&self) -> Vec<i32> {
        let stands_around = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(b"__launch")
        };
        self.agent_processes().into_iter().filter(|pid| !stands_around(pid)).collect()
    }

    /// Waits until the condition holds of the agents' [programs](Self::agent_programs); fails after [`PATIENCE`].
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn wait_for_programs(&self, condition: impl Fn(&[i32]) -> bool) -> anyhow::Result<Vec<i32>> {
        self.wait_for(|| self.agent_programs(), condition).await
    }

    /// Waits until the condition holds of the agents' processes; fails after [`PATIENCE`].
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn wait_for_processes(&self, condition: impl Fn(&[i32]) -> bool) -> anyhow::Result<Vec<i32>> {
        self.wait_for(|| self.agent_processes(), condition).await
    }

    async fn wait_for(
        &self,
        look: impl Fn() -> Vec<i32>,
        condition: impl Fn(&[i32]) -> bool,
    ) -> anyhow::Result<Vec<i32>> {
        let began = Instant::now();
        loop {
            let found = look();
            if condition(&found) {
                return Ok(found);
            }
            if began.elapsed() > PATIENCE {
                bail!("processes of agents: {found:?}; log:\n{}", self.log()?);
            }
            poll_pause().await;
        }
    }

    /// Sends the service a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Waits until the service has ended.
    ///
    /// # Errors
    /// When it does not within [`PATIENCE`].
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended
            .with_context(|| format!("the service did not end; log:\n{}", self.log().unwrap_or_default()))?
            .map_err(Into::into)
    }

    /// Stops the service in good order.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.ended().await
    }

    /// Starts it again on the same home, after it has ended; killed first if it has not.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(mut self) -> anyhow::Result<Self> {
        if self.child.id().is_some() {
            self.signal(Signal::KILL)?;
            self.ended().await?;
        }
        let Self { setup, root, .. } = self;
        setup.start_in(root).await
    }

    /// Starts it again with another setup on the same home, after it has ended, and kills it that much later:
    /// most likely before it has come up.
    ///
    /// # Errors
    /// When it cannot be started at all.
    pub async fn start_and_kill(&mut self, setup: Setup, after: Duration) -> anyhow::Result<()> {
        self.setup = setup;
        self.child = spawn(&self.setup, self.root.path(), &self.log)?;
        // What it prints in the meantime fits into the pipe.
        tokio::time::sleep(after).await;
        self.child.start_kill()?;
        self.ended().await.map(drop)
    }

    /// Leaves its folder where it is, for a look at what a test found; a service that is still there is killed.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        self.root.0.disable_cleanup(true);
        self.root.path().to_owned()
    }

    /// Starts it again with another setup on the same home.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_as(mut self, setup: Setup) -> anyhow::Result<Self> {
        self.setup = setup;
        self.restart().await
    }
}

/// A ledger line in one line, for a message.
fn brief(line: &Value) -> String {
    let part = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
    [part("at"), part("kind"), part("subject"), part("outcome")].join(" ")
}

/// Sends a request and reads the answer whole.
///
/// # Errors
/// When no answer comes.
pub async fn read(request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    Ok(Answer { status, headers, text: response.text().await? })
}

/// Process ids of everything that works in a directory of a run or of a session, of a service with this data
/// directory.
#[must_use]
pub fn processes_in(dir: &Path) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // The directory may be gone already: the kernel then shows it with a mark behind.
    let works = |cwd: PathBuf| ["runs", "sessions", "hosts"].iter().any(|name| cwd.starts_with(dir.join(name)));
    pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(works)).collect()
}

/// Process ids of everything that carries the mark of a tree of the service in this folder, wherever it works: its
/// environment names a folder there.
#[must_use]
pub fn marked_for(folder: &Path) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let folder = folder.to_string_lossy();
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_marked = |pid: &i32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environ = String::from_utf8_lossy(&environ);
        environ.contains("CLAWDFORGE_TREE=") && environ.contains(folder.as_ref())
    };
    pids.filter(is_marked).collect()
}

/// Waits for a condition that offers no way to wait for it; fails after [`PATIENCE`].
///
/// # Errors
/// With what was waited for, when it does not come to that; as the condition.
pub async fn until(what: &str, is_so: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let waiting = async {
        while !is_so()? {
            poll_pause().await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, waiting).await.with_context(|| format!("still not so: {what}"))?
}

/// A pause between two looks at something that offers no way to wait for it.
pub async fn poll_pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}
