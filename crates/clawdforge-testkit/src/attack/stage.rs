//! A service with two apps, everything that is aimed at, and the attacker's answers.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clawdforge_core::isolation::Isolation;
use clawdforge_process::sandbox::{Meeting, Outcome};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::rows::{ALL, How, Row};
use super::shell::Shell;
use super::table::{Line, Report};
use super::{Ground, expected};
use crate::app::{PATIENCE, Setup, TestApp, poll_pause};

/// The first of the users of agents, where they get some: beyond those of any other test.
const USERS_FIRST: u32 = 30_000;

/// Users of the agents of one suite.
const USERS: u32 = 10;

/// Suites that have users of their own: a container may have no users beyond the 65,536th.
const SUITES_MAX: u32 = 3_000;

/// What a secret begins with, so that it is recognised in a log.
const SECRET: &str = "cf-canary";

/// What a workspace may take: half of what the attacker writes, and far more than all else that is left in one.
const WORKSPACE_BYTES_MAX: &str = "32MiB";

/// The row that says whether a process is left behind.
const SURVIVOR: &str = "outlive_session";

/// Before the answer of each row.
const HEADING: &str = "row ";

/// A hole that is made on purpose. With one, nothing is taken that is not endless: what is tried about that says nothing
/// about the hole, and takes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// As it should be.
    None,
    /// `isolation_read` names a folder in which an operator keeps a copy of what the service holds.
    ReadableBackup,
    /// What comes of it is held against more than the level promises.
    Overrated,
}

/// Runs all rows on a ground; `None` where this machine does not let the service make namespaces.
///
/// # Errors
/// When the service does not start, or the stage cannot be set.
pub async fn run(setup: Setup, ground: Ground, weakness: Weakness) -> anyhow::Result<Option<Report>> {
    staged(setup, ground, weakness, None).await
}

/// The same by the shell of another agent, without what is not endless.
///
/// # Errors
/// As [`run`].
pub async fn run_in(shell: Shell, setup: Setup, ground: Ground) -> anyhow::Result<Option<Report>> {
    staged(setup, ground, Weakness::None, Some(shell)).await
}

