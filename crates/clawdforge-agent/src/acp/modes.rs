//! The mode that a conversation asks for: one of those the agent declares.

use agent_client_protocol::v1::schema::{
    SessionConfigKind, SessionConfigOption, SessionConfigOptionCategory, SessionConfigSelectOptions, SessionModeState,
    SetSessionModeRequest,
};
use clawdforge_core::agent::{AgentName, Failure, FailureKind};
use clawdforge_core::limits::MODE_CHARS_MAX;

use super::opening::{is_of, set};
use super::peer::Peer;

/// Modes that a failure names: more than any known agent has.
const SHOWN_MAX: usize = 32;

/// Has the agent work in a mode. The options, as they are from then on, come back.
pub(super) async fn choose(
    name: &AgentName,
    mode: &str,
    options: Vec<SessionConfigOption>,
    modes: Option<SessionModeState>,
    peer: &mut Peer,
) -> Result<Vec<SessionConfigOption>, Failure> {
    let is_mode = is_of(SessionConfigOptionCategory::Mode);
    let (is_option, known) = match (options.iter().find(|option| is_mode(option)), modes) {
        (Some(option), _) => (true, values(option)),
        (None, Some(older)) => (false, older.available_modes.iter().map(|mode| mode.id.to_string()).collect()),
        (None, None) => (false, Vec::new()),
    };
    if !known.iter().any(|known| known == mode) {
        return Err(unknown_mode(name.as_str(), mode, &known, None));
    }
    let refused = |error: agent_client_protocol::Error| unknown_mode(name.as_str(), mode, &known, Some(&error.message));
    if is_option && let Some(answer) = set(peer, &options, is_mode, mode).await {
        return answer.map_err(refused);
    }
    let request = SetSessionModeRequest::new(peer.session().to_owned(), mode.to_owned());
    let answer = peer.to_agent().send_request(request).block_task();
    peer.wait(answer).await.map_err(refused)?;
    Ok(options)
}

/// The values of an option, in the agent's order.
fn values(option: &SessionConfigOption) -> Vec<String> {
    let SessionConfigKind::Select(select) = &option.kind else { return Vec::new() };
    match &select.options {
        SessionConfigSelectOptions::Ungrouped(options) => options.iter().map(|each| each.value.to_string()).collect(),
        SessionConfigSelectOptions::Grouped(groups) => {
            groups.iter().flat_map(|group| &group.options).map(|each| each.value.to_string()).collect()
        }
        _ => Vec::new(),
    }
}

/// An agent does not have a mode, or has it and refuses it for a reason.
pub(crate) fn unknown_mode(agent: &str, mode: &str, known: &[String], why: Option<&str>) -> Failure {
    let word = |mode: &String| mode.chars().filter(|c| !c.is_control()).take(MODE_CHARS_MAX).collect::<String>();
    let known: Vec<_> = known.iter().take(SHOWN_MAX).map(word).collect();
    let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has: {}", known.join(", ")) };
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    let message = format!("{agent} does not take the mode {mode}{why}; {known}; change the mode of the session");
    Failure::new(FailureKind::UnknownMode, message)
}
