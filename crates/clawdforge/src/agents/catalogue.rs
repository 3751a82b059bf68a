//! The agents that `clawdforge agents install` knows: data, not code.
//!
//! Packages are the native ones of the platform, at fixed versions, because of two facts about npm's
//! usual packages: without install scripts `@anthropic-ai/claude-code` is a stub that does not run, and
//! each adapter would bring a second, older copy of its agent as an optional package. `deploy/check.sh`
//! compares the versions here with those of the image.
//!
//! Names hold placeholders that [`Platform::fill`] replaces: `{arch}`, `{-musl}`, `{musl}`, `{cpu}`.

use std::path::{Path, PathBuf};

use clawdforge_engine::AgentHome;

use super::platform::Platform;

/// Name of the folder of installed agents in the data directory.
pub const AGENTS_DIR: &str = "agents";

/// One agent that can be installed.
#[derive(Debug)]
pub struct Entry {
    /// What the operator calls it.
    pub name: &'static str,
    /// What it is, in a few words.
    pub purpose: &'static str,
    /// Name of its program on a search path.
    pub command: &'static str,
    /// What npm is asked for.
    pub packages: &'static [Package],
    /// Programs that must be there afterwards and say their version; the first is the agent itself.
    pub programs: &'static [Program],
    /// Whether this version of the service can use it.
    pub driver: Driver,
    /// By which name the agent's own environment variables are listed
    /// ([`clawdforge_agent::environment::documented`]).
    pub family: &'static str,
    /// The oldest Node its makers support; `None` where it is a native program.
    pub node_major_min: Option<u32>,
    /// What it takes on the disk, measured, in MB.
    pub disk_mb: u64,
    /// Arguments with which its program says whether it is signed in, by exit code 0 or 1.
    pub status_args: Option<&'static [&'static str]>,
    /// How to sign in for agents in whatever home: an imperative without a full stop, `PROGRAM` standing for the
    /// program.
    pub sign_in: &'static str,
    /// Arguments with which its program signs in the home it is started in.
    pub log_in: Option<&'static str>,
}

/// What this version of the service can do with an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Runs.
    OneShot,
    /// Nothing yet: it only speaks in sessions.
    Sessions,
}

/// One npm package.
#[derive(Debug)]
pub struct Package {
    /// Its folder in `node_modules`.
    pub name: &'static str,
    /// The version, exactly.
    pub version: &'static str,
    /// What npm is asked for where that is not the version: an alias of another package.
    pub published_as: Option<&'static str>,
}

/// One program of an installation.
#[derive(Debug)]
pub struct Program {
    /// Where it is, below `node_modules`.
    pub path: &'static str,
    /// What `--version` must say.
    pub version: &'static str,
}

const CLAUDE_CODE: Package =
    Package { name: "@anthropic-ai/claude-code-linux-{arch}{-musl}", version: "2.1.330", published_as: None };
const CLAUDE_ACP: Package =
    Package { name: "@agentclientprotocol/claude-agent-acp", version: "0.101.0", published_as: None };
const ACPX: Package = Package { name: "acpx", version: "0.19.1", published_as: None };
const CODEX_ACP: Package = Package { name: "@agentclientprotocol/codex-acp", version: "2.6.0", published_as: None };
const CODEX: Package = Package {
    name: "@openai/codex-linux-{arch}",
    version: "0.166.0",
    published_as: Some("npm:@openai/codex@0.166.0-linux-{arch}"),
};
const COPILOT: Package = Package { name: "@github/copilot-linux{musl}-{arch}", version: "1.0.102", published_as: None };

const CLAUDE_PROGRAM: Program =
    Program { path: "@anthropic-ai/claude-code-linux-{arch}{-musl}/claude", version: CLAUDE_CODE.version };

const CLAUDE_STATUS: Option<&[&str]> = Some(&["auth", "status"]);
const CLAUDE_SIGN_IN: &str = "run `PROGRAM setup-token` and give the service what it prints as CLAUDE_CODE_OAUTH_TOKEN (a variable, or a file of mode 0600 that `sign_in` of the agent names), or give it ANTHROPIC_API_KEY";

