//! `clawdforge doctor`: is everything in order that the service needs, and if not, what to do.
//!
//! Each part looks and returns [`Check`]s; nothing is changed and every wait is bounded. It reads the
//! configuration as `serve` does, with the same flags, so it judges what `serve` would do. Run it as
//! the service's user: another user sees other homes and modes.

mod agents;
mod data;
mod database;
mod holder;
mod isolation;
mod machine;
mod port;
mod report;

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use clawdforge_client::commands::{Exit, Io};
use clawdforge_core::time::Clock;
use clawdforge_process::Spawner;
use serde_json::Value;

use crate::config::{self, Config, Inputs, Loaded, Origin};
use crate::serve::{SETTLE_WAIT_MAX, refusals};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Whether it is in order.
    pub verdict: Verdict,
    /// What was seen.
    pub what: String,
    /// What to do about it: an imperative, often a command.
    pub todo: Option<String>,
    /// More about it, for programs; null where there is no more.
    pub details: Value,
}

/// Whether something is in order. In the order of seriousness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is.
    Ok,
    /// The service works, but not as well as it could, or not for long.
    Warn,
    /// The service does not work, or not safely.
    Fail,
}

impl Check {
    fn ok(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Ok, what: what.into(), todo: None, details: Value::Null }
    }

    fn warn(name: impl Into<String>, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self::bad(Verdict::Warn, name, what, todo)
    }

    fn fail(name: impl Into<String>, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self::bad(Verdict::Fail, name, what, todo)
    }

    fn bad(verdict: Verdict, name: impl Into<String>, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { name: name.into(), verdict, what: what.into(), todo: Some(todo.into()), details: Value::Null }
    }
}

/// The sub-command.
pub fn doctor_command() -> Command {
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print one JSON object");
    config::serve_args(Command::new("doctor").about("Check agents, data, port and machine").arg(json))
}

/// Runs what was asked of [`doctor_command`], inside a runtime. `inputs` are those of the process;
/// flags are taken from the matches. The exit code is 0 when nothing failed, 1 otherwise.
///
/// # Errors
/// When the answer cannot be written, or this process cannot look at all.
pub async fn run_doctor_command(
    matches: &ArgMatches,
    inputs: Inputs,
    clock: &dyn Clock,
    io: &mut Io,
) -> anyhow::Result<ExitCode> {
    let checks = match config::load(&inputs.with_flags(matches)) {
        Ok(loaded) => examine(&loaded, clock).await?,
        // Without a configuration there is nothing else to look at.
        Err(errors) => {
            vec![Check::fail("configuration", errors.to_string(), "correct it; `clawdforge serve` does not start")]
        }
    };
    if matches.get_flag("json") {
        report::json(&checks, &mut io.stdout)?;
    } else {
        report::text(&checks, &mut io.stdout)?;
    }
    Ok(if is_healthy(&checks) { Exit::Done } else { Exit::Failed }.into())
}

/// Whether nothing failed; warnings are allowed.
fn is_healthy(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.verdict < Verdict::Fail)
}

async fn examine(loaded: &Loaded, clock: &dyn Clock) -> anyhow::Result<Vec<Check>> {
    let spawner = Spawner::start()?;
    let checks = examine_with(&spawner, loaded, clock).await;
    // Whoever tried the sandbox must not outlive this process.
    let has_settled = spawner.settled(SETTLE_WAIT_MAX).await;
    let left = || Check::fail("processes", "some of a tried sandbox could not be ended", "look for them with ps");
    checks.map(|checks| checks.into_iter().chain((!has_settled).then(left)).collect())
}

async fn examine_with(spawner: &Spawner, loaded: &Loaded, clock: &dyn Clock) -> anyhow::Result<Vec<Check>> {
    let config = &loaded.config;
    let mut checks = configuration(loaded);
    checks.push(isolation::check(config, spawner).await);
    checks.extend(agents::check(config, spawner).await?);
    checks.extend(data::check(loaded));
    checks.push(admin_token(config));
    let listener = port::look(config.listen).await;
    checks.push(database::check(config, &listener).await);
    checks.push(port::check(config.listen, &listener, database::is_in_use(config)));
    checks.extend(machine::check(config, clock.now()));
    Ok(checks)
}

/// Whether a start would be refused for the admin token.
fn admin_token(config: &Config) -> Check {
    let name = "admin token";
    match refusals::of_admin_token(config) {
        Err(error) => Check::fail(name, format!("{error:#}"), "run this as the service's user"),
        Ok(Some(found)) if !config.start_despite.contains(&found.risk) => Check::fail(name, found.what, found.todo),
        Ok(Some(found)) => Check::warn(name, format!("{}, which start_despite allows", found.what), found.todo),
        Ok(None) => Check::ok(name, format!("fit for {}", config.listen)),
    }
}

fn configuration(loaded: &Loaded) -> Vec<Check> {
    if loaded.warnings.is_empty() {
        let set = loaded.rows.iter().filter(|row| row.origin != Origin::Default).count();
        return vec![Check::ok("configuration", format!("in order; {set} set, the rest as by default"))];
    }
    let warned = loaded.warnings.iter().map(|warning| {
        Check::warn("configuration", warning, "see `clawdforge config show` for every value and its origin")
    });
    warned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_healthy_and_one_failure_is_not() {
        let (ok, warn) = (Check::ok("a", "b"), Check::warn("a", "b", "c"));
        assert!(is_healthy(&[ok.clone(), warn.clone()]));
        assert!(!is_healthy(&[ok, Check::fail("a", "b", "c"), warn]));
    }

    #[test]
    fn the_command_is_well_formed() {
        doctor_command().debug_assert();
    }
}
