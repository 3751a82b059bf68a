//! Opens links to one configured agent behind acpx.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_core::agent::{AgentName, Failure, FailureKind};
use clawdforge_core::tools::Transport;
use clawdforge_process::{Sandbox, Spawner, TreeMark};
use serde_json::{Value, json};
use tokio::fs::DirBuilder;

use super::call::{CallError, Caller, command_line};
use super::link::AcpxLink;
use super::records::Found;
use super::{confined, records};
use crate::acp::{AcpDriver, Choices, servers, system_prompt, unknown_mode};
use crate::confine;
use crate::files::write_anew;
use crate::home::hand_over;
use crate::locate::locate;
use crate::network;
use crate::oneshot::not_started;
use crate::profile::Profile;
use crate::surroundings::{surroundings, tmp_dir};
use crate::version::Versions;
use crate::{AgentDriver, AgentLimits, AgentLink, ForgetReport, Forgotten, HostSpec, LinkContext, OpenSpec, Presence};

/// The oldest version that is used. Before it, a time limit ended with neither a result nor an error, and the
/// rest of that turn came out of the next one (openclaw/acpx#632).
pub const VERSION_MIN: (u64, u64, u64) = (0, 19, 1);

/// How long one call that starts the agent may take. Claude's adapter takes about 1.5 s on a busy machine.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long what a failed opening left may take to leave when asked.
const FAILED_GRACE: Duration = Duration::from_millis(500);

/// Seconds an owner stays beyond the time we keep an idle one: it is for the case that nobody is left to end it.
const TTL_MARGIN: Duration = Duration::from_secs(60);

/// The driver of one agent behind acpx.
pub struct AcpxDriver {
    profile: Profile,
    /// The same agent without acpx, which has no word for erasing.
    natively: AcpDriver,
    choices: Choices,
    limits: AgentLimits,
    acpx: Profile,
    versions: Arc<Versions>,
    spawner: Spawner,
    /// How long acpx keeps an idle owner that nobody ends.
    ttl: Duration,
}

impl AcpxDriver {
    /// A driver for an agent as configured, and acpx as it is. Of the choices, the option for the model is acpx's
    /// own affair; `warm_max` is how long idle agents are kept.
    #[must_use]
    pub fn new(
        profile: Profile,
        choices: Choices,
        acpx: Profile,
        versions: Arc<Versions>,
        spawner: Spawner,
        warm_max: Duration,
    ) -> Self {
        let limits = AgentLimits::default();
        let natively = AcpDriver::new(profile.clone(), choices.clone(), spawner.clone());
        Self { profile, natively, choices, limits, acpx, versions, spawner, ttl: warm_max + TTL_MARGIN }
    }

    /// The same with limits of its own.
    #[must_use]
    pub fn limited(self, limits: AgentLimits) -> Self {
        Self { limits, ..self }
    }

    async fn caller(&self, spec: &OpenSpec) -> Result<Caller, Failure> {
        let program = locate(&self.acpx)?.path;
        // Asked of each new file once, and remembered over restarts.
        let version = self.versions.refresh(&self.spawner, &self.acpx, &program).await.map_err(|error| {
            tracing::warn!(%error, "acpx did not say its version");
            Failure::new(FailureKind::StartFailed, "acpx does not say its version; `clawdforge doctor` may say more")
        })?;
        accept(&version)?;
        let agent = locate(&self.profile)?.path;
        let mcp_config = spec.scratch.join("acpx-mcp.json");
        let mut env = surroundings(&self.profile, spec.home.as_ref(), &spec.scratch, &spec.mark).await?;
        let passage = network::admit(&self.profile, spec.app.as_ref(), &mut env)?;
        let config = json!({ "mcpServers": servers::told(&spec.tool_servers) });
        let prepared = async {
            let tmp_dir = tmp_dir(&spec.scratch);
            DirBuilder::new().recursive(true).mode(0o700).create(&tmp_dir).await?;
            hand_over(spec.home.as_ref(), &tmp_dir)?;
            write_anew(&mcp_config, config.to_string().as_bytes()).await?;
            hand_over(spec.home.as_ref(), &mcp_config)?;
            let sandbox = self.sandbox(spec, &agent, &env).await?;
            self.preload(spec, sandbox.is_some(), &mut env).await?;
            Ok::<_, io::Error>(sandbox)
        };
        let mut sandbox = prepared.await.map_err(|error| {
            tracing::error!(agent.name = %self.profile.name, %error, "could not prepare an agent's private folder");
            let message = match error.kind() {
                // It names what is in the way.
                io::ErrorKind::AlreadyExists => format!("acpx could not be started: {error}"),
                _ => "the agent's private folder could not be written; is the disk full?".to_owned(),
            };
            Failure::new(FailureKind::StartFailed, message)
        })?;
        passage.open(sandbox.as_mut(), &mut env);
        Ok(Caller {
            spawner: self.spawner.clone(),
            program,
            agent: self.profile.name.to_string(),
            command: command_line(&agent, &self.profile.args),
            env,
            workspace: spec.workspace.clone(),
            mcp_config,
            mark: spec.mark.clone(),
            sandbox,
            _passage: Arc::new(passage),
        })
    }

