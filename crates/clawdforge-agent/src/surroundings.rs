//! What a process of an agent finds around it: its home with what the operator lays there, a folder for
//! temporary files, and what signs it in. Every start of an agent comes through here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clawdforge_core::agent::{Failure, FailureKind};
use clawdforge_process::TreeMark;

use crate::furnish::furnish;
use crate::home::Home;
use crate::profile::Profile;

/// The agent's folder for temporary files. Claude Code puts a socket below it, whose path the kernel
/// bounds to 107 bytes: `scratch` should have less than 80.
#[must_use]
pub fn tmp_dir(scratch: &Path) -> PathBuf {
    scratch.join("tmp")
}

/// Lays out an agent's home, and gives the whole environment of a process in it.
///
/// # Errors
/// A [`Failure`] for whoever wanted the agent; why is for the operator, in the log.
pub async fn surroundings(
    profile: &Profile,
    home: Option<&Home>,
    scratch: &Path,
    mark: &TreeMark,
) -> Result<BTreeMap<OsString, OsString>, Failure> {
    let (profile, home, scratch, mark) = (profile.clone(), home.cloned(), scratch.to_owned(), mark.clone());
    let made = tokio::task::spawn_blocking(move || {
        if let Some(home) = &home {
            furnish(home, profile.home_files.as_deref(), mark.as_str()).map_err(|error| {
                tracing::error!(agent.name = %profile.name, %error, "the files for an agent could not be laid into its home");
                let message = "the agent's home could not be laid out; the service's log says why";
                Failure::new(FailureKind::StartFailed, message)
            })?;
        }
        environment(&profile, home.as_ref(), &scratch)
    });
    made.await.unwrap_or_else(|error| {
        tracing::error!(%error, "laying out an agent's home panicked");
        Err(Failure::new(FailureKind::Internal, "the agent's home could not be laid out"))
    })
}

/// The environment alone, for a home that is laid out. Blocking, for as long as small files take.
///
/// # Errors
/// As [`surroundings`].
pub fn environment(
    profile: &Profile,
    home: Option<&Home>,
    scratch: &Path,
) -> Result<BTreeMap<OsString, OsString>, Failure> {
    let mut env = profile.env.clone();
    if let Some(home) = home {
        home.move_in(&mut env);
    }
    profile.sign_in.add_to(&profile.name, &mut env)?;
    name_tmp_dir(&mut env, scratch);
    Ok(env)
}

/// Tells an agent where its temporary files go. Claude Code puts those of its shell tool elsewhere unless it
/// is told by a name of its own; elsewhere is shared, and closed to an agent in a sandbox.
fn name_tmp_dir(env: &mut BTreeMap<OsString, OsString>, scratch: &Path) {
    let tmp = tmp_dir(scratch).into_os_string();
    env.entry("CLAUDE_CODE_TMPDIR".into()).or_insert_with(|| tmp.clone());
    env.insert("TMPDIR".into(), tmp);
}
