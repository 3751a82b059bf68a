//! `clawdforge session chat [ID]`: a line, a turn, a line, a turn.
//!
//! A turn is shown as it goes on. A session that was opened here is closed at the end; one that was attached to stays open.
//! Ctrl-C during a turn stops the waiting, between two turns it ends the chat.

mod lines;

use std::io::Write;

use clap::Args;
use clawdforge_api::legacy::{SessionRequest, TurnFailure, TurnRequest};
use clawdforge_core::agent::FailureKind;
use clawdforge_core::event::TurnOutcome;

use super::connection::ConnectionArgs;
use super::failure::CommandError;
use super::interrupts::Interrupts;
use super::io::Io;
use super::screen::Thinking;
use super::telling::{self, Told};
use super::{prompt, settings};
use crate::client::Client;
use crate::error::ClientError;
use crate::session::Session;
use lines::Lines;

/// What a person types behind.
const PROMPT: &str = "> ";

const HELP: &str = "\
Every line is a prompt, also one that begins with another `/`: the agent gets it as text, not as a command of its own.
/help   this
/quit   ends the chat, as Ctrl-D does
Ctrl-C  stops waiting for a turn, which goes on at the service; ends the chat between two turns";

/// Options of `session chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// Id of a session to go on with, which stays open at the end [default: a new one, closed at the end]
    pub id: Option<String>,
    /// The agent of the new session [default: the service's]
    #[arg(long, conflicts_with = "id")]
    pub agent: Option<String>,
    /// Model of the agent [default: the agent's own]
    #[arg(long, conflicts_with = "id")]
    pub model: Option<String>,
    /// Longest time for each turn, in seconds [default: the service's, 120]
    #[arg(long, value_name = "SECS")]
    pub timeout: Option<u64>,
}

/// Why a chat is over.
enum Over {
    /// The end of the input, or `/quit`.
    Done,
    /// An interrupt between two turns.
    Interrupted,
}

pub(super) async fn chat(args: &ChatArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_app(connection, io)?;
    let mut interrupts = std::mem::replace(&mut io.interrupts, Interrupts::never());
    let session = interrupts.or(begin(args, &client, io)).await.ok_or(CommandError::Interrupted)??;
    let over = match Lines::of(prompt::stdin(io)?) {
        Ok(lines) => {
            Chat { client: &client, session: &session, lines, interrupts: &mut interrupts, args }.talk(io).await
        }
        Err(error) => Err(error),
    };
    match args.id {
        Some(_) => {}
        None if matches!(&over, Err(CommandError::Client(error)) if is_final(error)) => {
            session.leave_open();
        }
        None => close(session, &mut interrupts, io).await,
    }
    match over? {
        Over::Done => Ok(()),
        Over::Interrupted => Err(CommandError::Interrupted),
    }
}

/// Opens a session, or looks whether the one named takes turns.
async fn begin(args: &ChatArgs, client: &Client, io: &mut Io) -> Result<Session, CommandError> {
    let session = match &args.id {
        Some(id) => {
            let session = client.session(id)?;
            if session.state().await?.closed_at.is_some() {
                let message = "the session is closed; open a new one".to_owned();
                return Err(ClientError::SessionClosed { status: Some(410), message }.into());
            }
            session
        }
        None => {
            let options =
                SessionRequest { agent: args.agent.clone(), model: args.model.clone(), ..SessionRequest::default() };
            client.open_session(options).await?
        }
    };
    io.say(&format!("session {}; /help says how to go on", session.id()));
    Ok(session)
}

/// No later turn can go better: the token is refused, or the session is not there.
fn is_final(error: &ClientError) -> bool {
    matches!(error.status(), Some(401 | 403 | 404 | 410))
}

async fn close(session: Session, interrupts: &mut Interrupts, io: &mut Io) {
    let closed = interrupts.or(session.close()).await;
    let why = match closed {
        Some(Ok(())) => return,
        Some(Err(error)) => error.to_string(),
        None => "interrupted".to_owned(),
    };
    io.say(&format!(
        "session {} may still be open ({why}); the service closes it when it is idle",
        session.leave_open()
    ));
}

struct Chat<'a> {
    client: &'a Client,
    session: &'a Session,
    lines: Lines,
    interrupts: &'a mut Interrupts,
    args: &'a ChatArgs,
}

impl Chat<'_> {
    /// Takes line after line until the chat is over.
    async fn talk(&mut self, io: &mut Io) -> Result<Over, CommandError> {
        loop {
            show_prompt(io, PROMPT);
            let Some(line) = self.interrupts.or(self.lines.next()).await else {
                show_prompt(io, "\n");
                return Ok(Over::Interrupted);
            };
            let Some(line) = line? else {
                show_prompt(io, "\n");
                return Ok(Over::Done);
            };
            match line.trim() {
                "" => {}
                "/quit" => return Ok(Over::Done),
                "/help" => io.say(HELP),
                _ => self.answer(line, io).await?,
            }
        }
    }

    /// One turn and its ending; an error is one of the chat only if no turn can follow.
    async fn answer(&mut self, prompt: String, io: &mut Io) -> Result<(), CommandError> {
        match self.turn(prompt, io).await {
            Err(CommandError::Client(error)) if !is_final(&error) => {
                io.say(&error.to_string());
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn turn(&mut self, prompt: String, io: &mut Io) -> Result<(), CommandError> {
        let request = TurnRequest { prompt, files: Vec::new(), timeout_secs: self.args.timeout, output_schema: None };
        let begun = self.client.stream_turn(self.session.id(), &request, None);
        let told = match telling::begin(begun, self.interrupts, io).await {
            Some(stream) => telling::tell(&mut stream?, Thinking::OnTerminals, self.interrupts, io).await?,
            None => Told::Interrupted,
        };
        match told {
            Told::Ended(outcome) => self.failure(*outcome).map_or(Ok(()), |failure| Err(failure.into())),
            Told::Interrupted => {
                io.say("no longer waiting; the turn goes on at the service, and the next one comes after it");
                Ok(())
            }
        }
    }

    fn failure(&self, outcome: TurnOutcome) -> Option<ClientError> {
        let is_closed = outcome.failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::SessionClosed);
        let failure = telling::failure(outcome)?;
        if is_closed {
            return Some(ClientError::SessionClosed { status: Some(410), message: failure.error });
        }
        let session_id = self.session.id().to_owned();
        Some(ClientError::TurnFailed(Box::new(TurnFailure { failure, session_id, turn_index: 0, context: None })))
    }
}

/// For a person only: piped, standard error would fill with prompts nobody answers.
fn show_prompt(io: &mut Io, text: &str) {
    if io.stdin_is_terminal && io.stderr_is_terminal {
        // There is nowhere left to report that standard error is gone.
        let _ = io.stderr.write_all(text.as_bytes()).and_then(|()| io.stderr.flush());
    }
}
