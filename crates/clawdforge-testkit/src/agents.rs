//! The real agents that tests run, where somebody installed them.
//!
//! `cargo xtask test` installs them and says where; without them a test that needs one says so and passes,
//! so that `cargo nextest run` needs nothing but the toolchain. With [`REQUIRE_VARIABLE`] it fails instead: a full
//! run must not be green because half of it was left out.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

/// Says where the agents are: a `node_modules` folder.
pub const FOLDER_VARIABLE: &str = "CLAWDFORGE_TEST_AGENTS";

/// Set to `1`, makes a missing agent a failure.
pub const REQUIRE_VARIABLE: &str = "CLAWDFORGE_TEST_REQUIRE_AGENTS";

/// The real Claude Code; `None`, with a line on standard output, where it is not installed.
///
/// # Errors
/// When it must be there and is not, with what to do; when the named folder holds none.
pub fn claude() -> anyhow::Result<Option<PathBuf>> {
    let Some(folder) = variable(FOLDER_VARIABLE) else {
        if variable(REQUIRE_VARIABLE).as_deref() == Some("1") {
            bail!("{FOLDER_VARIABLE} is not set: run `cargo xtask test`, which installs the agents and sets it");
        }
        tell_skipped("claude");
        return Ok(None);
    };
    let program = package(Path::new(&folder))?.join("claude");
    ensure!(program.is_file(), "{} is not there: run `cargo xtask test`, which installs the agents", program.display());
    Ok(Some(program))
}

/// A search path with the adapters that speak the Agent Client Protocol in front, and Node behind; `None` as
/// [`claude`].
///
/// # Errors
/// As [`claude`].
pub fn adapters_path() -> anyhow::Result<Option<String>> {
    if claude()?.is_none() {
        return Ok(None);
    }
    let folder = variable(FOLDER_VARIABLE).context("it was there a moment ago")?;
    let programs = Path::new(&folder).join(".bin");
    ensure!(programs.join("claude-agent-acp").exists(), "{} holds no claude-agent-acp", programs.display());
    Ok(Some(format!("{}:{}", programs.display(), variable("PATH").unwrap_or_default())))
}

/// The real Codex and the real Copilot, next to [`claude`]; `None` as there. Codex is spoken to through `codex-acp`, which is
/// on [`adapters_path`].
///
/// # Errors
/// As [`claude`].
pub fn codex_and_copilot() -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    if claude()?.is_none() {
        return Ok(None);
    }
    let folder = PathBuf::from(variable(FOLDER_VARIABLE).context("it was there a moment ago")?);
    let (arch, processor) = match std::env::consts::ARCH {
        "aarch64" => ("arm64", "aarch64"),
        _ => ("x64", "x86_64"),
    };
    let codex = format!("@openai/codex-linux-{arch}/vendor/{processor}-unknown-linux-musl/bin/codex");
    let (codex, copilot) = (folder.join(codex), folder.join(format!("@github/copilot-linux-{arch}/copilot")));
    for program in [&codex, &copilot] {
        ensure!(program.is_file(), "{} is not there: run `cargo xtask test`, which installs it", program.display());
    }
    Ok(Some((codex, copilot)))
}

/// The version that the package of [`claude`] says it has.
///
/// # Errors
/// When the program does not lie in its package.
pub fn claude_version(program: &Path) -> anyhow::Result<String> {
    let manifest = program.with_file_name("package.json");
    let text = std::fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
    let manifest: serde_json::Value = serde_json::from_str(&text)?;
    manifest["version"].as_str().map(str::to_owned).context("the package names its version")
}

/// The folder of the native package for this machine.
fn package(node_modules: &Path) -> anyhow::Result<PathBuf> {
    let platform = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "linux-x64",
        ("linux", "aarch64") => "linux-arm64",
        (system, processor) => bail!("no agents are pinned for {system} on {processor}"),
    };
    Ok(node_modules.join(format!("@anthropic-ai/claude-code-{platform}")))
}

#[expect(clippy::disallowed_methods, reason = "the runner of the tests has no other way to tell them")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[expect(clippy::print_stdout, reason = "who reads the output of the tests should see what was left out")]
fn tell_skipped(agent: &str) {
    println!("skipped: agents/{agent}: not installed");
}
