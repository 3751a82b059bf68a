//! When the service is killed, and how.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::callers::Stage;
use super::chance::Chance;
use crate::app::{TestApp, poll_pause};

/// The longest wait for a moment that nothing leads up to: some turns of every session.
const ANY_WITHIN: Duration = Duration::from_millis(500);

/// How long after something happened the service is killed because of it: about as long as what follows it takes.
const AFTER_WITHIN: Duration = Duration::from_millis(8);

/// How long after a start the service is killed again at once: promised turns begin then.
const AGAIN_WITHIN: Duration = Duration::from_millis(60);

/// How long a start may go on that is cut, when nothing holds it up: about as long as it takes.
const START_WITHIN: Duration = Duration::from_millis(60);

/// How long a start may go on that is cut, when it ends processes that will not end when asked, which are given
/// two seconds.
const LONG_START_WITHIN: Duration = Duration::from_millis(2_500);

/// How long the service is held.
const HELD_WITHIN: Duration = Duration::from_millis(120);

/// How long something that a moment waits for may take; then it is any moment.
const AIM_MAX: Duration = Duration::from_secs(2);

/// What leads up to a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Nothing.
    Any,
    /// A request was sent just now.
    AfterRequest,
    /// A turn was answered just now.
    AfterAnswer,
    /// An agent or a process of one appeared just now.
    AfterBirth,
    /// The service has just come up, and goes on with what was promised.
    AfterStart,
    /// The service is starting.
    DuringStart,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "at any moment",
            Self::AfterRequest => "just after a request",
            Self::AfterAnswer => "just after an answer",
            Self::AfterBirth => "just after the birth of a process",
            Self::AfterStart => "just after a start",
            Self::DuringStart => "during a start",
        })
    }
}

impl Moment {
    /// One of those that a service which is up is killed at.
    pub fn draw(chance: &mut Chance) -> Self {
        match chance.below(10) {
            0..4 => Self::Any,
            4..6 => Self::AfterRequest,
            6..8 => Self::AfterAnswer,
            8 => Self::AfterBirth,
            _ => Self::AfterStart,
        }
    }

    /// Waits until it has come.
    pub async fn come(self, app: &TestApp, stage: &Stage, chance: &mut Chance) {
        let within = match self {
            Self::Any | Self::DuringStart => ANY_WITHIN,
            Self::AfterRequest | Self::AfterAnswer | Self::AfterBirth => AFTER_WITHIN,
            Self::AfterStart => AGAIN_WITHIN,
        };
        let wait = chance.within(within);
        let led_up = async {
            match self {
                Self::Any | Self::AfterStart | Self::DuringStart => {}
                Self::AfterRequest => stage.sent.notified().await,
                Self::AfterAnswer => stage.answered.notified().await,
                Self::AfterBirth => born(app).await,
            }
        };
        // Where nothing leads up to it, it is a moment like any other.
        let _ = tokio::time::timeout(AIM_MAX, led_up).await;
        tokio::time::sleep(wait).await;
    }
}

/// How long a start is left before it is cut.
pub fn of_start(chance: &mut Chance) -> Duration {
    let within = if chance.once_in(3) { LONG_START_WITHIN } else { START_WITHIN };
    chance.within(within)
}

async fn born(app: &TestApp) {
    let before: BTreeSet<i32> = app.agent_processes().into_iter().collect();
    while app.agent_processes().iter().all(|pid| before.contains(pid)) {
        poll_pause().await;
    }
}

/// Kills the service and waits for its end. Now and then it is held first, so that its agents go on without it,
/// and sometimes let go again. True when it was held.
///
/// # Errors
/// When it is not there any more: then it did not die of this.
pub async fn kill(app: &mut TestApp, chance: &mut Chance) -> anyhow::Result<bool> {
    let held = chance.once_in(8);
    if held {
        app.signal(Signal::STOP)?;
        tokio::time::sleep(chance.within(HELD_WITHIN)).await;
        if chance.once_in(2) {
            app.signal(Signal::CONT)?;
            tokio::time::sleep(chance.within(AFTER_WITHIN)).await;
        }
    }
    app.signal(Signal::KILL)?;
    app.ended().await?;
    Ok(held)
}

/// How long something took, in milliseconds.
#[must_use]
pub fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
