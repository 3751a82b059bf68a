//! The call of a turn: while the turn goes on, and until it has left.

use std::future::Future;
use std::pin::Pin;

use clawdforge_process::lines::LineReader;
use clawdforge_process::{ExitReport, Tree};
use tokio::process::ChildStdout;
use tokio::time::{Instant, sleep_until};

use super::stream::Stream;

/// Something that goes on beside the turn.
pub(super) type Doing<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The call that a turn waits on.
pub(super) struct Talk {
    pub tree: Tree,
    pub lines: LineReader<ChildStdout>,
    pub feeding: Option<Doing<()>>,
    pub stream: Stream,
    pub exit: Option<ExitReport>,
    /// Its output has ended.
    pub silent: bool,
    /// When to stop waiting for what is missing of the end.
    pub end_by: Option<Instant>,
    pub cancelled: bool,
}

/// A call whose turn is over.
pub(super) struct Leaving {
    pub tree: Tree,
    pub lines: LineReader<ChildStdout>,
    pub until: Instant,
}

impl Leaving {
    /// Waits for its exit. Cancel-safe.
    pub(super) async fn gone(&mut self) {
        let gone = async {
            // Who does not read on would hold it up.
            while let Ok(Some(_)) = self.lines.next_line().await {}
            self.tree.wait().await;
        };
        tokio::select! {
            () = gone => {}
            () = sleep_until(self.until) => {}
        }
    }
}
