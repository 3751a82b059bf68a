//! The campaign from its first start to its judgement.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clawdforge_core::id::SessionId;
use reqwest::Method;
use serde_json::{Value, json};

use super::callers::{self, Line, SESSIONS, Service, Session, Stage};
use super::chance::Chance;
use super::check::{self, Broken, Fault};
use super::evidence::{self, Evidence, Ledger, TurnName};
use super::lives::Census;
use super::moments::{self, Moment, millis};
use super::{Options, Report, afterwards, lives};
use crate::app::{PATIENCE, Setup, TestApp, poll_pause, processes_in};

/// How long after a start a process of an earlier life may still be there.
const CLEAN_MAX: Duration = Duration::from_secs(3);

/// A start is cut once in so many.
const CUT_ONCE_IN: u64 = 5;

/// Kills between two lines of progress.
const KILLS_PER_LINE: u64 = 10;

/// Runs a campaign with the demo agent; `tell` hears of its progress.
///
/// Where the report has faults, the log and the data of the service are kept, and `tell` hears where.
///
/// # Errors
/// When the campaign could not be carried out: the service did not come up, or did not answer the operator.
pub async fn run(setup: Setup, options: Options, tell: impl Fn(String)) -> anyhow::Result<Report> {
    let setup = setup.demo();
    let app = lives::marked(&setup, 1).start().await?;
    let data_dir = app.data_dir();
    let report = campaign(setup, app, options, tell).await;
    if report.is_err() {
        // A service that did not come up has ended nothing that its predecessor left.
        lives::end(&processes_in(&data_dir));
    }
    report
}

async fn campaign(setup: Setup, app: TestApp, options: Options, tell: impl Fn(String)) -> anyhow::Result<Report> {
    let began = Instant::now();
    let chance = Chance::of(options.seed);
    let mut conductor = Conductor {
        setup,
        life: 1,
        stage: Stage::new(),
        ledger: Ledger::default(),
        report: Report::new(options),
        chance: chance.part(0),
    };
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let uuid = app.open_session(json!({})).await?;
        sessions.push(Session { id: SessionId::parse_either(&uuid)?.to_string(), uuid });
    }
    let callers = callers::start(&conductor.stage, &sessions, &chance);
    conductor.up(&app)?;
    let mut app = conductor.kills(app, &tell).await?;
    conductor.enough(&app, options.turns, true).await?;

    conductor.stage.service.send_replace(Service::Over);
    let told = callers.join_all().await.into_iter().flatten().collect();
    conductor.settle(&app).await?;
    let Conductor { ledger, mut report, .. } = conductor;
    let ended = app.stop().await?;
    ensure!(ended.success(), "the service did not stop in good order: {ended}");
    let left = app.agent_processes();
    if !left.is_empty() {
        report.faults.push(Fault::new(Broken::ProcessLeft, format!("{left:?} are there after the stop")));
        lives::end(&left);
    }
    if app.log()?.contains("panicked") {
        report.faults.push(Fault::new(Broken::Contradiction, "the service panicked; its log says where"));
    }
    let ids: Vec<String> = sessions.into_iter().map(|session| session.id).collect();
    let sessions = afterwards::look(&app.data_dir(), &ids).await?;
    let evidence = Evidence { ledger: ledger.lines, told, sessions };
    report.count(&evidence);
    report.faults.extend(check::faults(&evidence));
    report.took_secs = began.elapsed().as_secs();
    if !report.faults.is_empty() {
        tell(format!("kept for a look: {}", app.keep().display()));
    }
    Ok(report)
}

struct Conductor {
    setup: Setup,
    life: u64,
    stage: Arc<Stage>,
    ledger: Ledger,
    report: Report,
    chance: Chance,
}

impl Conductor {
    async fn kills(&mut self, mut app: TestApp, tell: &impl Fn(String)) -> anyhow::Result<TestApp> {
        let Options { kills, turns, .. } = self.report.options;
        let mut told = 0;
        while self.report.kills() < kills {
            let moment = Moment::draw(&mut self.chance);
            if moment != Moment::AfterStart {
                self.check(&app).await?;
                // The turns are spread over the kills.
                self.enough(&app, turns * self.report.kills() / kills, false).await?;
            }
            moment.come(&app, &self.stage, &mut self.chance).await;
            self.met(&app);
            self.report.held += u64::from(moments::kill(&mut app, &mut self.chance).await?);
            self.killed(moment);
            while self.chance.once_in(CUT_ONCE_IN) {
                self.life += 1;
                let after = moments::of_start(&mut self.chance);
                app.start_and_kill(lives::marked(&self.setup, self.life), after).await?;
                self.killed(Moment::DuringStart);
            }
            app = self.start(app).await?;
            if self.report.kills() / KILLS_PER_LINE > told {
                told = self.report.kills() / KILLS_PER_LINE;
                let (kills, faults) = (self.report.kills(), self.report.faults.len());
                tell(format!("{kills} kills, {} turns accepted, {faults} faults", self.ledger.accepted));
            }
        }
        self.check(&app).await?;
        Ok(app)
    }

