//! The steps of `cargo xtask test`, in order: the cheap ones first, the long one before the last three.

use anyhow::Result;

use super::{Known, Outcome, Step};
use crate::agents::{self, FOLDER_VARIABLE, REQUIRE_VARIABLE};
use crate::paths::root;
use crate::program::{program, run, version};
use crate::schemathesis::{self, Went};
use crate::{say, tidy};

/// The version of the test runner that is installed when there is none; the profiles are written for it.
const NEXTEST_VERSION: &str = "0.9.143";
const DEPLOYMENT_CHECK: &str = "deploy/check.sh";

pub const ALL: [Step; 9] = [
    Step { name: "format", slow: false, act: format },
    Step { name: "tidy", slow: false, act: tidy_sources },
    Step { name: "nextest", slow: false, act: nextest },
    Step { name: "agents", slow: true, act: install_agents },
    Step { name: "clippy", slow: true, act: clippy },
    Step { name: "tests", slow: false, act: tests },
    Step { name: "description", slow: true, act: description },
    Step { name: "deployment", slow: false, act: deployment },
    Step { name: "licences", slow: false, act: licences },
];

fn done() -> Result<Outcome> {
    Ok(Outcome::Done(String::new()))
}

fn format(_: &mut Known) -> Result<Outcome> {
    run(&mut program("cargo", &["fmt", "--all", "--check"]))?;
    done()
}

fn tidy_sources(_: &mut Known) -> Result<Outcome> {
    tidy::run()?;
    done()
}

fn nextest(_: &mut Known) -> Result<Outcome> {
    if let Some(version) = version(&mut program("cargo", &["nextest", "--version"]))? {
        return Ok(Outcome::Done(version));
    }
    say::line("    cargo-nextest is not installed: building it from source, which takes some minutes.");
    say::line("    (A ready binary is faster: https://nexte.st/docs/installation/pre-built-binaries/)");
    run(&mut program("cargo", &["install", "cargo-nextest", "--locked", "--version", NEXTEST_VERSION]))?;
    Ok(Outcome::Done(format!("installed cargo-nextest {NEXTEST_VERSION}")))
}

fn install_agents(known: &mut Known) -> Result<Outcome> {
    let cache = agents::install()?;
    let remark = cache.describe();
    known.agents = Some(cache.node_modules);
    Ok(Outcome::Done(remark))
}

fn clippy(_: &mut Known) -> Result<Outcome> {
    // Nothing else builds what `attack`, `bench` and `crash` are made of.
    let chores = ["--features", "xtask/attack,xtask/bench,xtask/crash"];
    let mut command = program("cargo", &["clippy", "--workspace", "--all-targets"]);
    run(command.args(chores).args(["--", "-D", "warnings"]))?;
    // Each chore is built with its own features alone, which the workspace together would hide the lack of.
    for alone in ["attack", "crash"] {
        run(&mut program("cargo", &["check", "--package", "clawdforge-testkit", "--features", alone]))?;
    }
    done()
}

fn tests(known: &mut Known) -> Result<Outcome> {
    let mut command = program("cargo", &["nextest", "run", "--workspace", "--profile", "ci"]);
    let remark = match &known.agents {
        Some(folder) => {
            command.env(FOLDER_VARIABLE, folder).env(REQUIRE_VARIABLE, "1");
            String::new()
        }
        None => {
            // The caller's own settings must not turn a quick run into a full one.
            command.env_remove(FOLDER_VARIABLE).env_remove(REQUIRE_VARIABLE);
            "without the real agents".to_owned()
        }
    };
    run(&mut command)?;
    Ok(Outcome::Done(remark))
}

fn description(_: &mut Known) -> Result<Outcome> {
    match schemathesis::build_and_run()? {
        Went::Well => done(),
        Went::NotTried(why) => Ok(Outcome::Skipped(why)),
    }
}

fn deployment(_: &mut Known) -> Result<Outcome> {
    if !root().join(DEPLOYMENT_CHECK).is_file() {
        return Ok(Outcome::Skipped(format!("{DEPLOYMENT_CHECK} is not there")));
    }
    run(&mut program("bash", &[DEPLOYMENT_CHECK, "--no-install"]))?;
    Ok(Outcome::Done("what it could not run is listed above".to_owned()))
}

fn licences(_: &mut Known) -> Result<Outcome> {
    let Some(version) = version(&mut program("cargo", &["deny", "--version"]))? else {
        return Ok(Outcome::Skipped("cargo-deny is not installed".to_owned()));
    };
    run(&mut program("cargo", &["deny", "check"]))?;
    Ok(Outcome::Done(version))
}
