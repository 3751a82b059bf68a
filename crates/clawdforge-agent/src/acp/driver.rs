//! Opens links to one configured agent.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_core::agent::{AgentName, Failure};
use clawdforge_process::Spawner;

use super::host::AcpHost;
use super::info::AgentInfo;
use crate::locate::locate;
use crate::profile::Profile;
use crate::{AgentDriver, AgentHost, AgentLink, HostSpec, Hosting, OpenSpec, Presence};

/// The driver of one agent that speaks the Agent Client Protocol.
pub struct AcpDriver {
    profile: Profile,
    mode: Option<String>,
    spawner: Spawner,
}

impl AcpDriver {
    /// A driver for an agent as configured. `mode` is the agent's own name for how it asks for permission;
    /// it is chosen for every conversation, where the agent offers it.
    #[must_use]
    pub fn new(profile: Profile, mode: Option<String>, spawner: Spawner) -> Self {
        Self { profile, mode, spawner }
    }

    /// What is configured.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Asks the agent what it is and can do. It is started for that and ended again.
    ///
    /// # Errors
    /// As [`AgentDriver::host`].
    pub async fn describe(&self, spec: HostSpec, grace: Duration) -> Result<AgentInfo, Failure> {
        let host = self.greeted(spec).await?;
        let info = AgentInfo::of(host.offered());
        host.end(grace).await;
        Ok(info)
    }

    async fn greeted(&self, spec: HostSpec) -> Result<Arc<AcpHost>, Failure> {
        AcpHost::start(&self.profile, self.mode.clone(), &self.spawner, spec).await.map(Arc::new)
    }
}

#[async_trait]
impl AgentDriver for AcpDriver {
    fn name(&self) -> &AgentName {
        &self.profile.name
    }

    fn presence(&self) -> Presence {
        Presence { program: locate(&self.profile).ok().map(|found| found.path), version: None }
    }

    fn check(&self) -> Result<(), Failure> {
        locate(&self.profile).map(drop)
    }

    async fn open(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, Failure> {
        let host = self.greeted(HostSpec::of(&spec)).await?;
        Ok(Box::new(host.converse_or_close(&spec).await?))
    }

    fn hosting(&self) -> Option<&dyn Hosting> {
        Some(self)
    }
}

#[async_trait]
impl Hosting for AcpDriver {
    async fn start(&self, spec: HostSpec) -> Result<Box<dyn AgentHost>, Failure> {
        Ok(Box::new(self.greeted(spec).await?))
    }
}
