//! `cargo xtask test`: everything there is to check, in steps, each announced and timed.
//!
//! The first step that fails ends the run with a sentence that names it. A step that could not run says
//! so in the summary; nothing is left out silently.

mod steps;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::say;

/// One thing that is checked, or fetched for the checks after it.
struct Step {
    name: &'static str,
    /// Whether `--quick` leaves it out.
    slow: bool,
    act: fn(&mut Known) -> Result<Outcome>,
}

/// How a step went when it did not fail.
enum Outcome {
    /// Done, with a remark for the summary.
    Done(String),
    /// Not done, and why.
    Skipped(String),
}

/// What earlier steps found out for later ones.
#[derive(Default)]
struct Known {
    /// The `node_modules` folder of the agents; `None` when that step was left out.
    agents: Option<std::path::PathBuf>,
}

struct Report {
    name: &'static str,
    time: Duration,
    outcome: Outcome,
}

/// Runs all steps, or all but the slow ones.
///
/// # Errors
/// The first step that failed, by name.
pub fn run(quick: bool) -> Result<()> {
    run_steps(&steps::ALL, quick)
}

fn run_steps(steps: &[Step], quick: bool) -> Result<()> {
    let started = Instant::now();
    let mut known = Known::default();
    let mut reports = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        say::line(format_args!("==> {}/{} {}", index + 1, steps.len(), step.name));
        let begun = Instant::now();
        let outcome =
            if quick && step.slow { Ok(Outcome::Skipped("--quick".to_owned())) } else { (step.act)(&mut known) };
        let time = begun.elapsed();
        match outcome {
            Ok(outcome) => {
                let report = Report { name: step.name, time, outcome };
                say::line(format_args!("<== {report}"));
                reports.push(report);
            }
            Err(error) => {
                say::line(format_args!("<== {} FAILED after {:.1} s", step.name, time.as_secs_f64()));
                summary(&reports);
                return Err(error)
                    .with_context(|| format!("step `{}` failed; the steps after it were not run", step.name));
            }
        }
    }
    summary(&reports);
    let skipped = reports.iter().filter(|report| matches!(report.outcome, Outcome::Skipped(_))).count();
    let rest = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    say::line(format_args!(
        "passed: {} steps in {:.1} s{rest}",
        reports.len() - skipped,
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn summary(reports: &[Report]) {
    say::line("");
    for report in reports {
        say::line(format_args!("    {report}"));
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, seconds) = (self.name, self.time.as_secs_f64());
        match &self.outcome {
            Outcome::Done(remark) if remark.is_empty() => write!(out, "{name:<12} {seconds:>7.1} s"),
            Outcome::Done(remark) => write!(out, "{name:<12} {seconds:>7.1} s  {remark}"),
            Outcome::Skipped(reason) => write!(out, "{name:<12} {:>9}  skipped: {reason}", ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remember(known: &mut Known) -> Result<Outcome> {
        known.agents = Some("here".into());
        Ok(Outcome::Done(String::new()))
    }
    fn fail(_: &mut Known) -> Result<Outcome> {
        anyhow::bail!("the reason")
    }
    fn need_what_was_remembered(known: &mut Known) -> Result<Outcome> {
        known.agents.take().context("nothing was remembered")?;
        Ok(Outcome::Done("found".to_owned()))
    }
    const REMEMBER: Step = Step { name: "remember", slow: true, act: remember };
    const FAIL: Step = Step { name: "fail", slow: true, act: fail };
    const NEED: Step = Step { name: "need", slow: false, act: need_what_was_remembered };

    #[test]
    fn a_later_step_sees_what_an_earlier_one_found() {
        run_steps(&[REMEMBER, NEED], false).unwrap();
    }

    #[test]
    fn the_first_failure_ends_the_run_and_is_named() {
        let error = format!("{:#}", run_steps(&[FAIL, NEED], false).unwrap_err());
        assert!(error.contains("step `fail` failed") && error.contains("the reason"), "{error}");
    }

    #[test]
    fn quick_leaves_slow_steps_out() {
        let error = format!("{:#}", run_steps(&[FAIL, REMEMBER, NEED], true).unwrap_err());
        assert!(error.contains("step `need` failed"), "{error}");
    }

    #[test]
    fn a_skipped_step_says_why() {
        let report = Report { name: "licences", time: Duration::ZERO, outcome: Outcome::Skipped("no tool".to_owned()) };
        assert!(report.to_string().contains("skipped: no tool"), "{report}");
    }
}
