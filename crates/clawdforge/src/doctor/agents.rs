//! Each agent: is it there, does it run, which version, is it signed in.
//!
//! Signed in or not is said by the agent's own status command, in the environment it would work in.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use clawdforge_agent::locate::Found;
use clawdforge_agent::profile::Dialect;
use clawdforge_agent::version::Versions;
use clawdforge_agent::{Home, confine, surroundings};
use clawdforge_engine::AgentHome;
use clawdforge_process::{Spawner, TreeMark};
use serde_json::Value;

use super::{Check, Verdict};
use crate::agents::catalogue::Entry;
use crate::agents::list::{self, FoundAgent};
use crate::agents::probe::{self, Answer, Question};
use crate::config::Config;
use crate::homes;
use crate::profiles;

/// How long a status command may take. Claude Code takes 0.3 s and asks nobody.
const STATUS_WAIT_MAX: Duration = Duration::from_secs(10);

/// Characters of an agent's own words that are shown.
const SHOWN_CHARS_MAX: usize = 120;

/// What a status command said.
#[derive(Debug, PartialEq, Eq)]
enum SignIn {
    /// It is signed in; how, in its own words.
    Yes(String),
    /// It is not.
    No,
    /// It did not say.
    Unknown(String),
}

/// Checks every configured agent and every installed one.
pub async fn check(config: &Config, spawner: &Spawner) -> anyhow::Result<Vec<Check>> {
    // Everything asked here leaves its traces here, the memory of versions included: a doctor that
    // remembers would not notice an agent that stopped working.
    let scratch = probe::scratch()?;
    let versions = Versions::load(scratch.path().join("versions.json"));
    let mut agents = list::look(config)?;
    list::ask_versions(&mut agents, spawner, &versions).await;
    let default = profiles::default_agent(config)?;
    let (mut checks, mut absent) = (Vec::new(), Vec::new());
    for agent in &agents {
        let needed = agent.profile.name == default;
        let configured = config.agents.contains_key(&agent.profile.name);
        match &agent.program {
            Ok(found) => checks.push(check_found(config, agent, found, needed, spawner, scratch.path()).await),
            Err(failure) if needed || configured => checks.push(missing(agent, &failure.message, needed)),
            Err(_) => absent.push(agent.name()),
        }
    }
    if !agents.iter().any(|agent| agent.profile.name == default) {
        let todo = "name one that is there in `default_agent`, or configure it under `[agents.NAME]`";
        checks.push(Check::fail(format!("agent {default}"), "the default agent is not configured", todo));
    }
    if !absent.is_empty() {
        checks.push(Check::ok("other agents", format!("not installed, not needed: {}", absent.join(", "))));
    }
    Ok(checks)
}

/// What keeps the default agent from working keeps the service from working.
fn seriousness(needed: bool) -> Verdict {
    if needed { Verdict::Fail } else { Verdict::Warn }
}

fn missing(agent: &FoundAgent, reason: &str, needed: bool) -> Check {
    let name = format!("agent {}", agent.name());
    let todo = "see docs/guides/agents.md for the ways to get it, or try the demo agent with --demo";
    Check::bad(seriousness(needed), name, reason, todo)
}

async fn check_found(
    config: &Config,
    agent: &FoundAgent,
    found: &Found,
    needed: bool,
    spawner: &Spawner,
    scratch: &Path,
) -> Check {
    let name = format!("agent {}", agent.name());
    let place = format!("{} ({})", found.source.as_str(), found.path.display());
    let version = match &agent.version {
        Some(Ok(version)) => version,
        Some(Err(reason)) => {
            let what = format!("{place}: it does not run: {reason}");
            return Check::bad(seriousness(needed), name, what, reinstall(agent.entry));
        }
        None => return Check::ok(name, place),
    };
    let what = format!("{version}, {place}");
    if agent.profile.dialect == Dialect::Demo {
        return Check::ok(name, format!("{version}, needs no sign-in"));
    }
    let what = match agent.note() {
        Some(note) => format!("{what}; {note}"),
        None => what,
    };
    let Some((entry, args)) = agent.entry.and_then(|entry| Some((entry, entry.status_args?))) else {
        return Check::ok(name, format!("{what}; sign-in unknown: it has no command that says"));
    };
    match sign_in(config, agent, found, args, spawner, scratch).await {
        SignIn::Yes(how) if how.is_empty() => Check::ok(name, format!("{what}; signed in")),
        SignIn::Yes(how) => Check::ok(name, format!("{what}; signed in ({how})")),
        SignIn::No => {
            let todo = entry.how_to_sign_in(&found.path, config.agent_home);
            let elsewhere = is_signed_in_elsewhere(config, agent, found, args, spawner, scratch).await;
            let what = match elsewhere {
                Some(home) => format!(
                    "{what}; not signed in: it is in the service's own home ({}), which agents do not use with \
                     `agent_home = \"{}\"`",
                    home.display(),
                    if config.agent_home == AgentHome::Session { "session" } else { "app" }
                ),
                None => format!("{what}; not signed in"),
            };
            Check::bad(seriousness(needed), name, what, todo)
        }
        SignIn::Unknown(why) => Check::warn(
            name,
            format!("{what}; sign-in unknown: {why}"),
            "ask the agent's program itself, as the service's user",
        ),
    }
}

