//! The suite itself. Only in the build that `cargo xtask attack` makes.

use anyhow::{Context as _, Result, ensure};
use clawdforge_core::isolation::Isolation;
use clawdforge_testkit::app::Setup;
use clawdforge_testkit::attack::{self, Ground, Report, Weakness};
use tokio::runtime::Builder;

use super::Options;
use crate::paths::{built, root};
use crate::say;

const PAGE: &str = "docs/security/attack-suite.md";

/// Around the table in the page.
const MARKS: [&str; 2] = ["<!-- the table begins -->\n", "<!-- the table ends -->"];

/// Runs it against the build of the service at every level that this machine offers, and prints what came of it.
///
/// # Errors
/// It could not be carried out, or an attack did not come out as expected.
pub fn run(options: Options) -> Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let reports = runtime.block_on(everywhere())?;
    let wrong: Vec<_> = reports
        .iter()
        .flat_map(|report| report.wrong().into_iter().map(|row| format!("{row} at {}", report.level())))
        .collect();
    if options.write {
        let path = root().join(PAGE);
        let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        std::fs::write(&path, with_table(&page, &attack::matrix(&reports))?)?;
        say::line(format_args!("written into {PAGE}"));
    }
    ensure!(wrong.is_empty(), "not as expected: {}", wrong.join(", "));
    let (rows, levels) = (reports.iter().map(|report| report.lines.len()).sum::<usize>(), reports.len());
    say::line(format_args!("all of {rows} attacks at {levels} levels came out as expected"));
    Ok(())
}

async fn everywhere() -> Result<Vec<Report>> {
    let mut grounds = vec![Ground::here(Isolation::Off), Ground::here(Isolation::Landlock)];
    let namespaces = Ground::here(Isolation::Namespaces);
    let without_users = Ground { users: false, ..namespaces };
    if namespaces.root {
        grounds.extend([Ground::here(Isolation::Uid), without_users, namespaces]);
    } else {
        say::line("level `uid` is not to be had here: only root may run programs as other users");
        grounds.push(without_users);
    }
    let mut reports = Vec::new();
    for ground in grounds {
        let setup = Setup::new(built("clawdforge")?);
        match attack::run(setup, ground, Weakness::None).await? {
            Some(report) => {
                say::line(format_args!("\n{report}"));
                reports.push(report);
            }
            None => say::line(format_args!("level `{}` is not to be had here", ground.level)),
        }
    }
    Ok(reports)
}

/// The page with another table between the marks.
fn with_table(page: &str, table: &str) -> Result<String> {
    let [begin, end] = MARKS;
    let parts = page.split_once(begin).and_then(|(head, rest)| Some((head, rest.split_once(end)?.1)));
    let (head, tail) = parts.with_context(|| format!("{PAGE} has no place for the table"))?;
    Ok(format!("{head}{begin}\n{table}\n{end}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let [begin, end] = MARKS;
        let page = format!("head\n{begin}old{end}\ntail");
        let first = with_table(&page, "new").unwrap();
        assert_eq!(first, format!("head\n{begin}\nnew\n{end}\ntail"));
        assert_eq!(with_table(&first, "new").unwrap(), first);
        assert!(with_table("no marks", "new").is_err());
    }
}
