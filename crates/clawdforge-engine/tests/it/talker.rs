//! An agent that holds conversations, and does what its prompts say.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_agent::{
    AgentDriver, AgentHost, AgentLimits, AgentLink, CloseReport, ForgetReport, Forgotten, HostSpec, Hosting,
    LinkContext, NotForked, OpenSpec, Presence, Prompt,
};
use clawdforge_core::agent::{AgentName, AgentSignal, Exit, Failure, FailureKind, TurnEnd};
use clawdforge_process::TreeMark;
use tokio::sync::Semaphore;

/// The agent. A prompt `wait` waits for a permit of `go`, `mutter` says something and waits so, `hang` for a cancel, `exit` ends the process,
/// `panic` is a bug in its driver, `rename` gives the conversation another key, `lose` loses what was before and
/// answers all the same; any other is answered with itself.
pub struct Talker {
    pub name: AgentName,
    /// Whether it can take up a conversation after its process ended.
    pub remembers: bool,
    pub limits: Mutex<AgentLimits>,
    /// Processes up to this number have died, and nobody was told yet.
    pub dead_to: AtomicUsize,
    pub go: Semaphore,
    /// What it was opened with.
    pub opened: Mutex<Vec<OpenSpec>>,
    /// What it was asked.
    pub asked: Mutex<Vec<Prompt>>,
    /// Processes there are.
    pub alive: AtomicUsize,
    /// Processes that closing it leaves behind, as it says.
    pub survivors: AtomicUsize,
    /// What it was told to forget, and whether its workspace was still there.
    pub forgotten: Mutex<Vec<(Forgotten, bool)>>,
    /// What comes of telling it to forget.
    pub memory: Mutex<Memory>,
    /// What it was asked to fork: the specifications.
    pub forked: Mutex<Vec<OpenSpec>>,
    /// What comes of asking it for a fork.
    pub forks: Mutex<Forks>,
    /// The mark of the process in which it hangs while it is to forget.
    pub forgetting_at: Mutex<Option<TreeMark>>,
}

/// What comes of asking an agent for a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forks {
    /// One with a key of its own.
    Made,
    NotOffered,
    Unknown,
    /// Its driver has no way to ask.
    NoWay,
    /// It ends instead.
    Broken,
    /// It waits for a permit of `go`, and then makes one.
    Waits,
}

/// What comes of telling an agent to forget.
#[derive(Debug, Clone, Copy)]
pub enum Memory {
    /// It keeps the first conversation it was ever told to forget, so many times.
    KeepsFirst(usize),
    /// It has no way to erase what it keeps.
    CannotForget,
    /// A bug in its driver.
    Panics,
    /// It does not answer until it is given up.
    Hangs,
}

impl Talker {
    pub fn new(remembers: bool) -> Arc<Self> {
        Arc::new(Self {
            name: "talker".parse().unwrap(),
            remembers,
            limits: Mutex::default(),
            dead_to: AtomicUsize::new(0),
            go: Semaphore::new(0),
            opened: Mutex::default(),
            asked: Mutex::default(),
            alive: AtomicUsize::new(0),
            survivors: AtomicUsize::new(0),
            forgotten: Mutex::default(),
            memory: Mutex::new(Memory::KeepsFirst(0)),
            forked: Mutex::default(),
            forks: Mutex::new(Forks::Made),
            forgetting_at: Mutex::default(),
        })
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|prompt| prompt.text.clone()).collect()
    }

    pub fn opens(&self) -> usize {
        self.opened.lock().unwrap().len()
    }

    fn closed(&self) -> CloseReport {
        CloseReport { survivors: self.survivors.load(Ordering::SeqCst), ..CloseReport::default() }
    }

    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}

/// The driver: the talker is looked at while the engine has it.
pub struct TalkerDriver(pub Arc<Talker>);

#[async_trait]
impl AgentDriver for TalkerDriver {
    fn name(&self) -> &AgentName {
        &self.0.name
    }

    fn presence(&self) -> Presence {
        Presence { program: None, version: None }
    }

    fn limits(&self) -> AgentLimits {
        *self.0.limits.lock().unwrap()
    }