fn reinstall(entry: Option<&Entry>) -> String {
    match entry {
        Some(entry) => format!("run `clawdforge agents install {} --force`", entry.name),
        None => "install this program again".to_owned(),
    }
}

/// Asked in a home as agents get it, with what signs them in.
async fn sign_in(
    config: &Config,
    agent: &FoundAgent,
    found: &Found,
    args: &[&str],
    spawner: &Spawner,
    scratch: &Path,
) -> SignIn {
    let home = match homes::tried(config, agent.name(), scratch) {
        Ok(home) => home,
        Err(error) => return SignIn::Unknown(format!("no home could be made to try it in: {error}")),
    };
    ask(agent, found, args, spawner, scratch, home.as_ref()).await
}

/// The service's own home, where an agent would be signed in if it lived there.
async fn is_signed_in_elsewhere<'a>(
    config: &'a Config,
    agent: &FoundAgent,
    found: &Found,
    args: &[&str],
    spawner: &Spawner,
    scratch: &Path,
) -> Option<&'a OsStr> {
    let home = homes::unused(config)?;
    let is_there = matches!(ask(agent, found, args, spawner, scratch, None).await, SignIn::Yes(_));
    is_there.then_some(home)
}

async fn ask(
    agent: &FoundAgent,
    found: &Found,
    args: &[&str],
    spawner: &Spawner,
    scratch: &Path,
    home: Option<&Home>,
) -> SignIn {
    let mark = TreeMark::new(format!("status.{}", std::process::id()));
    let Ok(mark) = mark else { return SignIn::Unknown("it could not be asked".to_owned()) };
    let env = match surroundings(&agent.profile, home, scratch, &mark).await {
        Ok(mut env) => {
            env.insert("TMPDIR".into(), scratch.into());
            env
        }
        Err(failure) => return SignIn::Unknown(failure.message),
    };
    let own = agent.profile.args.iter().map(Into::into);
    let args = own.chain(args.iter().map(Into::into)).collect();
    let sandbox = confine::sandbox(&agent.profile, &env, home, vec![scratch.to_owned()]);
    let question = Question { purpose: "status", args, env, sandbox };
    match probe::ask(spawner, &found.path, question, STATUS_WAIT_MAX).await {
        Ok(answer) => read_status(&answer),
        Err(error) => SignIn::Unknown(format!("{error:#}")),
    }
}

/// The exit code says whether; the words, where they can be understood, say how.
fn read_status(answer: &Answer) -> SignIn {
    match answer.code {
        Some(0) => SignIn::Yes(how(&answer.stdout)),
        Some(1) => SignIn::No,
        _ => SignIn::Unknown(first_line(&answer.stderr).unwrap_or_else(|| "its status command failed".to_owned())),
    }
}

/// Claude Code answers in JSON, whose other fields name people; others answer with a sentence.
fn how(stdout: &str) -> String {
    match serde_json::from_str::<Value>(stdout) {
        Ok(said) => said["authMethod"].as_str().unwrap_or_default().to_owned(),
        Err(_) => first_line(stdout).unwrap_or_default(),
    }
}

fn first_line(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|char| !char.is_control()).take(SHOWN_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: Option<i32>, stdout: &str) -> Answer {
        Answer { code, stdout: stdout.to_owned(), stderr: "error: unknown command 'auth'\n".to_owned() }
    }

    #[test]
    fn the_exit_code_of_a_status_command_decides() {
        let json = r#"{"loggedIn": true, "authMethod": "oauth_token", "email": "a@b.example"}"#;
        assert_eq!(read_status(&answer(Some(0), json)), SignIn::Yes("oauth_token".to_owned()));
        assert_eq!(
            read_status(&answer(Some(0), "\nLogged in using ChatGPT\n")),
            SignIn::Yes("Logged in using ChatGPT".to_owned())
        );
        assert_eq!(read_status(&answer(Some(0), "")), SignIn::Yes(String::new()));
        assert_eq!(read_status(&answer(Some(1), r#"{"loggedIn": false}"#)), SignIn::No);
        assert_eq!(read_status(&answer(Some(2), "")), SignIn::Unknown("error: unknown command 'auth'".to_owned()));
        assert!(matches!(read_status(&answer(None, "")), SignIn::Unknown(_)));
    }
}
