//! Opens links to one configured agent.

use std::ffi::OsString;
use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema::{
    AgentCapabilities, ClientCapabilities, Implementation, InitializeRequest, LoadSessionRequest, NewSessionRequest,
    ResumeSessionRequest, SessionConfigOption, SessionConfigOptionCategory, SetSessionConfigOptionRequest,
};
use agent_client_protocol::{Error, ErrorCode, is_connection_terminated, is_incoming_transport_closed};
use async_trait::async_trait;
use clawdforge_core::agent::{AgentName, Failure, FailureKind};
use clawdforge_process::{SpawnSpec, Spawner, StdinMode, Tree};
use serde_json::json;
use tokio::fs::DirBuilder;
use tokio::time::sleep;

use super::link::AcpLink;
use super::peer::Peer;
use super::translate::failure;
use crate::confine::{self, hand_over};
use crate::locate::locate;
use crate::oneshot::{name_tmp_dir, not_started, tmp_dir};
use crate::profile::Profile;
use crate::{AgentDriver, AgentLink, LinkContext, OpenSpec, Presence};

/// How long an agent may take from its start to a conversation. The slowest known takes 3 s on a busy
/// machine; agents that hang here are known as well.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long an agent that could not begin may take to leave when asked.
const FAILED_GRACE: Duration = Duration::from_millis(500);

/// The driver of one agent that speaks the Agent Client Protocol.
pub struct AcpDriver {
    profile: Profile,
    mode: Option<String>,
    spawner: Spawner,
}

impl AcpDriver {
    /// A driver for an agent as configured. `mode` is the agent's own name for how it asks for permission;
    /// it is chosen for every conversation, where the agent offers it.
    #[must_use]
    pub fn new(profile: Profile, mode: Option<String>, spawner: Spawner) -> Self {
        Self { profile, mode, spawner }
    }

    /// What is configured.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn spawn(&self, spec: &OpenSpec) -> Result<Tree, Failure> {
        let found = locate(&self.profile)?;
        let tmp_dir = tmp_dir(&spec.scratch);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&tmp_dir).await;
        made.and_then(|()| hand_over(spec.user.as_ref(), &tmp_dir)).map_err(|error| {
            tracing::error!(agent.name = %self.profile.name, %error, "could not make an agent's private folder");
            Failure::new(FailureKind::StartFailed, "the agent's private folder could not be made; is the disk full?")
        })?;
        let mut env = self.profile.env.clone();
        if let Some(user) = &spec.user {
            user.move_in(&mut env);
        }
        name_tmp_dir(&mut env, &spec.scratch);
        let write = vec![spec.workspace.clone(), spec.scratch.clone()];
        let sandbox = confine::sandbox(&self.profile, &env, spec.user.as_ref(), write);
        let spec = SpawnSpec {
            program: found.path,
            args: self.profile.args.iter().map(OsString::from).collect(),
            env,
            cwd: spec.workspace.clone(),
            mark: spec.mark.clone(),
            stdin: StdinMode::Piped,
            sandbox,
        };
        self.spawner.spawn(spec).await.map_err(|error| not_started(self.profile.name.as_str(), &error))
    }

    async fn begin(&self, spec: &OpenSpec, tree: &mut Tree) -> Result<(Peer, String, LinkContext), Failure> {
        let pipes = tree.take_stdin().zip(tree.take_stdout());
        let (stdin, stdout) = pipes.ok_or_else(|| Failure::new(FailureKind::Internal, "the agent has no pipes"))?;
        let mut peer = Peer::connect(stdin, stdout).await.map_err(|_| self.left(tree))?;
        let request = InitializeRequest::new(ProtocolVersion::V1)
            .client_capabilities(capabilities())
            .client_info(Implementation::new("clawdforge", env!("CARGO_PKG_VERSION")));
        let answer = peer.to_agent().send_request(request).block_task();
        let offered = peer.wait(answer).await.map_err(|error| self.refused(tree, &error))?;
        if offered.protocol_version != ProtocolVersion::V1 {
            let message = format!("{} does not speak version 1 of the Agent Client Protocol", self.profile.name);
            return Err(Failure::new(FailureKind::StartFailed, message));
        }
        let opened = self.conversation(spec, &mut peer, &offered.agent_capabilities).await;
        let (session, context, options) = opened.map_err(|error| self.refused(tree, &error))?;
        if let Some(mode) = &self.mode {
            self.choose_mode(&mut peer, &session, mode, &options).await?;
        }
        if let Some(model) = &spec.model {
            self.choose_model(&mut peer, &session, model, &options).await?;
        }
        Ok((peer, session, context))
    }

    /// Takes up the conversation, or begins one; the agent's own id of it comes back.
    async fn conversation(
        &self,
        spec: &OpenSpec,
        peer: &mut Peer,
        offered: &AgentCapabilities,
    ) -> Result<(String, LinkContext, Vec<SessionConfigOption>), Error> {
        let cwd = spec.workspace.clone();
        if let Some(key) = spec.resume.clone() {
            let taken_up = if offered.session_capabilities.resume.is_some() {
                let answer =
                    peer.to_agent().send_request(ResumeSessionRequest::new(key.clone(), cwd.clone())).block_task();
                Some(peer.wait(answer).await.map(|resumed| resumed.config_options))
            } else if offered.load_session {
                // The replay of what we have in our own log is passed over.
                let answer =
                    peer.to_agent().send_request(LoadSessionRequest::new(key.clone(), cwd.clone())).block_task();
                Some(peer.wait(answer).await.map(|loaded| loaded.config_options))
            } else {
                None
            };
            match taken_up {
                Some(Ok(options)) => return Ok((key, LinkContext::Resumed, options.unwrap_or_default())),
                Some(Err(error)) if ends_it(&error) => return Err(error),
                Some(Err(error)) => {
                    tracing::warn!(agent.name = %self.profile.name, %error, "an agent could not take up a conversation");
                }
                None => {}
            }
        }
        let answer = peer.to_agent().send_request(NewSessionRequest::new(cwd)).block_task();
        let new = peer.wait(answer).await?;
        Ok((new.session_id.to_string(), LinkContext::Fresh, new.config_options.unwrap_or_default()))
    }

    /// Chosen anew after every beginning: agents do not keep it. What is not offered is left as it is.
    async fn choose_mode(
        &self,
        peer: &mut Peer,
        session: &str,
        mode: &str,
        options: &[SessionConfigOption],
    ) -> Result<(), Failure> {
        let is_mode = |option: &&SessionConfigOption| option.category == Some(SessionConfigOptionCategory::Mode);
        let Some(option) = options.iter().find(is_mode) else { return Ok(()) };
        let request = SetSessionConfigOptionRequest::new(session.to_owned(), option.id.clone(), mode);
        let answer = peer.to_agent().send_request(request).block_task();
        peer.wait(answer).await.map(drop).map_err(|error| {
            let message = format!("{} did not take the mode {mode}: {}", self.profile.name, error.message);
            Failure::new(FailureKind::StartFailed, message)
        })
    }

    /// Chosen anew after every beginning: agents do not keep it.
    async fn choose_model(
        &self,
        peer: &mut Peer,
        session: &str,
        model: &str,
        options: &[SessionConfigOption],
    ) -> Result<(), Failure> {
        let is_model = |option: &&SessionConfigOption| option.category == Some(SessionConfigOptionCategory::Model);
        let unknown = |why: String| {
            Failure::new(
                FailureKind::UnknownModel,
                format!("{} does not take the model {model}: {why}", self.profile.name),
            )
        };
        let Some(option) = options.iter().find(is_model) else {
            return Err(unknown("it offers no choice of models".to_owned()));
        };
        let request = SetSessionConfigOptionRequest::new(session.to_owned(), option.id.clone(), model);
        let answer = peer.to_agent().send_request(request).block_task();
        peer.wait(answer).await.map(drop).map_err(|error| unknown(error.message.clone()))
    }

    fn refused(&self, tree: &Tree, error: &Error) -> Failure {
        if is_incoming_transport_closed(error) || is_connection_terminated(error) {
            return self.left(tree);
        }
        let failure = failure(error);
        match failure.kind {
            FailureKind::ProviderError => Failure::new(
                FailureKind::StartFailed,
                format!("{} could not begin a conversation: {}", self.profile.name, failure.message),
            ),
            _ => failure,
        }
    }

    fn left(&self, tree: &Tree) -> Failure {
        let stderr = tree.stderr_tail();
        let said = stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let said: String = said.unwrap_or("it said nothing about it").chars().take(500).collect();
        let message = format!("{} ended before a conversation could begin: {said}", self.profile.name);
        Failure::new(FailureKind::StartFailed, message)
    }
}