    /// The sandbox of the calls of a conversation, and what they need in their environment for it.
    async fn sandbox(
        &self,
        spec: &OpenSpec,
        agent: &Path,
        env: &BTreeMap<OsString, OsString>,
    ) -> io::Result<Option<Sandbox>> {
        let home = spec.home.as_ref();
        // What each call reads anew lies beside its temporary files, and is not for the agent to change.
        let write = vec![spec.workspace.clone(), tmp_dir(&spec.scratch)];
        let Some(mut sandbox) = confine::sandbox(&self.profile, env, home, write) else { return Ok(None) };
        sandbox.read.push(spec.scratch.clone());
        sandbox.programs.push(agent.to_owned());
        let Some(path) = env.get(OsStr::new("HOME")).map(PathBuf::from) else {
            return Ok(Some(confined::without_namespaces(sandbox)));
        };
        let owned = spec.home.clone();
        let made = tokio::task::spawn_blocking(move || confined::around_calls(sandbox, &path, owned.as_ref())).await;
        Ok(Some(made.map_err(io::Error::other)??))
    }

    /// Has acpx, and what it starts, load what they lack.
    async fn preload(
        &self,
        spec: &OpenSpec,
        is_confined: bool,
        env: &mut BTreeMap<OsString, OsString>,
    ) -> io::Result<()> {
        // Whatever is to be told to Claude's adapter, acpx tells it something else.
        let is_narrowed = self.choices.session_meta.is_some();
        let system = system_prompt(spec);
        if let Some(system) = &system {
            let file = spec.scratch.join(confined::SYSTEM_FILE);
            write_anew(&file, system.to_string().as_bytes()).await?;
            hand_over(spec.home.as_ref(), &file)?;
        }
        let scripts = [
            ("acpx-preload.cjs", confined::PRELOAD, is_confined),
            ("acpx-narrowed.cjs", confined::NARROWED, is_narrowed),
            ("acpx-given.cjs", confined::GIVEN, system.is_some()),
        ];
        for (name, script, _) in scripts.into_iter().filter(|(_, _, is_needed)| *is_needed) {
            let file = spec.scratch.join(name);
            write_anew(&file, script.as_bytes()).await?;
            hand_over(spec.home.as_ref(), &file)?;
            confined::preload(env, &file);
        }
        Ok(())
    }

    /// Takes up the conversation, or begins one; the agent's own id of it comes back.
    async fn conversation(&self, caller: &Caller, spec: &OpenSpec) -> Result<(String, LinkContext), Failure> {
        let agent = caller.agent.as_str();
        let model = spec.model.as_ref().or(self.choices.default_model.as_ref());
        let chosen: Vec<&str> = model.iter().flat_map(|model| ["--model", model.as_str()]).collect();
        let ask = async |verb: &[&str]| caller.ask(&chosen, verb, OPEN_WAIT_MAX, &spec.given_up).await;
        if let Some(key) = &spec.resume {
            match ask(&["sessions", "new", "--name", caller.name(), "--resume-session", key]).await {
                Ok(answer) => return Ok((session_of(&answer)?, LinkContext::Resumed)),
                Err(CallError::Refused(refusal)) if !refusal.ends_it() => {
                    let error = refusal.message();
                    tracing::warn!(agent.name = agent, error, "an agent could not take up a conversation");
                }
                Err(error) => return Err(error.into_failure(agent)),
            }
        }
        let answer = ask(&["sessions", "new", "--name", caller.name()]).await;
        let answer = answer.map_err(|error| begins(error.into_failure(agent), agent))?;
        Ok((session_of(&answer)?, LinkContext::Fresh))
    }

