//! Rust SDK of clawdforge and the command-line verbs built on it.
//!
//! [`Client`] is the SDK: one method per endpoint, typed requests and replies from
//! [`clawdforge_api`], errors split by what a caller would do next ([`ClientError`]). [`commands`]
//! holds the verbs of the command line as clap types that the binary embeds.
//!
//! ```no_run
//! use clawdforge_client::{Client, ClientError, SessionOptions, TurnRequest};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("http://127.0.0.1:8800").token("cf_…").build()?;
//! let session = client.open_session(SessionOptions::default()).await?;
//! for prompt in ["My name is Ada.", "What is my name?"] {
//!     let turn = session.turn(TurnRequest { prompt: prompt.to_owned(), ..TurnRequest::default() }).await;
//!     match turn {
//!         Ok(turn) => println!("{}", turn.text()),
//!         Err(ClientError::TurnFailed(told)) => println!("{} (the session goes on)", told.failure.error),
//!         Err(error) => return Err(error.into()),
//!     }
//! }
//! session.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! What a run, turn or session does is told as it happens, over connections that need not last:
//!
//! ```no_run
//! # use clawdforge_client::{Client, ClientError, RunRequest};
//! # async fn example(client: Client) -> Result<(), ClientError> {
//! let request = RunRequest { prompt: "Tell me a story.".to_owned(), ..RunRequest::default() };
//! let mut events = client.stream_run(&request, Some("story-1")).await?;
//! while let Some(event) = events.next().await? {
//!     print!("{}", event.text().unwrap_or_default());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What holds everywhere in this crate:
//!
//! - A token is a [`SecretString`]: no `Debug` output, error or log line shows it.
//! - No redirect is followed and no proxy of the environment is used, so a token travels to the
//!   base URL and nowhere else.
//! - No work is asked for twice: trying again is the caller's decision, and safe with an idempotency key. Only
//!   following, which changes nothing, is taken up again ([`EventStream`]).
//! - Every wait and every reply is bounded ([`limits`]), except an upload as a whole, which takes as
//!   long as its bytes take.

mod bearer;
mod builder;
mod calls;
mod client;
pub mod commands;
mod error;
mod events;
mod ledger;
pub mod limits;
mod reply;
mod run;
mod session;
mod token;
mod upload;
mod v1;

pub use builder::{BuildError, ClientBuilder};
pub use clawdforge_api::admin::{LedgerEntry, LedgerPage};
pub use clawdforge_api::legacy::{
    FileReply, Health, MintRequest, RunFailure, RunReply, RunRequest, SessionList, SessionRequest as SessionOptions,
    SessionState, TokenRow, TurnEvent, TurnFailure, TurnReply as TurnResult, TurnRequest, TurnUsage, ValidationFault,
};
pub use clawdforge_api::{problem, v1 as shapes};
pub use clawdforge_core::event::{ContextSource, EventBody, EventSeq, TurnOutcome};
pub use client::Client;
pub use error::{ClientError, TokenKind};
pub use events::{Event, EventKind, EventSource, EventStream};
pub use ledger::{LedgerOrder, LedgerQuery};
pub use run::RunReplyExt;
pub use secrecy::{ExposeSecret, SecretString};
pub use session::Session;
pub use token::MintedToken;
pub use v1::{MintedV1Token, PageQuery};
