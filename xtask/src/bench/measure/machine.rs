//! Where and when the numbers were made: without that they mean nothing.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::bench::{ACPX_VERSIONS, SANDBOX_AGENT_VERSION};
use crate::program::{output, program};

/// One line for each fact, as a Markdown list.
///
/// # Errors
/// When one of the programs that know the facts is missing.
pub fn describe(scratch: &Path, claude: &str) -> Result<String> {
    let scratch = scratch.to_string_lossy();
    let words = |name: &str, arguments: &[&str]| -> Result<String> {
        Ok(String::from_utf8_lossy(&output(&mut program(name, arguments))?).trim().to_owned())
    };
    let changed = !words("git", &["status", "--porcelain", "--", "crates", "Cargo.lock"])?.is_empty();
    let facts = [
        format!("date: {}", words("date", &["--utc", "+%Y-%m-%d %H:%M UTC"])?),
        format!("processor: {} × {}", std::thread::available_parallelism()?, processor()),
        format!("kernel: {}", words("uname", &["--kernel-release", "--machine"])?),
        format!("data directories on: {}", file_system(&words("df", &["--output=fstype", &scratch])?)),
        format!("load average before the run (1, 5, 15 minutes): {}", load_average()?),
        format!(
            "clawdforge {} at {}{}, {}",
            env!("CARGO_PKG_VERSION"),
            words("git", &["rev-parse", "--short", "HEAD"])?,
            if changed { " with uncommitted changes" } else { "" },
            words("rustc", &["--version"])?
        ),
        format!(
            "claude {claude}, acpx {}, sandbox-agent {SANDBOX_AGENT_VERSION}, node {}",
            ACPX_VERSIONS.join(" and "),
            words("node", &["--version"])?
        ),
    ];
    Ok(facts.map(|fact| format!("- {fact}\n")).concat())
}

/// The last line: the first is a heading.
fn file_system(listing: &str) -> &str {
    listing.lines().last().unwrap_or_default()
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    model.map_or(std::env::consts::ARCH, |model| model.trim_start_matches([' ', '\t', ':'])).to_owned()
}

fn load_average() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(", "))
}
