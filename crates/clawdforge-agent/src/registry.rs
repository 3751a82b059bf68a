//! The agents of this service by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use clawdforge_core::agent::AgentName;
use clawdforge_core::session::DriverName;

use crate::AgentDriver;

/// Every configured agent, one of them the default. Never empty.
#[derive(Clone)]
pub struct Agents {
    default: AgentName,
    drivers: BTreeMap<AgentName, Arc<dyn AgentDriver>>,
}

/// The default agent is not among the agents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the default agent `{default}` is not configured; there are: {known}")]
pub struct NoDefaultAgent {
    /// The name that was asked for.
    pub default: AgentName,
    /// The names there are, separated by commas.
    pub known: String,
}

impl Agents {
    /// Gathers drivers under their names; of two with one name the later counts.
    ///
    /// # Errors
    /// [`NoDefaultAgent`] where `default` names none of them.
    pub fn new(
        default: AgentName,
        drivers: impl IntoIterator<Item = Arc<dyn AgentDriver>>,
    ) -> Result<Self, NoDefaultAgent> {
        let drivers: BTreeMap<_, _> = drivers.into_iter().map(|driver| (driver.name().clone(), driver)).collect();
        if drivers.contains_key(&default) {
            return Ok(Self { default, drivers });
        }
        let known = drivers.keys().map(AgentName::as_str).collect::<Vec<_>>().join(", ");
        Err(NoDefaultAgent { default, known })
    }

    /// The agent of a name.
    #[must_use]
    pub fn get(&self, name: &AgentName) -> Option<&Arc<dyn AgentDriver>> {
        self.drivers.get(name)
    }

    /// The name of the agent that serves requests which name none.
    #[must_use]
    pub fn default_name(&self) -> &AgentName {
        &self.default
    }

    /// The agents in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn AgentDriver>> {
        self.drivers.values()
    }
}

/// An agent of sessions, and the drivers that can speak to it.
#[derive(Clone)]
pub struct SessionAgent {
    /// The driver of sessions that name none.
    pub preferred: DriverName,
    drivers: BTreeMap<DriverName, Arc<dyn AgentDriver>>,
}

impl SessionAgent {
    /// An agent with its drivers.
    pub fn new(preferred: DriverName, drivers: impl IntoIterator<Item = (DriverName, Arc<dyn AgentDriver>)>) -> Self {
        Self { preferred, drivers: drivers.into_iter().collect() }
    }

    /// A driver by its name.
    #[must_use]
    pub fn driver(&self, name: DriverName) -> Option<&Arc<dyn AgentDriver>> {
        self.drivers.get(&name)
    }
}

/// The agents of sessions, one of them the default. Never empty.
#[derive(Clone)]
pub struct SessionAgents {
    default: AgentName,
    agents: BTreeMap<AgentName, SessionAgent>,
}

impl SessionAgents {
    /// Gathers agents under their names.
    ///
    /// # Errors
    /// [`NoDefaultAgent`] where `default` names none of them.
    pub fn new(
        default: AgentName,
        agents: impl IntoIterator<Item = (AgentName, SessionAgent)>,
    ) -> Result<Self, NoDefaultAgent> {
        let agents: BTreeMap<_, _> = agents.into_iter().collect();
        if agents.contains_key(&default) {
            return Ok(Self { default, agents });
        }
        let known = agents.keys().map(AgentName::as_str).collect::<Vec<_>>().join(", ");
        Err(NoDefaultAgent { default, known })
    }

    /// The agent of a name.
    #[must_use]
    pub fn get(&self, name: &AgentName) -> Option<&SessionAgent> {
        self.agents.get(name)
    }

    /// The driver that a session with this agent was opened with.
    #[must_use]
    pub fn driver(&self, name: &AgentName, driver: DriverName) -> Option<&Arc<dyn AgentDriver>> {
        self.agents.get(name)?.driver(driver)
    }

    /// The name of the agent of sessions that name none.
    #[must_use]
    pub fn default_name(&self) -> &AgentName {
        &self.default
    }

    /// The names there are, in order.
    pub fn names(&self) -> impl Iterator<Item = &AgentName> {
        self.agents.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgentLink, OpenSpec, Presence};
    use clawdforge_core::agent::{Failure, FailureKind};

    struct Absent(AgentName);

    #[async_trait::async_trait]
    impl AgentDriver for Absent {
        fn name(&self) -> &AgentName {
            &self.0
        }

        fn presence(&self) -> Presence {
            Presence { program: None, version: None }
        }

        fn check(&self) -> Result<(), Failure> {
            Err(Failure::new(FailureKind::NotInstalled, "absent"))
        }

        async fn open(&self, _: OpenSpec) -> Result<Box<dyn AgentLink>, Failure> {
            Err(Failure::new(FailureKind::NotInstalled, "absent"))
        }
    }

    fn driver(name: &str) -> Arc<dyn AgentDriver> {
        Arc::new(Absent(name.parse().unwrap()))
    }

    #[test]
    fn agents_are_found_by_name_and_one_is_the_default() {
        let agents = Agents::new("b".parse().unwrap(), [driver("b"), driver("a")]).unwrap();
        assert_eq!(agents.default_name().as_str(), "b");
        assert_eq!(agents.iter().map(|driver| driver.name().as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(agents.get(&"c".parse().unwrap()).is_none());
    }

    #[test]
    fn an_agent_of_sessions_has_a_preferred_driver_and_maybe_others() {
        let name: AgentName = "a".parse().unwrap();
        let agent = SessionAgent::new(DriverName::Acpx, [(DriverName::Acpx, driver("a"))]);
        let agents = SessionAgents::new(name.clone(), [(name.clone(), agent)]).unwrap();
        assert_eq!(agents.get(&name).unwrap().preferred, DriverName::Acpx);
        assert!(agents.driver(&name, DriverName::Acpx).is_some());
        assert!(agents.driver(&name, DriverName::Acp).is_none());
        assert!(agents.driver(&"b".parse().unwrap(), DriverName::Acpx).is_none());
        assert_eq!(agents.names().collect::<Vec<_>>(), [&name]);
        assert!(SessionAgents::new(name, []).is_err());
    }

    #[test]
    fn a_default_that_is_not_configured_is_refused_with_the_names_there_are() {
        let refused = Agents::new("c".parse().unwrap(), [driver("b"), driver("a")]).err().unwrap();
        assert_eq!(refused.to_string(), "the default agent `c` is not configured; there are: a, b");
    }
}
