//! One turn of a one-shot agent: its process from the prompt to the end of its tree.

use std::collections::VecDeque;
use std::future::pending;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clawdforge_core::agent::{AgentSignal, Exit, Failure, FailureKind, TurnEnd};
use clawdforge_process::lines::Line;
use clawdforge_process::{ExitReport, Sandbox, SpawnError, SpawnSpec, Spawner, StdinMode, TreeMark};

use super::command::{Launch, prompt_input};
use super::output::{Parser, unrecognised};
use super::running::{Heard, Running};
use crate::network::Passage;
use crate::{AgentLink, CloseReport, Prompt};

/// How long an agent that gave its result may take to end by itself before it is asked to, and before a
/// failure goes out without the rest of the error stream. Claude Code takes some 100 ms, in which it
/// writes its own files.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// What a link needs to start its process.
pub(super) struct Start {
    pub(super) spawner: Spawner,
    pub(super) agent: String,
    pub(super) program: PathBuf,
    pub(super) launch: Launch,
    pub(super) workspace: PathBuf,
    pub(super) mark: TreeMark,
    pub(super) sandbox: Option<Sandbox>,
    pub(super) passage: Passage,
}

/// The link of one turn.
pub(super) struct OneShotLink {
    start: Option<Start>,
    parser: Parser,
    running: Option<Running>,
    /// Kept for the process, once there is one.
    passage: Option<Passage>,
    ready: VecDeque<AgentSignal>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Signals may come.
    Turning,
    /// The agent gave its result; its process is about to end.
    Answered,
    /// It ended without a result.
    Gone,
}

impl OneShotLink {
    pub(super) fn new(start: Start, model: String) -> Self {
        let parser = Parser::new(model);
        Self { start: Some(start), parser, running: None, passage: None, ready: VecDeque::new(), phase: Phase::Turning }
    }

    fn take_in(&mut self, line: &Line) {
        match line {
            Line::Whole(bytes) => self.ready.extend(self.parser.line(bytes)),
            Line::Oversized { bytes, head } => {
                let mut shown = format!("[a line of {bytes} bytes] ").into_bytes();
                shown.extend_from_slice(head);
                self.ready.push_back(unrecognised(&shown));
            }
        }
    }

    /// Notes where the turn stands when a signal goes out, and completes a failure.
    fn give_out(&mut self, signal: AgentSignal) -> AgentSignal {
        match signal {
            AgentSignal::TurnEnded(end) => {
                self.phase = Phase::Answered;
                let stderr = end.failure.as_ref().and(self.running.as_ref()).map(Running::stderr).unwrap_or_default();
                AgentSignal::TurnEnded(TurnEnd { stderr, ..end })
            }
            other => other,
        }
    }

    fn exited(&mut self, exit: ExitReport) -> AgentSignal {
        self.phase = Phase::Gone;
        let stderr = self.running.as_ref().map(Running::stderr).unwrap_or_default();
        AgentSignal::Exited(Exit { code: exit.code, signal: exit.signal, stderr })
    }
}

#[async_trait]
impl AgentLink for OneShotLink {
    async fn begin_turn(&mut self, prompt: Prompt) -> Result<(), Failure> {
        let Some(start) = self.start.take() else {
            return Err(Failure::new(FailureKind::Internal, "a one-shot agent takes one prompt only"));
        };
        let spec = SpawnSpec {
            program: start.program,
            args: start.launch.args,
            env: start.launch.env,
            cwd: start.workspace,
            mark: start.mark,
            stdin: StdinMode::Piped,
            sandbox: start.sandbox,
        };
        let mut tree = start.spawner.spawn(spec).await.map_err(|error| not_started(&start.agent, &error))?;
        start.passage.answer(&mut tree).await?;
        self.passage = Some(start.passage);
        self.running = Some(Running::new(tree, prompt_input(prompt.text)));
        Ok(())
    }

    fn process(&self) -> Option<String> {
        self.running.as_ref().map(Running::identity)
    }

    async fn next_signal(&mut self) -> AgentSignal {
        loop {
            if self.phase != Phase::Turning {
                return pending().await;
            }
            let Some(running) = &mut self.running else { return pending().await };
            if let Some(AgentSignal::TurnEnded(TurnEnd { failure: Some(_), .. })) = self.ready.front() {
                // With the end of the process its error stream is complete.
                running.settle(SETTLE_MAX).await;
            }
            if let Some(signal) = self.ready.pop_front() {
                return self.give_out(signal);
            }
            match running.hear().await {
                Heard::Line(line) => self.take_in(&line),
                Heard::End(exit) => return self.exited(exit),
            }
        }
    }

    async fn close(self: Box<Self>, grace: Duration) -> CloseReport {
        let Some(mut running) = self.running else { return CloseReport::default() };
        let asked_at = Instant::now();
        if self.phase == Phase::Answered {
            running.settle(SETTLE_MAX.min(grace / 2)).await;
        }
        let stderr = running.stderr();
        let report = running.into_tree().end(grace.saturating_sub(asked_at.elapsed())).await;
        CloseReport { stderr, killed: report.killed, survivors: report.survivors }
    }
}

/// The failure of a program that was found and could not be started. Paths are for the log only.
pub(crate) fn not_started(agent: &str, error: &SpawnError) -> Failure {
    tracing::warn!(agent.name = agent, error = %error, "an agent could not be started");
    let (kind, why) = match error {
        SpawnError::NotFound { .. } => (
            FailureKind::NotInstalled,
            "its program is gone; run `clawdforge doctor` on the service's machine".to_owned(),
        ),
        SpawnError::NotExecutable { source, .. } => {
            (FailureKind::StartFailed, format!("its program cannot be executed ({source}); install it anew"))
        }
        SpawnError::ArgumentsTooLong => {
            (FailureKind::StartFailed, "its arguments and environment are longer than the system takes".to_owned())
        }
        SpawnError::NoWorkingDirectory { .. } => {
            (FailureKind::StartFailed, "its working directory cannot be entered".to_owned())
        }
        SpawnError::TooManyTrees { live_max } => {
            (FailureKind::StartFailed, format!("{live_max} agents are running already; send the request again later"))
        }
        SpawnError::Sandbox { action, source } => {
            (FailureKind::StartFailed, format!("the sandbox around it could not {action} ({source})"))
        }
        SpawnError::Os { action, source } => (FailureKind::StartFailed, format!("could not {action} ({source})")),
        SpawnError::SpawnerGone => (FailureKind::Internal, "the service must be restarted".to_owned()),
    };
    Failure::new(kind, format!("{agent} could not be started: {why}"))
}
