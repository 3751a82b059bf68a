//! What an agent is asked when a conversation begins: to take it up or to begin it, how to work in it, and to close it again
//! where that fails.

use std::time::Duration;

use agent_client_protocol::v1::schema::{
    AgentCapabilities, CloseSessionRequest, LoadSessionRequest, NewSessionRequest, ResumeSessionRequest,
    SessionConfigOption, SessionConfigOptionCategory, SessionModeState, SetSessionConfigOptionRequest,
};
use agent_client_protocol::{Error, ErrorCode, is_connection_terminated, is_incoming_transport_closed};
use clawdforge_core::agent::{AgentName, Failure, FailureKind};
use tokio::time::timeout;

use super::driver::Choices;
use super::peer::{Connection, Peer};
use super::{modes, servers};
use crate::{LinkContext, OpenSpec};

/// A conversation that was taken up or begun.
pub(super) struct Opened {
    pub peer: Peer,
    pub context: LinkContext,
    pub offered: Offered,
}

/// What there is to choose from.
pub(super) struct Offered {
    pub options: Vec<SessionConfigOption>,
    /// Of an agent that has no options yet.
    pub modes: Option<SessionModeState>,
}

impl Offered {
    pub fn of(options: Option<Vec<SessionConfigOption>>, modes: Option<SessionModeState>) -> Self {
        Self { options: options.unwrap_or_default(), modes }
    }
}

/// Takes up the conversation, or begins one.
pub(super) async fn conversation(
    name: &AgentName,
    offered: &AgentCapabilities,
    choices: &Choices,
    spec: &OpenSpec,
    connection: &Connection,
) -> Result<Opened, Error> {
    let cwd = spec.workspace.clone();
    let (to_agent, meta) = (connection.to_agent(), choices.meta_of(spec));
    let servers = servers::told(&spec.tool_servers);
    if let Some(key) = spec.resume.clone() {
        let taken_up = if offered.session_capabilities.resume.is_some() {
            let request =
                ResumeSessionRequest::new(key.clone(), cwd.clone()).mcp_servers(servers.clone()).meta(meta.clone());
            let answer = to_agent.send_request(request).block_task();
            Some(connection.wait(answer).await.map(|resumed| Offered::of(resumed.config_options, resumed.modes)))
        } else if offered.load_session {
            // The replay of what we have in our own log goes to nobody.
            let request =
                LoadSessionRequest::new(key.clone(), cwd.clone()).mcp_servers(servers.clone()).meta(meta.clone());
            let answer = to_agent.send_request(request).block_task();
            Some(connection.wait(answer).await.map(|loaded| Offered::of(loaded.config_options, loaded.modes)))
        } else {
            None
        };
        match taken_up {
            Some(Ok(offered)) => {
                return Ok(Opened { peer: connection.of(&key), context: LinkContext::Resumed, offered });
            }
            Some(Err(error)) if ends_it(&error) => return Err(error),
            Some(Err(error)) => {
                tracing::warn!(agent.name = %name, %error, "an agent could not take up a conversation");
            }
            None => {}
        }
    }
    let answer = to_agent.send_request(NewSessionRequest::new(cwd).mcp_servers(servers).meta(meta)).block_task();
    let new = connection.wait(answer).await?;
    let peer = connection.of(&new.session_id.to_string());
    Ok(Opened { peer, context: LinkContext::Fresh, offered: Offered::of(new.config_options, new.modes) })
}

/// Mode, model and effort, chosen anew after every beginning: agents do not keep them.
pub(super) async fn choose(
    name: &AgentName,
    choices: &Choices,
    spec: &OpenSpec,
    peer: &mut Peer,
    Offered { mut options, modes }: Offered,
) -> Result<(), Failure> {
    if let Some(mode) = &spec.mode {
        options = modes::choose(name, mode, options, modes, peer).await?;
    } else if let Some(mode) = &choices.mode {
        match set(peer, &options, is_of(SessionConfigOptionCategory::Mode), mode).await {
            Some(answer) => {
                options = answer.map_err(|error| {
                    let message = format!("{name} did not take the mode {mode}: {}", error.message);
                    Failure::new(FailureKind::StartFailed, message)
                })?;
            }
            // It is left as it is: what it asks is answered all the same.
            None => tracing::warn!(agent.name = %name, mode, "the agent offers no choice of modes"),
        }
    }
    if let Some(model) = spec.model.as_ref().or(choices.default_model.as_ref()) {
        let unknown = |why: &str| {
            Failure::new(FailureKind::UnknownModel, format!("{name} does not take the model {model}: {why}"))
        };
        let answer = match &choices.model_option {
            Some(id) => set(peer, &options, |option| *option.id.0 == **id, model).await,
            None => set(peer, &options, is_of(SessionConfigOptionCategory::Model), model).await,
        };
        let answer = answer.ok_or_else(|| unknown("it offers no choice of models"))?;
        options = answer.map_err(|error| unknown(&error.message))?;
    }
    if let Some(effort) = spec.effort {
        let refused = |why: &str| {
            let message = format!("{name} does not take the effort {}: {why}", effort.as_str());
            Failure::new(FailureKind::RequestRejected, message)
        };
        let answer = set(peer, &options, is_of(SessionConfigOptionCategory::ThoughtLevel), effort.as_str()).await;
        let answer = answer.ok_or_else(|| refused("it offers no choice, at least not with this model"))?;
        answer.map_err(|error| refused(&error.message))?;
    }
    Ok(())
}

/// Has the agent close a conversation; false where it does not.
pub(super) async fn let_go(peer: &mut Peer, wait_max: Duration) -> bool {
    let request = CloseSessionRequest::new(peer.session().to_owned());
    let closing = peer.to_agent().send_request(request).block_task();
    match timeout(wait_max, peer.wait(closing)).await {
        Ok(Err(error)) => error.code == ErrorCode::RESOURCE_NOT_FOUND,
        Ok(Ok(_)) => true,
        Err(_) => false,
    }
}

pub(super) fn is_of(category: SessionConfigOptionCategory) -> impl Fn(&SessionConfigOption) -> bool {
    move |option| option.category.as_ref() == Some(&category)
}

/// Chooses a value of an option; all options come back. `None` where it is not offered.
pub(super) async fn set(
    peer: &mut Peer,
    options: &[SessionConfigOption],
    is_meant: impl Fn(&SessionConfigOption) -> bool,
    value: &str,
) -> Option<Result<Vec<SessionConfigOption>, Error>> {
    let option = options.iter().find(|option| is_meant(option))?;
    let request = SetSessionConfigOptionRequest::new(peer.session().to_owned(), option.id.clone(), value);
    let answer = peer.to_agent().send_request(request).block_task();
    Some(peer.wait(answer).await.map(|set| set.config_options))
}

/// Errors after which nothing else is worth trying.
fn ends_it(error: &Error) -> bool {
    error.code == ErrorCode::AUTH_REQUIRED || is_incoming_transport_closed(error) || is_connection_terminated(error)
}