/// Every agent that can be installed.
pub static CATALOGUE: &[Entry] = &[
    Entry {
        name: "claude",
        purpose: "Claude Code, the agent of /run",
        command: "claude",
        packages: &[CLAUDE_CODE],
        programs: &[CLAUDE_PROGRAM],
        driver: Driver::OneShot,
        family: "claude",
        node_major_min: None,
        disk_mb: 364,
        status_args: CLAUDE_STATUS,
        sign_in: CLAUDE_SIGN_IN,
        log_in: Some("auth login"),
    },
    Entry {
        name: "claude-acp",
        purpose: "Claude Code behind its ACP adapter",
        command: "claude-agent-acp",
        packages: &[CLAUDE_ACP, CLAUDE_CODE],
        programs: &[Program { path: ".bin/claude-agent-acp", version: CLAUDE_ACP.version }, CLAUDE_PROGRAM],
        driver: Driver::Sessions,
        family: "claude",
        node_major_min: Some(22),
        disk_mb: 442,
        status_args: None,
        sign_in: "sign in as for `claude`",
        log_in: None,
    },
    Entry {
        name: "acpx",
        purpose: "acpx, a command line in front of ACP agents",
        command: "acpx",
        packages: &[ACPX],
        programs: &[Program { path: ".bin/acpx", version: ACPX.version }],
        driver: Driver::Sessions,
        family: "acpx",
        node_major_min: Some(22),
        disk_mb: 44,
        status_args: None,
        sign_in: "sign in the agent it drives",
        log_in: None,
    },
    Entry {
        name: "codex",
        purpose: "OpenAI Codex and its ACP adapter",
        command: "codex",
        packages: &[CODEX_ACP, CODEX],
        programs: &[
            Program {
                path: "@openai/codex-linux-{arch}/vendor/{cpu}-unknown-linux-musl/bin/codex",
                version: CODEX.version,
            },
            Program { path: ".bin/codex-acp", version: CODEX_ACP.version },
        ],
        driver: Driver::Sessions,
        family: "codex",
        node_major_min: Some(20),
        disk_mb: 457,
        status_args: Some(&["login", "status"]),
        sign_in: "give the service OPENAI_API_KEY (a variable, or a file of mode 0600 that `sign_in` of the agent names)",
        log_in: Some("login"),
    },
    Entry {
        name: "copilot",
        purpose: "GitHub Copilot, which speaks ACP itself",
        command: "copilot",
        packages: &[COPILOT],
        programs: &[Program { path: "@github/copilot-linux{musl}-{arch}/copilot", version: COPILOT.version }],
        driver: Driver::Sessions,
        family: "copilot",
        node_major_min: None,
        disk_mb: 189,
        status_args: None,
        sign_in: "give the service COPILOT_GITHUB_TOKEN (a variable, or a file of mode 0600 that `sign_in` of the agent names)",
        log_in: Some("login"),
    },
];

/// The agent of a name, if it can be installed.
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.name == name)
}

impl Entry {
    /// The agent's own version.
    pub fn version(&self) -> &'static str {
        self.programs.first().map_or("", |program| program.version)
    }

    /// What the operator does so that agents are signed in.
    pub fn how_to_sign_in(&self, program: &Path, homes: AgentHome) -> String {
        let program = program.to_string_lossy();
        let (everywhere, log_in) = (self.sign_in.replace("PROGRAM", &program), self.log_in);
        match (log_in, homes) {
            (None, _) => everywhere,
            (Some(args), AgentHome::Shared) => {
                format!("run `{program} {args}` as the service's user; or {everywhere}")
            }
            (Some(args), AgentHome::App | AgentHome::Session) => {
                format!(
                    "{everywhere} (`{program} {args}` signs in one home only, the service's, and agents have others: it needs `agent_home = \"shared\"`)"
                )
            }
        }
    }

    /// Where the agent is installed.
    pub fn folder(&self, data_dir: &Path) -> PathBuf {
        data_dir.join(AGENTS_DIR).join(self.name)
    }

    /// The programs of an installation in `folder`, the agent itself first.
    pub fn programs_in(&self, folder: &Path, platform: Platform) -> Vec<(PathBuf, &'static str)> {
        let modules = folder.join("node_modules");
        self.programs.iter().map(|program| (modules.join(platform.fill(program.path)), program.version)).collect()
    }
}

/// Where our own installation has or would have the program of an agent; `None` for agents that
/// cannot be installed, here or at all.
pub fn own_program(data_dir: &Path, name: &str) -> Option<PathBuf> {
    programs(data_dir, name).into_iter().next()
}

/// Where our own installation has or would have all programs of an agent, the agent itself first; empty as
/// [`own_program`] is `None`.
pub fn programs(data_dir: &Path, name: &str) -> Vec<PathBuf> {
    let (Some(entry), Ok(platform)) = (find(name), Platform::detect()) else { return Vec::new() };
    entry.programs_in(&entry.folder(data_dir), platform).into_iter().map(|(path, _)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_has_a_program_at_the_version_of_one_of_its_packages() {
        for entry in CATALOGUE {
            assert!(!entry.programs.is_empty(), "{}", entry.name);
            for program in entry.programs {
                let pinned = entry.packages.iter().any(|package| package.version == program.version);
                assert!(pinned, "{}: {}", entry.name, program.path);
            }
        }
    }

    #[test]
    fn an_alias_asks_for_the_version_that_is_checked_afterwards() {
        for package in CATALOGUE.iter().flat_map(|entry| entry.packages) {
            let Some(alias) = package.published_as else { continue };
            assert!(alias.contains(&format!("@{}-", package.version)), "{alias}");
        }
    }

    #[test]
    fn every_placeholder_is_filled_on_every_platform() {
        for platform in Platform::ALL {
            for entry in CATALOGUE {
                let texts = entry.packages.iter().flat_map(|package| [Some(package.name), package.published_as]);
                for text in texts.flatten().chain(entry.programs.iter().map(|program| program.path)) {
                    assert!(!platform.fill(text).contains(['{', '}']), "{text}");
                }
            }
        }
    }

    #[test]
    fn the_program_of_an_own_installation_lies_below_the_data_directory() {
        let found = own_program(Path::new("/data"), "claude").unwrap();
        assert!(found.starts_with("/data/agents/claude/node_modules/@anthropic-ai"), "{}", found.display());
        assert_eq!(own_program(Path::new("/data"), "demo"), None);
    }
}