    /// Chosen once for each link: acpx chooses it again whenever it starts the agent. The mode as an option and not
    /// by `set-mode`, which it would leave out where the agent takes a conversation up.
    async fn choose(
        &self,
        caller: &Caller,
        spec: &OpenSpec,
        option: &str,
        value: &str,
        refused: FailureKind,
    ) -> Result<Value, Failure> {
        let verb = ["set", option, value, "-s", caller.name()];
        caller.ask(&[], &verb, OPEN_WAIT_MAX, &spec.given_up).await.map_err(|error| match error {
            CallError::Refused(refusal) if !refusal.ends_it() => {
                let message = format!("{} does not take the {option} {value}: {}", caller.agent, refusal.message());
                Failure::new(refused, message)
            }
            other => other.into_failure(&caller.agent),
        })
    }

    /// The mode that the conversation asks for. What the agent declares is asked for only where it is not taken as it is.
    async fn choose_mode(&self, caller: &Caller, spec: &OpenSpec, mode: &str) -> Result<Value, Failure> {
        let refused = match self.choose(caller, spec, "mode", mode, FailureKind::UnknownMode).await {
            Err(failure) if failure.kind == FailureKind::UnknownMode => failure,
            other => return other,
        };
        let shown = self.shown(caller, spec).await?;
        let Some((option, known)) = declared_modes(&shown) else {
            let message = format!(
                "{}; it offers no choice of modes that acpx keeps, open the session with the driver acp",
                refused.message
            );
            return Err(Failure::new(FailureKind::UnknownMode, message));
        };
        if option == "mode" || !known.iter().any(|known| known == mode) {
            return Err(unknown_mode(&caller.agent, mode, &known, None));
        }
        self.choose(caller, spec, &option, mode, FailureKind::UnknownMode).await
    }

    /// Whether the agent takes the conversation's tool servers: acpx does not ask, but has on record what it declared.
    async fn accept_servers(&self, caller: &Caller, spec: &OpenSpec) -> Result<(), Failure> {
        if !spec.tool_servers.iter().any(|server| matches!(server.transport, Transport::Remote { .. })) {
            return Ok(());
        }
        let shown = self.shown(caller, spec).await?;
        let offered = serde_json::from_value(shown["agentCapabilities"]["mcpCapabilities"].clone()).unwrap_or_default();
        servers::accept(&caller.agent, &spec.tool_servers, &offered)
    }

    /// What acpx has on record of the conversation.
    async fn shown(&self, caller: &Caller, spec: &OpenSpec) -> Result<Value, Failure> {
        let shown = caller.ask(&[], &["sessions", "show", caller.name()], OPEN_WAIT_MAX, &spec.given_up).await;
        shown.map_err(|error| error.into_failure(&caller.agent))
    }

    async fn begin(&self, caller: &Caller, spec: &OpenSpec) -> Result<(String, LinkContext), Failure> {
        let (mut session, mut context) = self.conversation(caller, spec).await?;
        self.accept_servers(caller, spec).await?;
        let mut answers = Vec::new();
        match (&spec.mode, &self.choices.mode) {
            (Some(mode), _) => answers.push(self.choose_mode(caller, spec, mode).await?),
            (None, Some(mode)) => {
                answers.push(self.choose(caller, spec, "mode", mode, FailureKind::StartFailed).await?);
            }
            (None, None) => {}
        }
        if let Some(effort) = spec.effort {
            answers.push(self.choose(caller, spec, "effort", effort.as_str(), FailureKind::RequestRejected).await?);
        }
        for answer in answers {
            // It starts the agent, and may find the conversation gone.
            let now = session_of(&answer)?;
            if now != session {
                (session, context) = (now, LinkContext::Fresh);
            }
        }
        Ok((session, context))
    }
}