#[async_trait]
impl AgentDriver for AcpDriver {
    fn name(&self) -> &AgentName {
        &self.profile.name
    }

    fn presence(&self) -> Presence {
        Presence { program: locate(&self.profile).ok().map(|found| found.path), version: None }
    }

    fn check(&self) -> Result<(), Failure> {
        locate(&self.profile).map(drop)
    }

    async fn open(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, Failure> {
        // Dropping the tree ends it as well; whoever drops this does not see when.
        let mut tree = self.spawn(&spec).await?;
        let begun = tokio::select! {
            begun = self.begin(&spec, &mut tree) => begun,
            () = sleep(OPEN_WAIT_MAX) => {
                let secs = OPEN_WAIT_MAX.as_secs();
                let message = format!("{} did not begin a conversation within {secs} s", self.profile.name);
                Err(Failure::new(FailureKind::StartFailed, message))
            }
            () = spec.given_up.cancelled() => {
                Err(Failure::new(FailureKind::Interrupted, "the agent was given up before it was ready"))
            }
        };
        match begun {
            Ok((peer, session, context)) => Ok(Box::new(AcpLink::new(tree, peer, session, context))),
            Err(failure) => {
                let report = tree.end(FAILED_GRACE).await;
                if report.survivors > 0 {
                    tracing::error!(agent.name = %self.profile.name, process.survivors = report.survivors,
                        "processes of an agent that could not begin could not be ended");
                }
                Err(failure)
            }
        }
    }
}

/// Errors after which nothing else is worth trying.
fn ends_it(error: &Error) -> bool {
    error.code == ErrorCode::AUTH_REQUIRED || is_incoming_transport_closed(error) || is_connection_terminated(error)
}

/// Neither files, terminals nor questions of ours: agents use their own tools then and ask nobody. Notices
/// keep warnings out of the answer.
fn capabilities() -> ClientCapabilities {
    let offered = json!({"session": {"notices": {}, "compaction": {}, "configOptions": {"boolean": {}}}});
    serde_json::from_value(offered).unwrap_or_default()
}
