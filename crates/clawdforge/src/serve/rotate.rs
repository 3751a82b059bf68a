//! `clawdforge admin-token rotate`: a new admin token in the place of the old one.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches, Command};
use clawdforge_core::app::ROTATED_ADMIN_TOKEN_PREFIX;
use clawdforge_core::secret::ExposeSecret;
use clawdforge_engine::Ids;
use rustix::process::geteuid;

use super::{admin_token, data_dir};
use crate::config::{self, Config, Inputs};

/// The sub-command.
pub fn admin_token_command() -> Command {
    let option = |id: &'static str, long: &'static str, value: &'static str, help: &'static str| {
        Arg::new(id).long(long).value_name(value).help(help)
    };
    let rotate = Command::new("rotate")
        .about("Make a new admin token; a running service takes it at its next start")
        .arg(option("data_dir", "data-dir", "DIR", "The data directory [default: ./data] [env: CLAWDFORGE_DATA_DIR]"))
        .arg(option("config", "config", "FILE", "The configuration file"));
    Command::new("admin-token")
        .about("Replace the operator's token")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(rotate)
}

/// Runs what was asked of [`admin_token_command`].
///
/// # Errors
/// When the configuration is wrong, names a token itself, or the file cannot be written as the service's user.
pub fn run_admin_token_command(
    matches: &ArgMatches,
    inputs: Inputs,
    ids: &Ids,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let Some(("rotate", matches)) = matches.subcommand() else { bail!("`admin-token` needs: rotate") };
    rotate(&config::load(&inputs.with_flags(matches))?.config, ids, out)?;
    Ok(ExitCode::SUCCESS)
}

fn rotate(config: &Config, ids: &Ids, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(path) = &config.admin_token_file {
        bail!("the service takes its admin token from {}; put a new one there", path.display());
    }
    if config.admin_token.is_some() {
        bail!("the service takes its admin token from its environment; set CLAWDFORGE_ADMIN_TOKEN anew");
    }
    let dir = &config.data_dir;
    // One that is there keeps its mode: a running service may have opened it for the users of its agents.
    if !dir.exists() {
        data_dir::prepare(dir, false, false)?;
    }
    let owner = std::fs::metadata(dir).with_context(|| format!("{} cannot be read", dir.display()))?.uid();
    if owner != geteuid().as_raw() {
        let shown = dir.display();
        bail!("{shown} belongs to user {owner}, who could not read what is written here; run this as that user");
    }
    let path = dir.join(admin_token::FILE);
    let write = || {
        // Mode 0600 from the beginning; whole under its name, or not at all.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        writeln!(file, "{}", ids.token(ROTATED_ADMIN_TOKEN_PREFIX).expose_secret())?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        std::fs::File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(out, "A new admin token is in {}; a service that runs takes it at its next start.", path.display())?;
    Ok(())
}