    /// Counts what the kill that comes now leaves without a service.
    fn met(&mut self, app: &TestApp) {
        let own = lives::census(&app.data_dir(), self.life).own;
        self.report.orphaned += own;
        self.report.processes_max = self.report.processes_max.max(own);
    }

    fn killed(&mut self, moment: Moment) {
        self.stage.service.send_replace(Service::Down);
        *self.report.kills.entry(moment).or_default() += 1;
    }

    async fn start(&mut self, app: TestApp) -> anyhow::Result<TestApp> {
        self.life += 1;
        let began = Instant::now();
        let app = app.restart_as(lives::marked(&self.setup, self.life)).await?;
        self.report.start_ms_max = self.report.start_ms_max.max(millis(began));
        // Before the callers go on: what is open now was promised by an earlier life.
        self.follow(&app).await?;
        self.report.promised += self.ledger.open().len() as u64;
        self.up(&app)?;
        Ok(app)
    }

    fn up(&self, app: &TestApp) -> anyhow::Result<()> {
        let line = Line { http: app.http().clone(), base: app.url(""), bearer: app.demo_token()? };
        self.stage.service.send_replace(Service::Up(Arc::new(line)));
        Ok(())
    }

    /// After a start: nothing of an earlier life is left, and everything accepted before gets its outcome.
    async fn check(&mut self, app: &TestApp) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let Census { own, earlier: left } = lives::census(&app.data_dir(), self.life);
            self.report.processes_max = self.report.processes_max.max(own);
            if left.is_empty() {
                break;
            }
            if began.elapsed() > CLEAN_MAX {
                let what = format!("{left:?} of an earlier life are there {CLEAN_MAX:?} into life {}", self.life);
                self.report.faults.push(Fault::new(Broken::ProcessLeft, what));
                lives::end(&left);
                break;
            }
            poll_pause().await;
        }
        self.report.clean_ms_max = self.report.clean_ms_max.max(millis(began));
        self.settle(app).await
    }

    /// Waits until every turn that is accepted by now has its outcome.
    async fn settle(&mut self, app: &TestApp) -> anyhow::Result<()> {
        let began = Instant::now();
        self.follow(app).await?;
        let owed: BTreeSet<TurnName> = self.ledger.open().clone();
        while let Some(turn) = owed.iter().find(|turn| self.ledger.open().contains(*turn)) {
            if began.elapsed() > PATIENCE {
                let what = format!("{turn} has no outcome {PATIENCE:?} into life {}", self.life);
                self.report.faults.push(Fault::new(Broken::Lost, what));
                break;
            }
            poll_pause().await;
            self.follow(app).await?;
        }
        self.report.settled_ms_max = self.report.settled_ms_max.max(millis(began));
        Ok(())
    }

    /// Waits until so many turns are accepted; the ledger says so, or, where an estimate will do, the answers.
    async fn enough(&mut self, app: &TestApp, turns: u64, exactly: bool) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut before = self.ledger.accepted;
        let mut since = began;
        while self.ledger.accepted < turns && (exactly || self.stage.answers.load(Ordering::Relaxed) < turns) {
            tokio::time::timeout(PATIENCE, self.stage.answered.notified()).await.context("no turn is answered")?;
            self.follow(app).await?;
            if self.ledger.accepted > before {
                (before, since) = (self.ledger.accepted, Instant::now());
            }
            ensure!(since.elapsed() < PATIENCE, "no turn is accepted any more");
        }
        Ok(())
    }

    /// Reads what is new in the ledger, page by page.
    async fn follow(&mut self, app: &TestApp) -> anyhow::Result<()> {
        loop {
            let after = self.ledger.cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let path = format!("/admin/ledger?order=oldest&limit=1000{after}");
            let page = app.call(Method::GET, &path, &app.admin_token()?, Value::Null).await?.json();
            let lines = page["entries"].as_array().with_context(|| format!("no ledger: {page}"))?;
            for line in lines {
                self.ledger.cursor = line["seq"].as_u64();
                self.take(line)?;
            }
            if page["next_cursor"].is_null() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, line: &Value) -> anyhow::Result<()> {
        let kind = line["kind"].as_str().unwrap_or_default();
        if kind != "turn_accepted" && kind != "turn_ended" {
            return Ok(());
        }
        let turn = line["subject"].as_str().and_then(TurnName::of_subject);
        let (turn, seq) = turn.zip(line["seq"].as_u64()).with_context(|| format!("a strange line: {line}"))?;
        let outcome = line["outcome"].as_str().map(str::to_owned);
        ensure!(outcome.is_some() == (kind == "turn_ended"), "a strange line: {line}");
        self.ledger.take(evidence::Line { seq, turn, outcome });
        Ok(())
    }
}