    fn check(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn open(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, Failure> {
        let talker = Arc::clone(&self.0);
        let resumed = spec.resume.is_some() && talker.remembers;
        let number = {
            let mut opened = talker.opened.lock().unwrap();
            opened.push(spec);
            opened.len()
        };
        talker.alive.fetch_add(1, Ordering::SeqCst);
        let key = Some(format!("key-{number}"));
        Ok(Box::new(TalkerLink { talker, resumed, number, key, turn: Turn::None, ready: VecDeque::new(), gone: false }))
    }

    fn cannot_fork(&self) -> Option<&'static str> {
        (*self.0.forks.lock().unwrap() == Forks::NoWay).then_some("there is no way")
    }

    async fn fork(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, NotForked> {
        let talker = Arc::clone(&self.0);
        let (forks, given_up) = (*talker.forks.lock().unwrap(), spec.given_up.clone());
        let number = {
            let mut forked = talker.forked.lock().unwrap();
            forked.push(spec);
            forked.len()
        };
        let failed = |kind, message: &str| Err(NotForked::Failed(Failure::new(kind, message)));
        match forks {
            Forks::Made => {}
            Forks::Waits => tokio::select! {
                permit = talker.go.acquire() => permit.unwrap().forget(),
                () = given_up.cancelled() => return failed(FailureKind::Interrupted, "it was given up"),
            },
            Forks::NotOffered | Forks::NoWay => return Err(NotForked::NotOffered),
            Forks::Unknown => return Err(NotForked::Unknown),
            Forks::Broken => return failed(FailureKind::StartFailed, "it ended"),
        }
        talker.alive.fetch_add(1, Ordering::SeqCst);
        let key = Some(format!("fork-{number}"));
        let ready = VecDeque::new();
        Ok(Box::new(TalkerLink { talker, resumed: true, number, key, turn: Turn::None, ready, gone: false }))
    }

    fn hosting(&self) -> Option<&dyn Hosting> {
        Some(self)
    }

    async fn forget(&self, forgotten: Vec<Forgotten>, place: HostSpec) -> ForgetReport {
        let marks: Vec<TreeMark> = forgotten.iter().map(|one| one.mark.clone()).collect();
        let with_folders = forgotten.into_iter().map(|forgotten| {
            let is_there = forgotten.workspace.is_dir();
            (forgotten, is_there)
        });
        let times_told = {
            let mut all = self.0.forgotten.lock().unwrap();
            all.extend(with_folders);
            let first = all.first().map(|(first, _)| first.mark.clone()).filter(|first| marks.contains(first));
            first.map(|first| (all.iter().filter(|(one, _)| one.mark == first).count(), first))
        };
        let memory = *self.0.memory.lock().unwrap();
        let left = match memory {
            Memory::KeepsFirst(times) => {
                let kept = times_told.filter(|(told, _)| *told <= times);
                kept.into_iter().map(|(_, first)| first).collect()
            }
            Memory::CannotForget => return ForgetReport { kept: marks, ..ForgetReport::default() },
            Memory::Panics => panic!("a bug in a driver"),
            Memory::Hangs => {
                self.0.forgetting_at.lock().unwrap().replace(place.mark.clone());
                place.given_up.cancelled().await;
                marks
            }
        };
        ForgetReport { left, ..ForgetReport::default() }
    }
}

/// A process that conversations share.
struct TalkerHost(Arc<Talker>);

#[async_trait]
impl Hosting for TalkerDriver {
    async fn start(&self, _: HostSpec) -> Result<Box<dyn AgentHost>, Failure> {
        Ok(Box::new(TalkerHost(Arc::clone(&self.0))))
    }
}

#[async_trait]
impl AgentHost for TalkerHost {
    async fn open(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, Failure> {
        TalkerDriver(Arc::clone(&self.0)).open(spec).await
    }

    fn process(&self) -> String {
        "1:1:not-a-boot".to_owned()
    }

    fn ends_conversations(&self) -> bool {
        true
    }

    async fn takes_in(&self) -> bool {
        true
    }

    async fn close(&self, _: Duration) -> CloseReport {
        self.0.closed()
    }
}

enum Turn {
    None,
    Waits,
    Hangs,
    Panics,
}

struct TalkerLink {
    talker: Arc<Talker>,
    resumed: bool,
    number: usize,
    key: Option<String>,
    turn: Turn,
    ready: VecDeque<AgentSignal>,
    gone: bool,
}

impl Drop for TalkerLink {
    fn drop(&mut self) {
        self.talker.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl TalkerLink {
    fn end(&mut self, answer: &str, stop_reason: &str) {
        let (answer, stop_reason) = (Some(answer.to_owned()), Some(stop_reason.to_owned()));
        self.turn = Turn::None;
        self.ready.push_back(AgentSignal::TurnEnded(TurnEnd { answer, stop_reason, ..TurnEnd::default() }));
    }
}

#[async_trait]
impl AgentLink for TalkerLink {
    async fn begin_turn(&mut self, prompt: Prompt) -> Result<(), Failure> {
        let text = prompt.text.clone();
        self.talker.asked.lock().unwrap().push(prompt);
        match text.as_str() {
            "wait" => self.turn = Turn::Waits,
            "mutter" => {
                self.ready.push_back(AgentSignal::Text(text));
                self.turn = Turn::Waits;
            }
            "hang" => self.turn = Turn::Hangs,
            "panic" => self.turn = Turn::Panics,
            "lose" => {
                (self.key, self.gone) = (None, true);
                self.ready.push_back(AgentSignal::ContextReset);
                self.end(&text, "end_turn");
            }
            "rename" => {
                self.key = Some(format!("renamed-{}", self.number));
                self.end(&text, "end_turn");
            }
            "exit" => {
                self.gone = true;
                self.ready.push_back(AgentSignal::Exited(Exit { code: Some(1), ..Exit::default() }));
            }
            text => {
                self.ready.push_back(AgentSignal::Text(text.to_owned()));
                self.end(text, "end_turn");
            }
        }
        Ok(())
    }

    fn cancel_turn(&mut self) {
        self.ready.clear();
        self.end("", "cancelled");
    }

    fn context(&self) -> LinkContext {
        if self.resumed { LinkContext::Resumed } else { LinkContext::Fresh }
    }

    fn resume_key(&self) -> Option<String> {
        self.key.clone()
    }

    fn is_usable(&self) -> bool {
        !self.gone && self.number > self.talker.dead_to.load(Ordering::SeqCst)
    }

    fn process(&self) -> Option<String> {
        Some(format!("{}:1:not-a-boot", self.number))
    }

    async fn next_signal(&mut self) -> AgentSignal {
        if let Some(signal) = self.ready.pop_front() {
            return signal;
        }
        match self.turn {
            Turn::Waits => {
                self.talker.go.acquire().await.unwrap().forget();
                self.end("waited", "end_turn");
                self.ready.pop_front().unwrap()
            }
            Turn::Panics => panic!("a bug in a driver"),
            Turn::None | Turn::Hangs => std::future::pending().await,
        }
    }

    async fn close(self: Box<Self>, _: Duration) -> CloseReport {
        self.talker.closed()
    }
}
