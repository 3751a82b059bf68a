//! One agent in folders of its own, and the turn it is given.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clawdforge_agent::{
    AcpDriver, AcpxDriver, AgentDriver, AgentLink, Choices, CloseReport, Dialect, OneShotDriver, OpenSpec, Profile,
    Prompt, Versions,
};
use clawdforge_core::agent::{AgentSignal, Exit, Failure, TurnEnd};
use clawdforge_core::run::SystemMode;
use clawdforge_process::{Spawner, TreeMark};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Longest time for anything a test waits for; far beyond what it takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long an agent may take to end when it is asked to.
pub const GRACE: Duration = Duration::from_secs(3);

/// An agent and its folders.
pub struct Bench {
    pub folder: TempDir,
    pub profile: Profile,
    pub spec: OpenSpec,
    pub spawner: Spawner,
}

/// What a turn gave.
pub struct Turn {
    /// Every signal but the last.
    pub signals: Vec<AgentSignal>,
    pub last: AgentSignal,
    pub closed: CloseReport,
}

impl Bench {
    /// With the demo agent.
    pub fn demo() -> Self {
        Self::with(demo_program())
    }

    /// With the demo agent, spoken to over the Agent Client Protocol. A volatile one forgets its
    /// conversations when its process ends.
    pub fn conversation(volatile: bool) -> Self {
        let mut bench = Self::demo();
        bench.profile.args = vec!["--acp".into()];
        bench.profile.args.extend(volatile.then(|| "--volatile".into()));
        bench.spec.model = None;
        bench
    }

    /// A link to a conversation.
    pub async fn open(&self) -> Result<Box<dyn AgentLink>, Failure> {
        self.open_choosing(Choices::default()).await
    }

    /// As [`Self::open`], with what is chosen for every conversation.
    pub async fn open_choosing(&self, choices: Choices) -> Result<Box<dyn AgentLink>, Failure> {
        soon(AcpDriver::new(self.profile.clone(), choices, self.spawner.clone()).open(self.spec.clone())).await
    }

    /// With a shell script as the agent.
    pub fn script(text: &str) -> Self {
        let mut bench = Self::demo();
        let program = bench.folder.path().join("agent.sh");
        fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        bench.profile.own_program = Some(program);
        bench
    }

    /// A driver that speaks through this script instead of acpx.
    pub fn acpx(&self, script: &str) -> AcpxDriver {
        let program = self.folder.path().join("acpx");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let acpx = Profile {
            name: "acpx".parse().unwrap(),
            own_program: Some(program),
            args: Vec::new(),
            ..self.profile.clone()
        };
        let versions = Arc::new(Versions::load(self.folder.path().join("versions.json")));
        let warm_max = Duration::from_secs(60);
        AcpxDriver::new(self.profile.clone(), Choices::default(), acpx, versions, self.spawner.clone(), warm_max)
    }

    fn with(program: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (workspace, scratch) = (folder.path().join("work"), folder.path().join("scratch"));
        fs::create_dir(&workspace).unwrap();
        fs::create_dir(&scratch).unwrap();
        let mark = folder.path().file_name().unwrap().to_string_lossy().into_owned();
        let profile = Profile {
            name: "demo".parse().unwrap(),
            dialect: Dialect::Demo,
            program: "claude".into(),
            command: None,
            own_program: Some(program),
            search_path: None,
            args: Vec::new(),
            env: BTreeMap::from([(OsString::from("PATH"), OsString::from("/usr/bin:/bin"))]),
            retries_max: 1,
            install_hint: "build it".into(),
            confinement: None,
            network: None,
            sign_in: Default::default(),
            home_files: None,
            trusts_workspace: false,
        };
        let spec = OpenSpec {
            workspace,
            scratch,
            mark: TreeMark::new(mark).unwrap(),
            model: Some("demo-large".into()),
            resume: None,
            system: None,
            system_mode: SystemMode::Append,
            effort: None,
            mode: None,
            tool_servers: Vec::new(),
            output_schema: None,
            home: None,
            app: None,
            given_up: CancellationToken::new(),
        };
        Self { folder, profile, spec, spawner: Spawner::start().unwrap() }
    }

    pub fn driver(&self) -> OneShotDriver {
        let versions = Arc::new(Versions::load(self.folder.path().join("versions.json")));
        OneShotDriver::new(self.profile.clone(), self.spawner.clone(), versions)
    }

    /// A link that was given this prompt.
    pub async fn begin(&self, prompt: &str) -> Result<Box<dyn AgentLink>, Failure> {
        let mut link = self.driver().open(self.spec.clone()).await?;
        link.begin_turn(Prompt::from(prompt)).await?;
        Ok(link)
    }

    /// A whole turn, closed.
    pub async fn turn(&self, prompt: &str) -> Turn {
        let mut link = self.begin(prompt).await.unwrap();
        let (signals, last) = to_the_end(&mut *link).await;
        let closed = soon(link.close(GRACE)).await;
        assert_eq!(closed.survivors, 0);
        self.nothing_is_left();
        Turn { signals, last, closed }
    }

    /// The answer to a prompt.
    pub async fn answer(&self, prompt: &str) -> String {
        let end = self.turn(prompt).await.end();
        assert_eq!(end.failure, None);
        end.answer.unwrap()
    }

    /// Numbers of the living processes of this agent's tree.
    pub fn alive(&self) -> Vec<String> {
        let entry = format!("{}={}", clawdforge_process::TREE_MARK_VARIABLE, self.spec.mark);
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter(|process| {
                let environ = fs::read(process.path().join("environ")).unwrap_or_default();
                environ.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes())
            })
            .map(|process| process.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Waits until the tree of a link that was dropped is gone.
    pub async fn all_gone(&self) {
        soon(async {
            while !self.alive().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until something is there: a process that is just becoming another program has no mark for a moment.
    pub async fn some_are_there(&self) {
        soon(async {
            while self.alive().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub fn nothing_is_left(&self) {
        assert_eq!(self.alive(), Vec::<String>::new());
    }
}

impl Turn {
    pub fn end(self) -> TurnEnd {
        match self.last {
            AgentSignal::TurnEnded(end) => end,
            other => panic!("the turn did not end by the agent's word: {other:?}"),
        }
    }

    pub fn exit(self) -> Exit {
        match self.last {
            AgentSignal::Exited(exit) => exit,
            other => panic!("the agent did not just exit: {other:?}"),
        }
    }
}

/// Every signal to the last one.
pub async fn to_the_end(link: &mut dyn AgentLink) -> (Vec<AgentSignal>, AgentSignal) {
    let mut signals = Vec::new();
    loop {
        match soon(link.next_signal()).await {
            last @ (AgentSignal::TurnEnded(_) | AgentSignal::Exited(_)) => return (signals, last),
            signal => signals.push(signal),
        }
    }
}

/// Waits for signals until one of them is a piece of the answer.
pub async fn first_text(link: &mut dyn AgentLink) -> String {
    loop {
        match soon(link.next_signal()).await {
            AgentSignal::Text(text) => return text,
            last @ (AgentSignal::TurnEnded(_) | AgentSignal::Exited(_)) => panic!("over without a text: {last:?}"),
            _ => {}
        }
    }
}

/// The future's value, within the deadline.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it takes too long")
}

/// Built by cargo together with this test, as an example of the package.
fn demo_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples/demo_agent");
    assert!(program.exists(), "build it first: cargo build -p clawdforge-agent --example demo_agent");
    program
}
