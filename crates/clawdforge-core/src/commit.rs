//! The closed list of durable changes.
//!
//! A [`Commit`] is one atomic change: every precondition holds and every write and ledger line is
//! on disk, or nothing happened. Because the list is closed, the compiler tells a store what it
//! lacks, and faults can be injected in one place.

use crate::app::{App, AppToken};
use crate::event::{Event, EventBody, TurnOutcome};
use crate::file::File;
use crate::id::{AppId, FileId, HostId, SessionId, TokenId, TurnId};
use crate::idempotency::KeptKey;
use crate::ledger::LedgerEntry;
use crate::session::{Conversation, Equipment, ForkPoint, Session};
use crate::time::Timestamp;
use crate::turn::{Turn, TurnState};

/// One atomic change to the store.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Commit {
    /// What must be true for the change to happen.
    pub expects: Vec<Expect>,
    /// The changes, in order.
    pub writes: Vec<Write>,
    /// The lines for the ledger, in order.
    pub ledger: Vec<LedgerEntry>,
}

/// A precondition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// The app of this name has no live token.
    NoLiveToken(crate::app::AppName),
    /// The token is live.
    TokenLive(TokenId),
    /// The turn is in this state.
    TurnIs(TurnId, TurnState),
    /// The turn has no outcome yet.
    TurnUnfinished(TurnId),
    /// The file exists.
    FileExists(FileId),
    /// The app has not used this key for a request, or so long ago that it is forgotten.
    KeyUnused(AppId, String),
    /// The session exists and is not closed.
    SessionOpen(SessionId),
    /// The session is open, has no turn without an outcome, and was not used since.
    SessionIdle(SessionId, Timestamp),
}

/// One durable change.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Registers an app; nothing happens if it is there.
    AddApp(App, Timestamp),
    /// Stores a token under its hash.
    AddToken(AppToken),
    /// Gives an app's agents a user, by its number. Refused where the app has one or the number is taken.
    AddAgentUser(AppId, u32),
    /// Ends a token's life.
    RevokeToken(TokenId, Timestamp),
    /// Stores what is known of an upload whose bytes are already on disk.
    AddFile(File),
    /// Forgets an upload.
    RemoveFile(FileId),
    /// Opens a session.
    OpenSession(Session),
    /// Keeps what the agent of a conversation is given; once, with its opening.
    EquipSession(SessionId, Equipment),
    /// Accepts a turn. Of a conversation's turn, the prompt is kept with it until it starts.
    QueueTurn(Turn, Option<EventBody>),
    /// Marks a queued turn as running, and lets go of its prompt, which is in the log from then on.
    StartTurn(TurnId, Timestamp),
    /// Remembers the process tree of a running turn, so that recovery can find it.
    NoteProcess(TurnId, String),
    /// Remembers the process tree of a warm conversation, so that recovery can find it, or that there is
    /// none any more.
    NoteLink(SessionId, Option<String>),
    /// Remembers an agent process that is about to be started for conversations to share. Its id is its mark.
    NoteHost(HostId, Timestamp),
    /// Forgets such a process, which is gone.
    ForgetHost(HostId),
    /// Remembers the agent's own id of a conversation, by which it can be gone on with, or that there is none
    /// any more.
    NoteResume(SessionId, Option<String>),
    /// Remembers where a conversation that has just been opened was forked from.
    NoteFork(SessionId, ForkPoint),
    /// Gives a conversation what its caller chose anew: model, effort, mode and notes.
    ChangeConversation(SessionId, Conversation),
    /// Closes a conversation: no turn is taken from then on.
    CloseSession(SessionId, Timestamp),
    /// Remembers what came of a request that may be sent again.
    KeepKey(KeptKey),
    /// Forgets keys that were kept before this.
    TrimKeys(Timestamp),
    /// Appends events. The store refuses numbers that do not follow on.
    AppendEvents(Vec<Event>),
    /// Notes that a turn is to be stopped. It ends as soon as whoever owns it hears of that, or before it begins.
    AskCancel(TurnId, Timestamp),
    /// Gives a turn its outcome.
    EndTurn(TurnId, Timestamp, TurnOutcome),
    /// Erases a session with its turns and events.
    EraseSession(SessionId),
    /// Erases ledger lines older than this, the oldest first, at most
    /// [`LEDGER_LINES_PER_TRIM_MAX`](crate::limits::LEDGER_LINES_PER_TRIM_MAX) of them.
    TrimLedger(Timestamp),
}
