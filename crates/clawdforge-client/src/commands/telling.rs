//! Shows a turn or run on the screen as it goes on, up to its end.

use clawdforge_api::legacy::RunFailure;
use clawdforge_core::event::TurnOutcome;
use tokio::time::Instant;

use super::failure::CommandError;
use super::interrupts::Interrupts;
use super::io::Io;
use super::progress;
use super::screen::{Screen, Thinking};
use crate::error::ClientError;
use crate::events::EventStream;

/// How the telling came to its end.
pub(super) enum Told {
    /// With the turn.
    Ended(Box<TurnOutcome>),
    /// Nobody waits any more; the turn goes on.
    Interrupted,
}

/// Waits for the stream that `begin` makes, under a progress line; nothing when it was interrupted.
pub(super) async fn begin(
    begin: impl Future<Output = Result<EventStream, ClientError>>,
    interrupts: &mut Interrupts,
    io: &mut Io,
) -> Option<Result<EventStream, ClientError>> {
    let text = |time| format!("running… {}", progress::elapsed(time));
    progress::watch(io, text, interrupts.or(begin)).await
}

/// Shows what `stream` tells.
pub(super) async fn tell(
    stream: &mut EventStream,
    thinking: Thinking,
    interrupts: &mut Interrupts,
    io: &mut Io,
) -> Result<Told, CommandError> {
    let (mut screen, mut outcome) = (Screen::new(thinking), None);
    let started = Instant::now();
    let text = |_| format!("running… {}", progress::elapsed(started.elapsed()));
    loop {
        let next = interrupts.or(stream.next());
        // A progress line would be drawn over what has left its line open.
        let next = if screen.is_at_line_start() { progress::watch(io, text, next).await } else { next.await };
        match next {
            Some(Ok(Some(event))) => {
                screen.show(&event, io)?;
                outcome = event.outcome().cloned().or(outcome);
            }
            Some(Ok(None)) => {
                screen.end_line(io)?;
                let unknown = || ClientError::BadReply("how it ended is told in words of a newer version".to_owned());
                return Ok(Told::Ended(Box::new(outcome.ok_or_else(unknown)?)));
            }
            Some(Err(error)) => {
                screen.end_line(io)?;
                return Err(error.into());
            }
            None => {
                screen.end_line(io)?;
                return Ok(Told::Interrupted);
            }
        }
    }
}

/// What went wrong, with its companions.
pub(super) fn failure(outcome: TurnOutcome) -> Option<RunFailure> {
    let TurnOutcome { failure, stderr, duration_ms, stop_reason, .. } = outcome;
    let failure = failure?;
    let code = failure.kind.code().to_owned();
    Some(RunFailure { ok: false, error: failure.message, code, stderr, duration_ms, stop_reason })
}
