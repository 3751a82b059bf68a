//! `clawdforge session new|turn|get|list|set|fork|close|chat`

mod changes;
mod fork;
mod mcp_config;
mod turn;

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use clawdforge_api::legacy;
use clawdforge_api::v1::SessionRequest;
use serde_json::Value;

use super::chat::{self, ChatArgs};
use super::connection::ConnectionArgs;
use super::failure::CommandError;
use super::io::Io;
use super::settings;
use crate::session::SessionKey;

pub use changes::{ChangeArgs, Choice, SessionSetArgs};
pub use fork::SessionForkArgs;
pub use turn::SessionTurnArgs;

/// Options of `session`.
#[derive(Debug, Args)]
pub struct SessionArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: SessionVerb,
    /// Where the service is.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// What can be done with sessions.
#[derive(Debug, Subcommand)]
pub enum SessionVerb {
    /// Open a session and print its id
    New(SessionNewArgs),
    /// Give a session one prompt and print the answer
    Turn(SessionTurnArgs),
    /// Look at one session
    Get(SessionGetArgs),
    /// List the app's sessions that are open, newest first
    List(SessionListArgs),
    /// Change model, effort, mode or notes of an open session, and print it as it is then
    Set(SessionSetArgs),
    /// Fork a session and print the id of the new one, which knows what this one knows now
    Fork(SessionForkArgs),
    /// Close a session; a turn under way ends. Closing it again is no error
    Close(SessionCloseArgs),
    /// Talk with an agent, line by line
    Chat(ChatArgs),
}

/// Options of opening.
#[derive(Debug, Args)]
pub struct SessionNewArgs {
    /// The agent [default: the service's]
    #[arg(long)]
    pub agent: Option<String>,
    /// Model of the agent [default: the agent's own]
    #[arg(long)]
    pub model: Option<String>,
    /// How hard the model should think [default: the agent's own]
    #[arg(long, value_parser = PossibleValuesParser::new(["low", "medium", "high", "xhigh", "max"]))]
    pub effort: Option<String>,
    /// The agent's own name for how it asks for permission [default: the mode for unattended work]
    #[arg(long)]
    pub mode: Option<String>,
    /// Text for the agent's system prompt
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Whether it comes behind the agent's own or in its place [default: append]
    #[arg(long, value_name = "HOW", requires = "system", value_parser = PossibleValuesParser::new(["append", "replace"]))]
    pub system_mode: Option<String>,
    /// Tool servers for the agent, in the usual form: {"mcpServers": {"NAME": {"command": …}}}
    #[arg(long, value_name = "FILE")]
    pub mcp_config: Option<PathBuf>,
    /// Notes to keep with the session, a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub meta: Option<Value>,
    /// How the service speaks to the agent [default: the service's]
    #[arg(long, value_parser = PossibleValuesParser::new(["acp", "acpx"]))]
    pub driver: Option<String>,
    /// The weakest isolation the agent may run at; the service refuses below [default: what it has]
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(["landlock", "uid", "namespaces"]))]
    pub isolation: Option<String>,
    /// When the agent has forgotten the turns before: give a fresh one the transcript, or fail the turn
    /// [default: the service's, rebuild]
    #[arg(long, value_name = "WHAT", value_parser = PossibleValuesParser::new(["rebuild", "fail"]))]
    pub on_context_loss: Option<String>,
    /// Print the whole reply instead of the id alone
    #[arg(long)]
    pub json: bool,
}

/// Options of looking.
#[derive(Debug, Args)]
pub struct SessionGetArgs {
    /// Id of the session
    pub id: String,
}

/// Options of listing.
#[derive(Debug, Args)]
pub struct SessionListArgs {
    /// Closed ones as well
    #[arg(long)]
    pub include_closed: bool,
}

/// Options of closing.
#[derive(Debug, Args)]
pub struct SessionCloseArgs {
    /// Id of the session
    pub id: String,
}

fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err("it is JSON, but no object".to_owned()),
        Err(error) => Err(format!("it is no JSON: {error}")),
    }
}

pub(super) async fn session(args: &SessionArgs, io: &mut Io) -> Result<(), CommandError> {
    let connection = &args.connection;
    match &args.verb {
        SessionVerb::New(new_args) => new(new_args, connection, io).await,
        SessionVerb::Turn(turn_args) => turn::turn(turn_args, connection, io).await,
        SessionVerb::Get(get_args) => get(get_args, connection, io).await,
        SessionVerb::List(list_args) => list(list_args, connection, io).await,
        SessionVerb::Set(set_args) => changes::set(set_args, connection, io).await,
        SessionVerb::Fork(fork_args) => fork::fork(fork_args, connection, io).await,
        SessionVerb::Close(close_args) => close(close_args, connection, io).await,
        SessionVerb::Chat(chat_args) => chat::chat(chat_args, connection, io).await,
    }
}

async fn new(args: &SessionNewArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_app(connection, io)?;
    let request = legacy::SessionRequest {
        agent: args.agent.clone(),
        meta: args.meta.clone(),
        model: args.model.clone(),
        effort: args.effort.clone(),
        on_context_loss: args.on_context_loss.clone(),
        driver: args.driver.clone(),
        isolation: args.isolation.clone(),
    };
    // What the first versions' endpoint does not know it would pass over; for the rest it stays the one that scripts know.
    let mcp_servers = args.mcp_config.as_deref().map(mcp_config::read).transpose()?;
    let (bytes, id) = if args.mode.is_some() || args.system.is_some() || mcp_servers.is_some() {
        let request = SessionRequest {
            mode: args.mode.clone(),
            system: args.system.clone(),
            system_mode: args.system_mode.clone(),
            mcp_servers: mcp_servers.unwrap_or_default(),
            ..request.into()
        };
        let reply = client.perform(client.session_open_call(&request, None)?).await?;
        (reply.bytes, reply.value.id)
    } else {
        let reply = client.perform(client.open_call(&request)?).await?;
        (reply.bytes, reply.value.session_id)
    };
    if args.json {
        return Ok(io.print_json(&bytes)?);
    }
    Ok(io.print_text(&id)?)
}

async fn get(args: &SessionGetArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_app(connection, io)?;
    let reply = client.perform(client.state_call(&SessionKey::parse(&args.id)?)?).await?;
    Ok(io.print_json(&reply.bytes)?)
}

async fn list(args: &SessionListArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_app(connection, io)?;
    let reply = client.perform(client.sessions_call(args.include_closed)?).await?;
    Ok(io.print_json(&reply.bytes)?)
}

async fn close(args: &SessionCloseArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_app(connection, io)?;
    let reply = client.perform(client.close_call(&SessionKey::parse(&args.id)?)?).await?;
    Ok(io.print_json(&reply.bytes)?)
}