#[async_trait]
impl AgentDriver for AcpxDriver {
    fn name(&self) -> &AgentName {
        &self.profile.name
    }

    fn presence(&self) -> Presence {
        Presence { program: locate(&self.profile).ok().map(|found| found.path), version: None }
    }

    fn limits(&self) -> AgentLimits {
        self.limits
    }

    fn takes_system_prompt(&self) -> bool {
        self.choices.takes_system_prompt
    }

    fn cannot_fork(&self) -> Option<&'static str> {
        Some("acpx, through which it is spoken to, has no way to fork a session")
    }

    fn has_namespaces(&self) -> bool {
        false
    }

    fn check(&self) -> Result<(), Failure> {
        let acpx = locate(&self.acpx)?;
        if let Some(version) = self.versions.known(&acpx.path) {
            accept(&version)?;
        }
        locate(&self.profile).map(drop)
    }

    async fn open(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, Failure> {
        let caller = self.caller(&spec).await?;
        let kin = self.spawner.kin(spec.mark.clone()).map_err(|error| not_started("acpx", &error))?;
        match self.begin(&caller, &spec).await {
            Ok((session, context)) => Ok(Box::new(AcpxLink::new(caller, kin, session, context, self.ttl))),
            Err(failure) => {
                // Says itself what it could not end.
                kin.end(FAILED_GRACE).await;
                Err(failure)
            }
        }
    }

    /// First the agent's own records, natively, then those of acpx: they hold ids that nobody else knows.
    async fn forget(&self, forgotten: Vec<Forgotten>, place: HostSpec) -> ForgetReport {
        let agent = self.profile.name.as_str();
        let common = self.profile.env.get(OsStr::new("HOME")).map(PathBuf::from);
        let home = place.home.as_ref().map(|home| home.path.clone()).or(common);
        let marks: Vec<TreeMark> = forgotten.iter().map(|one| one.mark.clone()).collect();
        let noted: Vec<Option<String>> = forgotten.iter().map(|one| one.resume_key.clone()).collect();
        let in_home = home.clone();
        let found = in_files(move || match in_home {
            Some(home) => records::find(&home, &forgotten),
            None => Ok(forgotten.iter().map(|_| Found::default()).collect()),
        });
        let mut found = match found.await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(agent.name = agent, %error, "what acpx keeps of erased sessions could not be looked for");
                return ForgetReport { left: marks, ..ForgetReport::default() };
            }
        };
        for (found, noted) in found.iter_mut().zip(noted) {
            found.keys.extend(noted);
        }
        // A home that is erased as well takes the agent's own records with it.
        let is_passing = place.home.as_ref().is_some_and(|home| home.is_passing);
        let asked = found.iter().filter(|_| !is_passing);
        let keys = asked.flat_map(|found| found.keys.iter().cloned()).collect();
        let natively = self.natively.erase(keys, place).await;
        let (to_ask_again, erased): (Vec<_>, Vec<_>) =
            marks.into_iter().zip(found).partition(|(_, found)| !found.keys.is_disjoint(&natively.left));
        let mut left: Vec<TreeMark> = to_ask_again.into_iter().map(|(mark, _)| mark).collect();
        let is_kept = |(_, found): &&(TreeMark, Found)| !found.keys.is_disjoint(&natively.kept);
        let kept = erased.iter().filter(is_kept).map(|(mark, _)| mark.clone()).collect();
        let (marks, erased): (Vec<_>, Vec<_>) = erased.into_iter().unzip();
        let survivors = natively.survivors;
        let Some(home) = home else { return ForgetReport { left, kept, survivors } };
        match in_files(move || records::remove(&home, &erased)).await {
            Ok(files) => tracing::debug!(agent.name = agent, files, "removed what acpx kept of erased sessions"),
            Err(error) => {
                tracing::warn!(agent.name = agent, %error, "what acpx keeps of erased sessions could not be removed");
                left.extend(marks);
            }
        }
        ForgetReport { left, kept, survivors }
    }
}

