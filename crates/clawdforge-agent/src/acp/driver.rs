//! Opens links to one configured agent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_core::agent::{AgentName, Failure};
use clawdforge_core::run::SystemMode;
use clawdforge_process::Spawner;
use serde_json::{Map, Value, json};

use super::erasing::{Erased, erase};
use super::host::AcpHost;
use super::info::AgentInfo;
use crate::locate::locate;
use crate::profile::Profile;
use crate::{
    AgentDriver, AgentHost, AgentLimits, AgentLink, ForgetReport, Forgotten, HostSpec, Hosting, NotForked, OpenSpec,
    Presence,
};

/// How long an agent may take to leave once it has erased its records.
const FORGET_GRACE: Duration = Duration::from_secs(1);

/// Where among `_meta` an agent looks for text for its system prompt.
const SYSTEM_PROMPT: &str = "systemPrompt";

/// The driver of one agent that speaks the Agent Client Protocol.
pub struct AcpDriver {
    profile: Profile,
    spawner: Spawner,
    choices: Choices,
    limits: AgentLimits,
}

/// What is chosen for every conversation with an agent, because agents do not keep it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choices {
    /// The agent's own name for how it asks for permission; chosen where the agent offers it.
    pub mode: Option<String>,
    /// The model where a conversation names none; `None` leaves it to the agent.
    pub default_model: Option<String>,
    /// What the agent is told of every conversation beside the protocol's own fields (`_meta`).
    pub session_meta: Option<Map<String, Value>>,
    /// The id of the option by which the model is chosen; `None` finds it by its category.
    pub model_option: Option<String>,
    /// Whether it takes text for its system prompt, in `_meta.systemPrompt` as Claude's adapter does.
    pub takes_system_prompt: bool,
}

impl Choices {
    /// What the agent is told of a conversation beside the protocol's own fields. Agents keep none of it.
    pub(super) fn meta_of(&self, spec: &OpenSpec) -> Option<Map<String, Value>> {
        let mut meta = self.session_meta.clone().unwrap_or_default();
        meta.extend(system_prompt(spec).map(|system| (SYSTEM_PROMPT.to_owned(), system)));
        (!meta.is_empty()).then_some(meta)
    }
}

/// Text for the system prompt, in the words of Claude's adapter.
pub(crate) fn system_prompt(spec: &OpenSpec) -> Option<Value> {
    let system = spec.system.as_ref()?;
    Some(match spec.system_mode {
        SystemMode::Append => json!({ "append": system }),
        SystemMode::Replace => json!(system),
    })
}

impl AcpDriver {
    /// A driver for an agent as configured.
    #[must_use]
    pub fn new(profile: Profile, choices: Choices, spawner: Spawner) -> Self {
        Self { profile, spawner, choices, limits: AgentLimits::default() }
    }

    /// The same with limits of its own.
    #[must_use]
    pub fn limited(self, limits: AgentLimits) -> Self {
        Self { limits, ..self }
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

    /// Has the agent erase its records of conversations by its own ids of them, in a process of its own.
    pub(crate) async fn erase(&self, keys: BTreeSet<String>, place: HostSpec) -> Erased {
        if keys.is_empty() {
            return Erased::default();
        }
        let given_up = place.given_up.clone();
        match self.greeted(place).await {
            Ok(host) => {
                let asked = keys.len();
                let erased = erase(&self.profile.name, &host, keys, &given_up).await;
                let (left, kept) = (erased.left.len(), erased.kept.len());
                tracing::debug!(agent.name = %self.profile.name, asked, left, kept, "had an agent erase its records");
                Erased { survivors: host.end(FORGET_GRACE).await.survivors, ..erased }
            }
            Err(failure) => {
                tracing::warn!(
                    agent.name = %self.profile.name, reason = failure.message,
                    "an agent could not be started to erase its records of erased sessions"
                );
                Erased::none_of(keys)
            }
        }
    }

    async fn greeted(&self, spec: HostSpec) -> Result<Arc<AcpHost>, Failure> {
        AcpHost::start(&self.profile, self.choices.clone(), &self.spawner, spec).await.map(Arc::new)
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

    fn limits(&self) -> AgentLimits {
        self.limits
    }

    fn takes_system_prompt(&self) -> bool {
        self.choices.takes_system_prompt
    }

    fn check(&self) -> Result<(), Failure> {
        locate(&self.profile).map(drop)
    }

    async fn open(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, Failure> {
        let host = self.greeted(HostSpec::of(&spec)).await?;
        Ok(Box::new(host.converse_or_close(&spec).await?))
    }

    fn cannot_fork(&self) -> Option<&'static str> {
        None
    }

    async fn fork(&self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, NotForked> {
        let host = self.greeted(HostSpec::of(&spec)).await.map_err(NotForked::Failed)?;
        Ok(Box::new(host.fork_or_close(&spec).await?))
    }

    fn hosting(&self) -> Option<&dyn Hosting> {
        Some(self)
    }

    /// Starts the agent once for all of them.
    async fn forget(&self, forgotten: Vec<Forgotten>, place: HostSpec) -> ForgetReport {
        if place.home.as_ref().is_some_and(|home| home.is_passing) {
            // A home that is erased as well takes everything with it.
            return ForgetReport::default();
        }
        let keys = forgotten.iter().filter_map(|one| one.resume_key.clone()).collect();
        let Erased { left, kept, survivors } = self.erase(keys, place).await;
        let marks = |of: &BTreeSet<String>| {
            let is_of = |one: &&Forgotten| one.resume_key.as_ref().is_some_and(|key| of.contains(key));
            forgotten.iter().filter(is_of).map(|one| one.mark.clone()).collect()
        };
        ForgetReport { left: marks(&left), kept: marks(&kept), survivors }
    }
}

#[async_trait]
impl Hosting for AcpDriver {
    async fn start(&self, spec: HostSpec) -> Result<Box<dyn AgentHost>, Failure> {
        Ok(Box::new(self.greeted(spec).await?))
    }
}
