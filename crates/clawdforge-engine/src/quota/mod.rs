//! How much the workspace of a run or a conversation may take on the disk, and what is done about more.
//!
//! Nothing of the kernel's counts it for us on every file system, so it is looked at ([`count`]), on threads that may wait:
//!
//! - *While a turn is played*, every few seconds. A turn that is found above is ended as by a time limit. In between an
//!   agent writes as fast as the disk takes it.
//! - *While a warm agent rests*, more seldom, because what it left running may go on writing. It is ended then.
//! - *Before a turn* only where it costs nothing that anybody notices, or is needed: without a warm agent, whose start
//!   takes longer than the look; when the last look found little room for what the turn brings, left something out, or is
//!   old. A rest is shorter than a look takes to be old, so a turn of a warm agent with room does not wait for one.
//!
//! What cannot be counted twice in a row, because folders are closed or the time does not suffice, is taken for too much:
//! an agent must not hide what it writes. Once may happen to an honest one, and a tool's trial with a closed folder
//! is over by the next look.
//!
//! What is too full stays so for its agent: no turn begins, so none can delete anything. The way out is to close the session,
//! with whose end the folder goes, or the operator's.
//!
//! There are at most as many looks at a time as there are slots.

mod count;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clawdforge_core::agent::{Failure, FailureKind};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::count::{Bounds, Count, Excess, LeftOut, count};
pub(crate) use self::count::{FOLDER, open_below};

/// Pause between two looks while a turn is played, in which a fast disk takes some gigabytes.
const TURN_LOOK_PAUSE: Duration = Duration::from_secs(3);

/// Pause between two looks at what rests.
const REST_LOOK_PAUSE: Duration = Duration::from_secs(10);

/// A look may take one part in so many of the time, so that large folders are looked at less often.
const LOOK_SHARE: u32 = 10;

/// The longest pause that comes of this, so that a large folder is no way not to be looked at.
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Age of a look that a turn does not begin upon any more: longer than a rest between two.
const LOOK_AGE_MAX: Duration = Duration::from_secs(40);

/// Files and folders of one workspace; a large JavaScript project has some hundred thousand. Half a million are looked at in
/// about a second (measured: 100,000 in 0.17 s).
pub(crate) const ENTRIES_MAX: usize = 500_000;

/// Folders in each other; the deepest trees of dependencies have some dozens. It bounds what opening one costs.
pub(crate) const DEPTH_MAX: usize = 256;

/// The longest time of a look: many times what the most files take on a disk that is not ill.
const LOOK_TIME_MAX: Duration = Duration::from_secs(20);

/// What a workspace may take, and what was seen of it last.
#[derive(Debug)]
pub(crate) struct Meter {
    root: PathBuf,
    bytes_max: u64,
    way_out: &'static str,
    seen: Mutex<Seen>,
}

/// What the last look found.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    at: Option<Instant>,
    bytes: u64,
    /// Something was left out.
    part: bool,
    full: bool,
}

impl Meter {
    /// For the workspace of a run.
    pub fn of_run(root: PathBuf, bytes_max: u64) -> Arc<Self> {
        Self::new(root, bytes_max, "ask for what writes less, or have the operator raise workspace_bytes_max")
    }

    /// For the workspace of a conversation.
    pub fn of_conversation(root: PathBuf, bytes_max: u64) -> Arc<Self> {
        let way_out = "close the session and open another, or have the operator raise workspace_bytes_max or delete \
                       files in it";
        Self::new(root, bytes_max, way_out)
    }

    fn new(root: PathBuf, bytes_max: u64, way_out: &'static str) -> Arc<Self> {
        Arc::new(Self { root, bytes_max, way_out, seen: Mutex::default() })
    }

    /// Whether the last look found too much.
    pub fn is_full(&self) -> bool {
        self.seen().full
    }

    /// Whether a turn may begin that brings so many bytes; looks first where the last look does not say it.
    ///
    /// # Errors
    /// The failure of a turn in a workspace that is too full, or would be.
    pub async fn room_for(&self, more: u64, is_warm: bool, given_up: &CancellationToken) -> Result<(), Failure> {
        if !is_warm || self.seen().is_doubtful(Instant::now(), more, self.bytes_max) {
            self.look(given_up).await?;
        }
        let bytes = self.seen().bytes.saturating_add(more);
        if more == 0 || bytes <= self.bytes_max {
            // The next look is not before the next turn, which may bring more.
            self.seen().bytes = bytes;
            return Ok(());
        }
        Err(self.failure(&format!("would take {} of the disk with the attached files", shown(bytes))))
    }