/// Work on files, where it holds up nobody.
async fn in_files<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
}

/// The agent's own id of a conversation, in an answer of acpx.
fn session_of(answer: &Value) -> Result<String, Failure> {
    let session = answer["acpxSessionId"].as_str().map(str::to_owned);
    session.ok_or_else(|| Failure::new(FailureKind::StartFailed, "acpx did not say which conversation it began"))
}

/// The option by which an agent takes its mode, and its values, in what acpx has on record of a conversation.
fn declared_modes(shown: &Value) -> Option<(String, Vec<String>)> {
    let options = shown["acpx"]["config_options"].as_array()?;
    let option = options.iter().find(|option| option["category"] == "mode")?;
    let values = option["options"].as_array().into_iter().flatten();
    // Values may be in groups.
    let values = values.flat_map(|value| match value["options"].as_array() {
        Some(group) => group.iter().collect(),
        None => vec![value],
    });
    let values = values.filter_map(|value| value["value"].as_str().map(str::to_owned)).collect();
    Some((option["id"].as_str()?.to_owned(), values))
}

/// What an agent reports while it begins is no answer of a provider's.
fn begins(failure: Failure, agent: &str) -> Failure {
    match failure.kind {
        FailureKind::ProviderError | FailureKind::Crashed => {
            let message = format!("{agent} could not begin a conversation: {}", failure.message);
            Failure::new(FailureKind::StartFailed, message)
        }
        _ => failure,
    }
}

/// Whether a version is one that is used.
fn accept(version: &str) -> Result<(), Failure> {
    let (major, minor, patch) = VERSION_MIN;
    if parse(version).is_some_and(|version| version >= VERSION_MIN) {
        return Ok(());
    }
    let message = format!(
        "acpx {version} is too old: {major}.{minor}.{patch} is the oldest whose turns can be trusted to end; \
         run `clawdforge agents install acpx`, or put a newer one on the PATH of the service"
    );
    Err(Failure::new(FailureKind::StartFailed, message))
}

/// The numbers of `0.19.1`, `v0.19.1` or `acpx 0.20.0-beta.1`.
fn parse(version: &str) -> Option<(u64, u64, u64)> {
    let word = version.split_whitespace().find(|word| word.contains('.'))?;
    let mut numbers = word.trim_start_matches('v').splitn(3, '.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modes_an_agent_declares_are_found_by_their_category_in_groups_and_without() {
        let value = |value: &str| serde_json::json!({"value": value, "name": value});
        let shown = |options: Value| {
            serde_json::json!({"acpxRecordId": "r", "acpx": {"config_options": [
                {"id": "model", "category": "model", "options": [value("large")]},
                {"id": "how", "category": "mode", "options": options},
            ]}})
        };
        let wanted = Some(("how".to_owned(), vec!["plan".to_owned(), "auto".to_owned()]));
        assert_eq!(declared_modes(&shown(serde_json::json!([value("plan"), value("auto")]))), wanted);
        let grouped =
            serde_json::json!([{"group": "a", "options": [value("plan")]}, {"group": "b", "options": [value("auto")]}]);
        assert_eq!(declared_modes(&shown(grouped)), wanted);
        assert_eq!(declared_modes(&serde_json::json!({"acpx": {"config_options": []}})), None);
    }

    #[test]
    fn versions_before_the_one_whose_time_limits_work_are_refused_with_the_reason() {
        for good in ["0.19.1", "0.19.2", "0.20.0", "v1.0.0", "acpx 0.20.0-beta.1", "0.19.10"] {
            assert_eq!(accept(good), Ok(()), "{good}");
        }
        for bad in ["0.19.0", "0.6.1", "0.2.99", "", "unknown", "1", "1.x.2"] {
            let failure = accept(bad).unwrap_err();
            assert_eq!(failure.kind, FailureKind::StartFailed);
            assert!(failure.message.contains("0.19.1 is the oldest"), "{}", failure.message);
        }
    }
}
