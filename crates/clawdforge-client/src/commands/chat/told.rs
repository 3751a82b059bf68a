//! What a turn tells while it goes on, as the screen is shown it.
//!
//! The service answers at the end of a turn, so today everything comes at once. A stream from the service takes the
//! place of [`follow`]; nothing else has to know.

use clawdforge_api::legacy::{TurnEvent, TurnReply, TurnRequest};
use futures_util::stream::{self, Stream, StreamExt};

use crate::error::ClientError;
use crate::session::Session;

/// One thing a turn tells.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    /// Where the agent had the turns before from.
    Context(String),
    /// Something the agent did.
    Event(TurnEvent),
    /// The turn is over.
    Ended(End),
}

/// How a turn ended.
#[derive(Debug, PartialEq)]
pub(super) struct End {
    /// The agent's word for why it stopped.
    pub(super) stop_reason: String,
    /// Something was left out.
    pub(super) is_cut: bool,
}

/// Makes a turn and tells of it, in order, up to its end or the error that it ended with. Dropping it stops the
/// telling, not the turn.
pub(super) fn follow(session: &Session, request: TurnRequest) -> impl Stream<Item = Result<Told, ClientError>> {
    stream::once(session.turn(request)).flat_map(|outcome| {
        let told: Vec<_> = match outcome {
            Ok(reply) => tell(reply).map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(told)
    })
}

fn tell(reply: TurnReply) -> impl Iterator<Item = Told> {
    let end = End { stop_reason: reply.stop_reason, is_cut: reply.events_truncated };
    let context = reply.context.map(Told::Context);
    context.into_iter().chain(reply.events.into_iter().map(Told::Event)).chain([Told::Ended(end)])
}
