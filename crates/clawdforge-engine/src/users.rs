//! The users that agents run as: one for each app, given once, recorded, never given again.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clawdforge_agent::AppUser;
use clawdforge_core::agent::{Failure, FailureKind};
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::id::AppId;
use clawdforge_process::Identity;
use clawdforge_store::CommitError;

use crate::engine::Shared;
use crate::error::EngineError;
use crate::files::{make_private_dir, open_to_pass};
use crate::owner::run::unprepared;

/// Name of the folder of homes below the data directory.
const HOMES_DIR: &str = "homes";

/// Tries to give an app a number that another app is given at the same moment.
const TRIES_MAX: usize = 16;

/// Which users there are. Agents run as the service's own without one.
pub(crate) struct Users {
    range: RangeInclusive<u32>,
    homes: PathBuf,
}

impl Users {
    /// The users of this range, with their homes below the data directory.
    pub fn new(range: RangeInclusive<u32>, data_dir: &Path) -> Result<Self, EngineError> {
        let homes = data_dir.join(HOMES_DIR);
        let made = make_private_dir(&homes).and_then(|()| open_to_pass(&homes)).and_then(|()| homes.canonicalize());
        let homes =
            made.map_err(|error| EngineError::Internal(format!("cannot create {}: {error}", homes.display())))?;
        Ok(Self { range, homes })
    }

    fn home(&self, number: u32) -> Result<AppUser, Failure> {
        let identity = Identity::new(number).ok_or_else(|| unprepared("a recorded user is out of bounds"))?;
        let home = self.homes.join(number.to_string());
        let made: io::Result<()> = make_private_dir(&home).and_then(|()| identity.give(&home));
        made.map_err(|error| unprepared(&format!("{}: {error}", home.display())))?;
        Ok(AppUser { identity, home })
    }
}

impl Shared {
    /// The user that an app's agents run as; `None` where they run as the service's own.
    pub(crate) async fn user_of(&self, app: AppId) -> Result<Option<AppUser>, Failure> {
        let Some(users) = &self.users else { return Ok(None) };
        let unread = |error: clawdforge_store::ReadError| unprepared(&error.to_string());
        for _ in 0..TRIES_MAX {
            if let Some(number) = self.store.agent_users.agent_user(app).await.map_err(unread)? {
                return users.home(number).map(Some);
            }
            let last = self.store.agent_users.last_agent_user().await.map_err(unread)?;
            let next = last.map_or(*users.range.start(), |last| last.saturating_add(1).max(*users.range.start()));
            if !users.range.contains(&next) {
                tracing::error!(%next, "every user of `isolation_users` is given away; widen the range");
                let message = "the service has no user left to run this app's agents as; tell its operator";
                return Err(Failure::new(FailureKind::Internal, message));
            }
            let commit = Commit { writes: vec![Write::AddAgentUser(app, next)], ..Commit::default() };
            match self.recorder.plain(commit).await {
                // Given just now, to this app or to another one: the next look tells.
                Ok(()) | Err(CommitError::Unexpected { .. } | CommitError::Unknown(_)) => {}
                Err(error @ CommitError::Unavailable(_)) => return Err(unprepared(&error.to_string())),
            }
        }
        Err(unprepared("no user could be recorded for an app"))
    }
}