async fn staged(
    setup: Setup,
    ground: Ground,
    weakness: Weakness,
    shell: Option<Shell>,
) -> anyhow::Result<Option<Report>> {
    let props = Props::make(weakness)?;
    if let Some(shell) = &shell {
        shell.bring_along(setup.binary(), &props.dir.path().join("programs"))?;
    }
    let app = match props.given_to(setup, ground, weakness).start().await {
        Ok(app) => app,
        Err(error)
            if ground.level == Isolation::Namespaces
                && error.to_string().contains("the sandbox could not make its") =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    Stage::set(app, props, weakness, shell).await?.play(ground).await.map(Some)
}

/// What is aimed at outside of the service. Gone when dropped.
struct Props {
    dir: TempDir,
    /// A folder in `/tmp` that everybody may write.
    shared: TempDir,
    abstract_name: String,
    meeting: Meeting,
    /// When the secrets were made, in seconds of the clock.
    since: i64,
    loopback: TcpListener,
    _listening: (UnixListener, UnixListener, UdpSocket),
    secrets: BTreeMap<&'static str, String>,
}

impl Props {
    fn make(weakness: Weakness) -> anyhow::Result<Self> {
        let open_folder = || -> anyhow::Result<TempDir> {
            let dir = tempfile::Builder::new().prefix("cf-attack").tempdir_in("/tmp")?;
            fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
            Ok(dir)
        };
        let (dir, shared) = (open_folder()?, open_folder()?);
        fs::set_permissions(shared.path(), Permissions::from_mode(0o777))?;
        let name = dir.path().file_name().context("it has a name")?.to_string_lossy().into_owned();
        let secrets: BTreeMap<_, _> =
            ["environment", "database", "login"].into_iter().map(|of| (of, format!("{SECRET}-{of}-{name}"))).collect();
        let programs = dir.path().join("programs");
        fs::create_dir(&programs)?;
        let cat = programs.join("cat");
        fs::copy("/bin/cat", &cat)?;
        for (path, mode) in [(&programs, 0o755), (&cat, 0o4755)] {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        if weakness == Weakness::ReadableBackup {
            let backup = dir.path().join("backup");
            fs::create_dir(&backup)?;
            let copy = backup.join("clawdforge.sqlite");
            fs::write(&copy, &secrets["database"])?;
            for (path, mode) in [(&backup, 0o755), (&copy, 0o644)] {
                fs::set_permissions(path, Permissions::from_mode(mode))?;
            }
        }
        let abstract_name = format!("clawdforge-{name}");
        let socket = dir.path().join("socket");
        let loopback = TcpListener::bind("127.0.0.1:0")?;
        let listening = (
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(&abstract_name)?)?,
            UnixListener::bind(&socket)?,
            UdpSocket::bind(loopback.local_addr()?)?,
        );
        fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        let since = fs::metadata(&cat)?.ctime();
        let meeting = Meeting::make("stage");
        Ok(Self { dir, shared, abstract_name, meeting, since, loopback, _listening: listening, secrets })
    }

    fn given_to(&self, setup: Setup, ground: Ground, weakness: Weakness) -> Setup {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let read = match weakness {
            Weakness::None | Weakness::Overrated => at("programs"),
            Weakness::ReadableBackup => format!("{},{}", at("programs"), at("backup")),
        };
        let setup = setup
            .demo()
            .arg(format!("--isolation-mode={}", ground.level))
            .arg(format!("--isolation-require={}", ground.level))
            .arg(format!("--isolation-read={read}"))
            .arg(format!("--workspace-bytes-max={WORKSPACE_BYTES_MAX}"))
            .env("DATABASE_PASSWORD", self.secrets["environment"].clone())
            // Loaded already, so nothing changes for the service.
            .env("LD_PRELOAD", "libc.so.6")
            .env("NODE_OPTIONS", "--no-warnings");
        let setup = if ground.users { setup.arg(format!("--isolation-users={}", users())) } else { setup };
        if ground.level == Isolation::Off && ground.root { setup.arg("--isolation-off-as-root") } else { setup }
    }
}

pub(super) struct Stage {
    pub(super) app: TestApp,
    /// The attacker's token; app A is the demo's.
    pub(super) attacker: String,
    /// App A's session, which is warm.
    pub(super) session: String,
    /// What the names in the rows' prompts stand for.
    names: BTreeMap<&'static str, String>,
    props: Props,
    /// Whether what is not endless is taken as well.
    besieges: bool,
    /// The attacker's, where it is not the demo agent.
    shell: Option<Shell>,
}

impl Stage {
    async fn set(app: TestApp, props: Props, weakness: Weakness, shell: Option<Shell>) -> anyhow::Result<Self> {
        let (owner, attacker) = (app.demo_token()?, app.mint("attacker").await?);
        let data = app.data_dir().canonicalize()?;
        // App A: a session that is warm, with a secret in its prompt and its workspace, an upload, a transcript, and the
        // service's own login.
        let session = app.open_session(json!({})).await?;
        let secret = &props.secrets["database"];
        let turn = app.turn(&session, &format!("say: {secret}")).await?;
        ensure!(turn.json()["ok"] == true, "{turn:?}");
        app.upload(&owner, "secret.txt", secret.clone().into_bytes()).await?;
        let workspace = the_entry(&data.join("sessions"))?.join("work");
        write_as_owner(&workspace, "secret", secret)?;
        let upload = the_entry(&data.join("files"))?;
        let victim = *app.wait_for_programs(|found| found.len() == 1).await?.first().context("A's agent is warm")?;
        let home_a = PathBuf::from(home(&app, &owner).await?);
        let home_b = match &shell {
            Some(shell) => PathBuf::from(shell.said(&app, &attacker, "env: HOME").await?),
            None => PathBuf::from(home(&app, &attacker).await?),
        };
        write_as_owner(&home_a, "transcript", "what A was told")?;
        write_as_owner(&app.home(), ".login.json", &props.secrets["login"])?;

        let shown = |path: &Path| path.display().to_string();
        let dir = props.dir.path();
        let service = app.pid()?.as_raw_nonzero().to_string();
        let places = [
            data.clone(),
            app.home(),
            dir.join("backup"),
            home_b.clone(),
            PathBuf::from(format!("/proc/{service}")),
            PathBuf::from(format!("/proc/{victim}")),
        ];
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let port = app.authority().rsplit_once(':').context("the address has a port")?.1.to_owned();
        let admin = app.admin_token()?;
        let secrets = [&*props.secrets["environment"], &props.secrets["database"], &props.secrets["login"], &admin];
        let names = BTreeMap::from([
            ("data", shown(&data)),
            ("workspace", shown(&workspace)),
            ("upload", shown(&upload)),
            ("home_a", shown(&home_a)),
            ("home_b", shown(&home_b)),
            ("victim", victim.to_string()),
            ("service", service),
            ("port", port),
            ("loopback", props.loopback.local_addr()?.port().to_string()),
            ("socket", shown(&dir.join("socket"))),
            ("abstract", props.abstract_name.clone()),
            ("shared", shown(props.shared.path())),
            ("programs", shown(&dir.join("programs"))),
            ("places", places.iter().map(|place| shown(place)).collect::<Vec<_>>().join(" ")),
            ("ipc", props.meeting.key().to_string()),
            ("queue", props.meeting.queue().to_owned()),
            ("since", props.since.to_string()),
            ("secrets", secrets.map(hex).join(",")),
            ("secret_environment", hex(&props.secrets["environment"])),
            ("secret_database", hex(&props.secrets["database"])),
            ("secret_login", hex(&props.secrets["login"])),
            ("secret_token", hex(&admin)),
        ]);
        let besieges = weakness == Weakness::None && shell.is_none();
        Ok(Self { app, attacker, session, names, props, besieges, shell })
    }

    async fn play(self, ground: Ground) -> anyhow::Result<Report> {
        let observed = self.observed().await?;
        let is_left_out = |row: &&Row| !self.besieges && row.how.is_siege();
        let lines = ALL.iter().filter(|row| !is_left_out(row)).map(|row| {
            let observed = observed.get(row.name).copied().unwrap_or(Outcome::Unknown);
            Line { row: *row, expected: expected(row.barrier, row.control, ground), observed }
        });
        let lines = lines.collect();
        drop(self.props);
        Ok(Report { ground, lines, published: published(&self.app.log()?) })
    }

    async fn observed(&self) -> anyhow::Result<BTreeMap<&'static str, Outcome>> {
        // What is left behind, before anything is cut.
        let (before, harm): (Vec<Row>, Vec<Row>) = ALL.iter().partition(|row| row.name != "truncate_upload");
        let mut observed = match &self.shell {
            Some(shell) => self.all_in(shell, &before, &harm).await?,
            None => {
                let mut observed = self.told_of(&self.attacker, &self.together(&before)).await?;
                observed.insert(SURVIVOR, self.survivor(self.said(&self.attacker, "grandchild")).await?);
                observed
            }
        };
        observed.extend(self.left().await?);
        if self.besieges {
            observed.extend(self.besieged().await?);
        }
        if self.shell.is_none() {
            for prompt in self.alone() {
                observed.extend(self.told_of(&self.attacker, &[prompt]).await?);
            }
            observed.extend(self.told_of(&self.attacker, &self.together(&harm)).await?);
        }
        // After this the attacker's agents may not start any more.
        observed.extend(self.bent().await?);
        if self.besieges {
            self.besieged_in_memory(&mut observed).await?;
        }
        Ok(observed)
    }

    /// The same in one session of a real agent, whose start takes its time: each of several processes after the other.
    async fn all_in(
        &self,
        shell: &Shell,
        before: &[Row],
        harm: &[Row],
    ) -> anyhow::Result<BTreeMap<&'static str, Outcome>> {
        let mut prompts = vec![self.together(before)];
        prompts.extend(self.alone().map(|prompt| vec![prompt]));
        prompts.push(self.together(harm));
        let lines = prompts.iter().map(|prompts| lines(prompts));
        let lines: Vec<String> = lines.chain(["grandchild".to_owned()]).collect();
        let mut said = Vec::new();
        let leaving = async {
            said = shell.said_each(&self.app, &self.attacker, &lines).await?;
            said.pop().context("the last one says whom it left behind")
        };
        let survivor = self.survivor(leaving).await?;
        let mut observed: BTreeMap<_, _> =
            prompts.iter().zip(&said).flat_map(|(prompts, said)| heard(prompts, said)).collect();
        observed.insert(SURVIVOR, survivor);
        Ok(observed)
    }

    /// Everything that one process of an agent can be told to try.
    fn together(&self, rows: &[Row]) -> Vec<(&'static str, String)> {
        let rows = rows.iter().filter(|row| !matches!(row.how, How::Alone(_) | How::Fills(_) | How::Takes(_)));
        rows.filter_map(|row| Some((row.name, self.prompt(row)?))).collect()
    }

    /// What takes a process for each.
    fn alone(&self) -> impl Iterator<Item = (&'static str, String)> {
        let rows = ALL.iter().filter(|row| matches!(row.how, How::Alone(_)));
        rows.filter_map(|row| Some((row.name, self.prompt(row)?)))
    }

    /// What came of prompts of one line each, in one process.
    async fn told_of(
        &self,
        bearer: &str,
        prompts: &[(&'static str, String)],
    ) -> anyhow::Result<BTreeMap<&'static str, Outcome>> {
        Ok(heard(prompts, &self.said(bearer, &lines(prompts)).await?))
    }

    /// What an agent says to a prompt of the demo agent's.
    async fn said(&self, bearer: &str, prompt: &str) -> anyhow::Result<String> {
        if let Some(shell) = self.shell.as_ref().filter(|_| bearer == self.attacker) {
            return shell.said(&self.app, bearer, prompt).await;
        }
        let answer = self.app.run(bearer, json!({ "prompt": prompt })).await?.json();
        ensure!(answer["ok"] == true, "the agent did not come to its end: {answer}; log:\n{}", self.app.log()?);
        Ok(answer["result"].as_str().map_or_else(|| answer["result"].to_string(), str::to_owned))
    }

    /// The line that tells the demo agent what to try.
    pub(super) fn prompt(&self, row: &Row) -> Option<String> {
        let template = match row.how {
            How::Told(prompt) | How::Alone(prompt) | How::Fills(prompt) | How::Takes(prompt) => {
                match prompt.strip_prefix("attack ") {
                    // The later of two targets of a name counts.
                    Some(rest) => {
                        let (name, targets) = rest.split_once(' ').unwrap_or((rest, ""));
                        format!(
                            "attack: {name} database={{data}}/clawdforge.sqlite workspace={{workspace}} tmp={{shared}} \
                         service={{service}} abstract=x socket=/x tcp=1 udp=1 {targets}"
                        )
                    }
                    None => prompt.to_owned(),
                }
            }
            How::LeftInHome(file) => format!("try: plant {{home_b}}/{file}"),
            How::LeftInWorkspace(file) => format!("try: plant {file}"),
            How::Variable(name) => format!("env: {name}"),
            How::Survivor | How::Bends(_) | How::Starves(_) | How::Remains => return None,
        };
        let fill = |text: String, (name, value): (&&str, &String)| text.replace(&format!("{{{name}}}"), value);
        Some(self.names.iter().fold(template, fill))
    }

    /// What the attacker has left by now, as app A's next agent finds it.
    async fn left(&self) -> anyhow::Result<BTreeMap<&'static str, Outcome>> {
        let looks = ALL.iter().filter_map(|row| match row.how {
            How::LeftInHome(file) => Some((row.name, format!("try: read {}/{file}", self.names["home_a"]))),
            How::LeftInWorkspace(file) => Some((row.name, format!("try: read {file}"))),
            _ => None,
        });
        let looks: Vec<_> = looks.collect();
        self.told_of(&self.app.demo_token()?, &looks).await
    }

    /// What the attacker's next agents, one of a run and one of a session, reach by links that it has laid.
    async fn bent(&self) -> anyhow::Result<Option<(&'static str, Outcome)>> {
        let found =
            ALL.iter().find_map(|row| if let How::Bends(places) = row.how { Some((row, places)) } else { None });
        let Some((row, places)) = found else { return Ok(None) };
        let [own, other] = [&self.names["home_b"], &self.names["home_a"]];
        let links = places.iter().map(|place| (*place, format!("try: link {own}/{place} {other}")));
        // An agent may fall over the links itself.
        let laid = self.told_of(&self.attacker, &links.collect::<Vec<_>>()).await;
        let is_laid = |place: &&&str| Path::new(own).join(place).is_symlink();
        ensure!(places.iter().filter(is_laid).count() == places.len(), "not laid: {laid:?}");
        let looks: Vec<_> =
            places.iter().map(|place| (*place, format!("try: read {own}/{place}/transcript"))).collect();
        // One that does not start reaches nothing.
        let seen = self.told_of(&self.attacker, &looks).await.unwrap_or_default();
        let worst = if seen.values().any(|seen| *seen == Outcome::Open) { Outcome::Open } else { Outcome::Denied };
        Ok(Some((row.name, worst)))
    }

    /// Whether a process that does not want to end is there after the work of whoever left it.
    async fn survivor(&self, leaving: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<Outcome> {
        let before = self.app.agent_processes();
        let said = leaving.await?;
        ensure!(said.parse::<u32>().is_ok(), "nobody was left behind: {said}");
        let began = Instant::now();
        while self.app.agent_processes().iter().any(|pid| !before.contains(pid)) {
            if began.elapsed() > PATIENCE {
                return Ok(Outcome::Open);
            }
            poll_pause().await;
        }
        Ok(Outcome::Denied)
    }
}

