//! What is tested: a driver with an agent behind it, and which of their processes is which.

use super::agent::Agent;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    AcpDemo,
    AcpClaude,
    AcpxDemo,
    AcpxClaude,
    AcpCodex,
    AcpCopilot,
}

/// A part of a subject that runs as a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The program that speaks to the model.
    Agent,
    /// What speaks the protocol for it.
    Adapter,
    /// What acpx keeps for the session: the agent, or its adapter, is a child of it.
    Owner,
}

impl Subject {
    pub const ALL: [Self; 6] =
        [Self::AcpDemo, Self::AcpClaude, Self::AcpxDemo, Self::AcpxClaude, Self::AcpCodex, Self::AcpCopilot];

    /// As tests and the table of the battery call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AcpDemo => "acp_demo",
            Self::AcpClaude => "acp_claude",
            Self::AcpxDemo => "acpx_demo",
            Self::AcpxClaude => "acpx_claude",
            Self::AcpCodex => "acp_codex",
            Self::AcpCopilot => "acp_copilot",
        }
    }

    pub fn named(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|subject| subject.name() == name);
        found.unwrap_or_else(|| panic!("the battery has no subject {name}"))
    }

    pub fn driver(self) -> &'static str {
        match self {
            Self::AcpDemo | Self::AcpClaude | Self::AcpCodex | Self::AcpCopilot => "acp",
            Self::AcpxDemo | Self::AcpxClaude => "acpx",
        }
    }

    pub fn agent(self) -> Agent {
        match self {
            Self::AcpDemo | Self::AcpxDemo => Agent::Demo,
            Self::AcpClaude | Self::AcpxClaude => Agent::Claude,
            Self::AcpCodex => Agent::Codex,
            Self::AcpCopilot => Agent::Copilot,
        }
    }

    pub fn is_through_acpx(self) -> bool {
        self.driver() == "acpx"
    }

    /// What stands between the agent and the service, the next to the agent first.
    pub fn between(self) -> &'static [Part] {
        match self {
            // Both speak the protocol themselves.
            Self::AcpDemo | Self::AcpCopilot => &[],
            Self::AcpClaude | Self::AcpCodex => &[Part::Adapter],
            Self::AcpxDemo => &[Part::Owner],
            Self::AcpxClaude => &[Part::Adapter, Part::Owner],
        }
    }

    /// Whether a process with this command line is that part of the subject.
    pub fn is_part(self, part: Part, line: &[&str]) -> bool {
        let runs = |place: usize, program: &str| {
            line.get(place).is_some_and(|path| path.rsplit('/').next().is_some_and(|name| name == program))
        };
        // Programs for Node are named after it.
        let node_runs = |package: &str| runs(0, "node") && line.get(1).is_some_and(|path| path.contains(package));
        match (part, self.agent()) {
            (Part::Agent, Agent::Demo) => line.get(1) == Some(&"__demo-agent"),
            (Part::Agent, Agent::Claude | Agent::Codex | Agent::Copilot) => runs(0, self.agent().name()),
            (Part::Adapter, Agent::Claude) => node_runs("claude-agent-acp"),
            (Part::Adapter, Agent::Codex) => node_runs("codex-acp"),
            (Part::Adapter, Agent::Demo | Agent::Copilot) => false,
            (Part::Owner, _) => line.contains(&"__queue-owner"),
        }
    }
}
