//! What a campaign collects from three sides that do not trust each other: what callers were told, what the
//! service recorded, and what agents did.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a turn's outcome is called in the ledger when nothing went wrong.
pub const COMPLETED: &str = "completed";

/// What it is called when the service died while the agent was at work.
pub const INTERRUPTED: &str = "interrupted";

/// A turn by its session (`ses_…`) and its place there, from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TurnName {
    /// The session.
    pub session: String,
    /// The place.
    pub index: u64,
}

impl TurnName {
    /// A turn as the ledger names it, `ses_…#3`.
    #[must_use]
    pub fn of_subject(subject: &str) -> Option<Self> {
        let (session, index) = subject.split_once('#')?;
        Some(Self { session: session.to_owned(), index: index.parse().ok()? })
    }
}

impl fmt::Display for TurnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.session, self.index)
    }
}

/// A line of the ledger about a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub seq: u64,
    /// The turn.
    pub turn: TurnName,
    /// The outcome, of a `turn_ended`; `None` is a `turn_accepted`.
    pub outcome: Option<String>,
}

/// What became of one prompt, as its caller knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200, with the turn's place and the last line of what the agent said.
    Completed {
        /// The place.
        index: u64,
        /// The last line.
        said: String,
    },
    /// A turn that failed, and why.
    Failed {
        /// The place.
        index: u64,
        /// The code of the failure.
        code: String,
    },
    /// Not accepted: come back later.
    Refused,
    /// The connection broke; the turn may or may not be accepted.
    Silence,
    /// Nothing that a caller can make sense of.
    Odd(String),
}

/// One prompt and what its caller was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The word that only this prompt has.
    pub word: String,
    /// The session it was for.
    pub session: String,
    /// Whether its agent was told to crash.
    pub crashes: bool,
    /// What came back.
    pub answer: Answer,
}

/// One event of a session's log, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub seq: u64,
    /// The id of its turn.
    pub turn: String,
    /// What it is.
    pub what: Happening,
}

/// Kinds of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// The prompt with this word.
    Prompt(String),
    /// The end with this outcome, and the last line of the answer.
    End {
        /// The outcome, as in the ledger.
        outcome: String,
        /// The last line of the answer.
        said: String,
    },
    /// Anything else.
    Other,
}

/// A session as it was found when the campaign was over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Its log.
    pub events: Vec<Seen>,
    /// The words its agents noted, in order.
    pub notes: Vec<String>,
}

/// Everything together.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The ledger's lines about turns, in the order in which it gave them.
    pub ledger: Vec<Line>,
    /// What callers were told.
    pub told: Vec<Told>,
    /// Sessions by id.
    pub sessions: BTreeMap<String, Found>,
}

/// The ledger as it is followed.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The lines about turns so far.
    pub lines: Vec<Line>,
    /// The last number seen, of any line; the cursor of the next page.
    pub cursor: Option<u64>,
    /// Turns that were accepted.
    pub accepted: u64,
    open: BTreeSet<TurnName>,
}

impl Ledger {
    /// Takes in a line.
    pub fn take(&mut self, line: Line) {
        if line.outcome.is_some() {
            self.open.remove(&line.turn);
        } else {
            self.accepted += 1;
            self.open.insert(line.turn.clone());
        }
        self.lines.push(line);
    }

    /// Turns that were accepted and have no outcome yet.
    #[must_use]
    pub fn open(&self) -> &BTreeSet<TurnName> {
        &self.open
    }
}
