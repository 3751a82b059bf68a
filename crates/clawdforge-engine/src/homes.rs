//! Who agents run as and where they live: a user for each app, given once, recorded, never given again; a home
//! for each agent of each app. And what an app's token lets them reach.
//!
//! `homes/<app>/<agent>` is a home of the service's own user, `homes/<number>/<agent>` one of a user of an app's; they
//! stay when the app is revoked. `sessions/<session>/home` is one of a session's. What is between the data directory and
//! a home is the service's, so that nobody puts something else into the place of a home.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clawdforge_agent::Home;
use clawdforge_core::agent::{AgentName, Failure, FailureKind};
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::id::AppId;
use clawdforge_core::network::{AppNetwork, NetworkRule};
use clawdforge_process::Identity;
use clawdforge_store::CommitError;

use crate::engine::Shared;
use crate::error::EngineError;
use crate::files::{make_private_dir, open_to_pass};
use crate::options::{AgentHome, EngineOptions};
use crate::owner::run::unprepared;
use crate::workspace::Workspace;

/// Name of the folder of homes below the data directory.
const HOMES_DIR: &str = "homes";

/// Tries to give an app a number that another app is given at the same moment.
const TRIES_MAX: usize = 16;

/// Which homes and users there are.
pub(crate) struct Homes {
    kind: AgentHome,
    users: Option<RangeInclusive<u32>>,
    dir: PathBuf,
}

impl Homes {
    /// The homes below the data directory.
    pub fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        let dir = options.data_dir.join(HOMES_DIR);
        let made = || {
            make_private_dir(&dir)?;
            if options.users.is_some() {
                open_to_pass(&dir)?;
            }
            dir.canonicalize()
        };
        let dir = made().map_err(|error| EngineError::Internal(format!("cannot create {}: {error}", dir.display())))?;
        Ok(Self { kind: options.agent_home, users: options.users.clone(), dir })
    }

    /// The home of an agent, which need not be there yet; `None` where it is the service's own.
    fn home(&self, app: AppId, owner: Option<Identity>, agent: &AgentName, workspace: &Workspace) -> Option<Home> {
        match self.kind {
            AgentHome::Shared => None,
            AgentHome::App => {
                Some(Home { path: self.of_app(app, owner).join(agent.as_str()), owner, is_passing: false })
            }
            AgentHome::Session => Some(Home { path: workspace.home(), owner, is_passing: true }),
        }
    }

    /// Named after the user where there is one: what lies there is of no use to another user.
    fn of_app(&self, app: AppId, owner: Option<Identity>) -> PathBuf {
        match owner {
            Some(owner) => self.dir.join(owner.number().to_string()),
            None => self.dir.join(Path::new(&app.to_string())),
        }
    }
}

/// Makes a home and the way to it. Blocking.
fn make(home: &Home) -> io::Result<()> {
    if let Some(around) = home.path.parent() {
        make_private_dir(around)?;
        if home.owner.is_some() {
            open_to_pass(around)?;
        }
    }
    home.make()
}

impl Shared {
    /// What an app lets its agents reach. Of an app whose token is gone, nothing: what it said is not known any
    /// more.
    pub(crate) fn network_of(&self, app: AppId) -> AppNetwork {
        match self.tokens.of_app(app) {
            Some(token) => AppNetwork { app: token.app.name.to_string(), rule: token.network.clone() },
            None => AppNetwork { app: app.to_string(), rule: Some(NetworkRule::None) },
        }
    }

    /// Where an agent lives that works for an app, and whose that home is, made if need be; `None` where it is the
    /// service's own.
    pub(crate) async fn home_of(
        &self,
        app: AppId,
        agent: &AgentName,
        workspace: &Workspace,
    ) -> Result<Option<Home>, Failure> {
        let owner = match self.homes.users.clone() {
            Some(range) => Some(self.user_of(app, &range).await?),
            None => None,
        };
        let Some(home) = self.homes.home(app, owner, agent, workspace) else { return Ok(None) };
        let shown = home.path.display().to_string();
        // A disk that does not answer must hold up this agent alone.
        let made = tokio::task::spawn_blocking(move || make(&home).map(|()| home)).await;
        let made = made.map_err(|error| unprepared(&error.to_string()))?;
        made.map(Some).map_err(|error| unprepared(&format!("{shown}: {error}")))
    }

    /// The user that an app's agents run as.
    async fn user_of(&self, app: AppId, range: &RangeInclusive<u32>) -> Result<Identity, Failure> {
        let unread = |error: clawdforge_store::ReadError| unprepared(&error.to_string());
        for _ in 0..TRIES_MAX {
            if let Some(number) = self.store.agent_users.agent_user(app).await.map_err(unread)? {
                return Identity::new(number).ok_or_else(|| unprepared("a recorded user is out of bounds"));
            }
            let last = self.store.agent_users.last_agent_user().await.map_err(unread)?;
            let next = last.map_or(*range.start(), |last| last.saturating_add(1).max(*range.start()));
            if !range.contains(&next) {
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
