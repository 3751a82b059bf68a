//! Opens links to one configured one-shot agent.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use clawdforge_core::agent::{AgentName, Failure, FailureKind};
use clawdforge_core::output::OutputSchema;
use clawdforge_process::Spawner;
use tokio::fs::DirBuilder;

use super::command::{launch, system_file, takes};
use super::link::{OneShotLink, Start};
use crate::confine;
use crate::files::write_private;
use crate::home::hand_over;
use crate::locate::{Found, locate};
use crate::network;
use crate::profile::Profile;
use crate::surroundings::{surroundings, tmp_dir};
use crate::version::{VersionError, Versions};
use crate::{AgentDriver, AgentLimits, AgentLink, OpenSpec, Presence};

/// The driver of one agent that speaks as `claude -p` does.
pub struct OneShotDriver {
    profile: Profile,
    spawner: Spawner,
    versions: Arc<Versions>,
    limits: AgentLimits,
}

impl OneShotDriver {
    /// A driver for an agent as configured.
    #[must_use]
    pub fn new(profile: Profile, spawner: Spawner, versions: Arc<Versions>) -> Self {
        Self { profile, spawner, versions, limits: AgentLimits::default() }
    }

    /// The same with limits of its own.
    #[must_use]
    pub fn limited(self, limits: AgentLimits) -> Self {
        Self { limits, ..self }
    }

    /// The agent as configured.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Where the program is.
    ///
    /// # Errors
    /// See [`locate`].
    pub fn locate(&self) -> Result<Found, Failure> {
        locate(&self.profile)
    }

    /// Asks the program for its version unless it is known, and remembers it. Afterwards
    /// [`AgentDriver::presence`] knows it. Meant to run beside the start of the service.
    ///
    /// # Errors
    /// [`VersionError`]; nothing is remembered then.
    pub async fn refresh_version(&self) -> Result<String, VersionError> {
        let found = self.locate().map_err(VersionError::Missing)?;
        self.versions.refresh(&self.spawner, &self.profile, &found.path).await
    }
}

#[async_trait]
impl AgentDriver for OneShotDriver {
    fn name(&self) -> &AgentName {
        &self.profile.name
    }

    fn presence(&self) -> Presence {
        let program = self.locate().ok().map(|found| found.path);
        let version = program.as_deref().and_then(|program| self.versions.known(program));
        Presence { program, version }
    }

    fn takes_schema(&self, schema: &OutputSchema) -> bool {
        takes(schema)
    }

    fn limits(&self) -> AgentLimits {
        self.limits
    }

    fn check(&self) -> Result<(), Failure> {
        self.locate().map(drop)
    }

    async fn open(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, Failure> {
        let found = self.locate()?;
        prepare(&spec).await.map_err(|error| {
            tracing::error!(agent.name = %self.profile.name, error = %error, "could not prepare an agent's private folder");
            Failure::new(FailureKind::StartFailed, "the agent's private folder could not be written; is the disk full?")
        })?;
        let env = surroundings(&self.profile, spec.home.as_ref(), &spec.scratch, &spec.mark).await?;
        let mut launch = launch(&self.profile, &spec, env);
        let passage = network::admit(&self.profile, spec.app.as_ref(), &mut launch.env)?;
        let write = vec![spec.workspace.clone(), spec.scratch];
        let mut sandbox = confine::sandbox(&self.profile, &launch.env, spec.home.as_ref(), write);
        passage.open(sandbox.as_mut(), &mut launch.env);
        let start = Start {
            spawner: self.spawner.clone(),
            agent: self.profile.name.to_string(),
            program: found.path,
            sandbox,
            passage,
            launch,
            workspace: spec.workspace,
            mark: spec.mark,
        };
        Ok(Box::new(OneShotLink::new(start, spec.model.unwrap_or_default())))
    }
}

/// Lays down what the agent finds in its private folder.
async fn prepare(spec: &OpenSpec) -> io::Result<()> {
    let tmp = tmp_dir(&spec.scratch);
    DirBuilder::new().recursive(true).mode(0o700).create(&tmp).await?;
    hand_over(spec.home.as_ref(), &tmp)?;
    if let Some(text) = &spec.system {
        let file = system_file(&spec.scratch);
        write_private(&file, text.as_bytes()).await?;
        hand_over(spec.home.as_ref(), &file)?;
    }
    Ok(())
}