/// One prompt of many, which says before each of them whose answer comes.
fn lines(prompts: &[(&'static str, String)]) -> String {
    let lines: Vec<_> = prompts.iter().map(|(name, prompt)| format!("say: {HEADING}{name}\n{prompt}")).collect();
    lines.join("\n")
}

/// What was said to it.
fn heard(prompts: &[(&'static str, String)], said: &str) -> BTreeMap<&'static str, Outcome> {
    let mut outcomes = BTreeMap::new();
    let mut row = None;
    for line in said.lines() {
        if let Some(name) = line.strip_prefix(HEADING) {
            row = prompts.iter().map(|(name, _)| *name).find(|known| *known == name);
        } else if let Some(row) = row {
            outcomes.insert(row, outcome(line));
        }
    }
    outcomes
}

/// The gaps that a service has named in its log, which is in JSON where nobody watches.
fn published(log: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let gaps = lines.filter_map(|line| line["isolation.gaps"].as_str().map(str::to_owned)).next_back();
    gaps.unwrap_or_default().split(", ").map(str::to_owned).collect()
}

/// What a line of the attacker's says: `outcome errno`, before it perhaps the attack's name; or the value of a variable.
pub(super) fn outcome(line: &str) -> Outcome {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["not", "set"] => Outcome::Denied,
        [_, outcome, _] | [outcome, _] => Outcome::named(outcome).unwrap_or(Outcome::Unknown),
        // A variable that was there.
        [_] => Outcome::Open,
        _ => Outcome::Unknown,
    }
}

/// The users of this suite's agents, and of nobody else's: the kernel counts the processes of a user wherever they are,
/// and a bomb in one suite would keep the agents of another from starting.
fn users() -> String {
    let first = USERS_FIRST + std::process::id() % SUITES_MAX * USERS;
    format!("{first}-{}", first + USERS - 1)
}

async fn home(app: &TestApp, bearer: &str) -> anyhow::Result<String> {
    let answer = app.run(bearer, json!({ "prompt": "env: HOME" })).await?.json();
    let home = answer["result"].as_str().unwrap_or_default().to_owned();
    ensure!(home.starts_with('/'), "an agent has a home: {answer}");
    Ok(home)
}

/// The one thing in a folder.
fn the_entry(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut entries = fs::read_dir(folder)?;
    Ok(entries.next().with_context(|| format!("{} is empty", folder.display()))??.path())
}

/// A file as an agent whose folder this is would make it, for nobody else to read.
fn write_as_owner(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let owner = fs::metadata(folder)?;
    chown(&path, Some(owner.uid()), Some(owner.gid())).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_came_of_it_or_nothing() {
        assert_eq!(outcome("read_database denied 13"), Outcome::Denied);
        assert_eq!(outcome("open 0"), Outcome::Open);
        assert_eq!(outcome("not set"), Outcome::Denied);
        assert_eq!(outcome("libc.so.6"), Outcome::Open);
        assert_eq!([outcome("these are no attacks"), outcome("this is nothing to try")], [Outcome::Unknown; 2]);
        assert_eq!(outcome("unknown 110"), Outcome::Unknown);
    }
}