    /// Resolves when a look during a turn finds too much.
    pub async fn full_in_turn(self: Arc<Self>) -> Failure {
        self.full(TURN_LOOK_PAUSE).await
    }

    /// Resolves when a look at what rests finds too much.
    pub async fn full_at_rest(self: Arc<Self>) -> Failure {
        self.full(REST_LOOK_PAUSE).await
    }

    async fn full(&self, pause: Duration) -> Failure {
        let unwanted = CancellationToken::new();
        let mut next = pause;
        loop {
            sleep(next).await;
            let began = Instant::now();
            if let Err(failure) = self.look(&unwanted).await {
                return failure;
            }
            next = pause_after(pause, began.elapsed());
        }
    }

    /// Looks once. Who drops this ends the count.
    async fn look(&self, given_up: &CancellationToken) -> Result<(), Failure> {
        let (root, wanted) = (self.root.clone(), given_up.child_token());
        let _no_longer = wanted.clone().drop_guard();
        let bounds = Bounds { bytes: self.bytes_max, entries: ENTRIES_MAX, depth: DEPTH_MAX, time: LOOK_TIME_MAX };
        match tokio::task::spawn_blocking(move || count(&root, bounds, &wanted)).await {
            Ok(counted) => self.judge(counted),
            Err(error) => {
                tracing::error!(path = %self.root.display(), %error, "counting what a workspace takes panicked");
                Ok(())
            }
        }
    }

    fn judge(&self, counted: Count) -> Result<(), Failure> {
        let before = *self.seen();
        let at = Some(Instant::now());
        let (seen, holds) = match counted {
            Count::GivenUp => return Ok(()),
            Count::Whole(bytes) => (Seen { at, bytes, part: false, full: false }, String::new()),
            Count::Part(bytes, LeftOut::Failed(error)) => {
                // The machine's failure is not the agent's.
                tracing::error!(path = %self.root.display(), %error, "what a workspace takes could not be counted");
                (Seen { at, bytes, part: false, full: false }, String::new())
            }
            Count::Part(bytes, why) => {
                tracing::warn!(path = %self.root.display(), reason = ?why, "a part of a workspace could not be counted");
                let holds = match why {
                    LeftOut::Closed => "has folders that the service may not look into".to_owned(),
                    _ => format!("takes longer than {} s to count", LOOK_TIME_MAX.as_secs()),
                };
                (Seen { at, bytes, part: true, full: before.part }, holds)
            }
            Count::Over(excess) => {
                let (bytes, holds) = match excess {
                    Excess::Bytes(bytes) => (bytes, format!("takes at least {} of the disk", shown(bytes))),
                    Excess::Entries => (self.bytes_max, format!("holds more than {ENTRIES_MAX} files")),
                    Excess::Depth => (self.bytes_max, format!("has more than {DEPTH_MAX} folders in each other")),
                };
                (Seen { at, bytes, part: false, full: true }, holds)
            }
        };
        *self.seen() = seen;
        if seen.full { Err(self.failure(&holds)) } else { Ok(()) }
    }

    fn failure(&self, holds: &str) -> Failure {
        let message = format!("the workspace {holds}, and {} are allowed; {}", shown(self.bytes_max), self.way_out);
        Failure::new(FailureKind::WorkspaceFull, message)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // It is changed in one step, so a poisoned one is usable.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Whether a turn that brings so many bytes needs another look. Three quarters are near enough for one.
    fn is_doubtful(self, now: Instant, more: u64, bytes_max: u64) -> bool {
        let is_old = self.at.is_none_or(|at| now.saturating_duration_since(at) > LOOK_AGE_MAX);
        is_old || self.part || self.full || self.bytes.saturating_add(more) > bytes_max / 4 * 3
    }
}

/// The pause after a look that took so long.
fn pause_after(pause: Duration, took: Duration) -> Duration {
    took.saturating_mul(LOOK_SHARE).clamp(pause, LOOK_PAUSE_MAX)
}

/// A number of bytes for people.
fn shown(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, bits)| bytes >> bits > 0);
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(name, bits)| {
            let tenths = ((bytes & ((1 << bits) - 1)) * 10) >> bits;
            if tenths == 0 { format!("{} {name}", bytes >> bits) } else { format!("{}.{tenths} {name}", bytes >> bits) }
        },
    )
}

#[cfg(test)]
mod tests;
