//! Finding an agent's program: the one the operator named and no other; else our own installation;
//! else the search path.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clawdforge_core::agent::{Failure, FailureKind};
use rustix::fs::{Access, access};

use crate::profile::Profile;

/// A program that is there and may be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// Who put it there.
    pub source: Source,
}

/// Where a program was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The operator named it.
    Configured,
    /// Our own installation.
    Own,
    /// The search path.
    Path,
}

impl Source {
    /// The source in words, for listings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Own => "own install",
            Self::Path => "PATH",
        }
    }
}

/// Looks for the program of an agent. A handful of `stat` calls; nothing is started.
///
/// # Errors
/// `NotInstalled` where it is nowhere, `StartFailed` where it is there and may not be executed. The
/// sentence says what to do and names no path but the one the operator wrote.
pub fn locate(profile: &Profile) -> Result<Found, Failure> {
    if let Some(command) = &profile.command {
        return configured(profile, command);
    }
    if let Some(own) = &profile.own_program {
        match look(own) {
            Look::Program => return Ok(Found { path: own.clone(), source: Source::Own }),
            Look::NotExecutable => return Err(not_executable(profile, "its installed program")),
            Look::Missing => {}
        }
    }
    on_search_path(profile, &profile.program).map(|path| Found { path, source: Source::Path }).ok_or_else(|| {
        Failure::new(FailureKind::NotInstalled, format!("{} is not installed: {}", profile.name, profile.install_hint))
    })
}

fn configured(profile: &Profile, command: &str) -> Result<Found, Failure> {
    let correct = format!("correct `command` of the agent {} in the configuration", profile.name);
    if !command.contains('/') {
        let found = on_search_path(profile, command).ok_or_else(|| {
            let message = format!("{command} is not on the PATH of the service: put it there, or {correct}");
            Failure::new(FailureKind::NotInstalled, message)
        })?;
        return Ok(Found { path: found, source: Source::Configured });
    }
    let path = Path::new(command);
    if !path.is_absolute() {
        let message = format!("`{command}` is neither a program's name nor an absolute path: {correct}");
        return Err(Failure::new(FailureKind::NotInstalled, message));
    }
    match look(path) {
        Look::Program => Ok(Found { path: path.to_owned(), source: Source::Configured }),
        Look::NotExecutable => Err(not_executable(profile, &format!("`{command}`"))),
        Look::Missing => {
            let message = format!("`{command}` does not exist: install it there, or {correct}");
            Err(Failure::new(FailureKind::NotInstalled, message))
        }
    }
}

fn on_search_path(profile: &Profile, name: &str) -> Option<PathBuf> {
    let search_path = profile.search_path.as_deref().unwrap_or(OsStr::new(""));
    // An empty or relative entry would mean the working directory, which agents write to.
    let folders = std::env::split_paths(search_path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(name)).find(|path| look(path) == Look::Program)
}

#[derive(Debug, PartialEq, Eq)]
enum Look {
    Missing,
    NotExecutable,
    Program,
}

fn look(path: &Path) -> Look {
    match std::fs::metadata(path) {
        Err(_) => Look::Missing,
        Ok(found) if found.is_file() && access(path, Access::EXEC_OK).is_ok() => Look::Program,
        Ok(_) => Look::NotExecutable,
    }
}

fn not_executable(profile: &Profile, what: &str) -> Failure {
    let message =
        format!("{} cannot be started: {what} is not a file the service may execute; check its mode", profile.name);
    Failure::new(FailureKind::StartFailed, message)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn profile(search_path: &[&Path]) -> Profile {
        Profile {
            search_path: Some(std::env::join_paths(search_path).unwrap()),
            install_hint: "run `clawdforge agents install claude`, or put claude on the PATH of the service".into(),
            ..Profile::plain()
        }
    }

    fn program(folder: &Path, name: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn our_own_installation_comes_before_the_search_path() {
        let folder = tempfile::tempdir().unwrap();
        let on_path = program(folder.path(), "claude", 0o755);
        let own = program(folder.path(), "own-claude", 0o755);
        let mut profile = profile(&[folder.path()]);
        profile.own_program = Some(folder.path().join("not-there"));
        assert_eq!(locate(&profile), Ok(Found { path: on_path, source: Source::Path }));
        profile.own_program = Some(own.clone());
        assert_eq!(locate(&profile), Ok(Found { path: own, source: Source::Own }));
    }

    #[test]
    fn a_configured_command_wins_and_nothing_stands_in_for_it() {
        let folder = tempfile::tempdir().unwrap();
        program(folder.path(), "claude", 0o755);
        let other = program(folder.path(), "other", 0o755);
        let mut profile = profile(&[folder.path()]);
        profile.command = Some("other".into());
        assert_eq!(locate(&profile), Ok(Found { path: other.clone(), source: Source::Configured }));
        profile.command = Some(other.to_string_lossy().into_owned());
        assert_eq!(locate(&profile), Ok(Found { path: other, source: Source::Configured }));
        for missing in ["gone", "/gone/claude", "bin/claude"] {
            profile.command = Some(missing.into());
            let failure = locate(&profile).unwrap_err();
            assert_eq!(failure.kind, FailureKind::NotInstalled);
            assert!(failure.message.contains(missing), "{}", failure.message);
        }
    }

    #[test]
    fn a_missing_program_says_how_to_get_it() {
        let failure = locate(&profile(&[])).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotInstalled);
        assert_eq!(
            failure.message,
            "claude is not installed: run `clawdforge agents install claude`, or put claude on the PATH of the service"
        );
    }

    #[test]
    fn what_may_not_be_executed_is_passed_over_on_the_path_and_reported_elsewhere() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let plain = program(first.path(), "claude", 0o644);
        let good = program(second.path(), "claude", 0o755);
        let mut profile = profile(&[first.path(), second.path()]);
        assert_eq!(locate(&profile).unwrap().path, good);
        profile.own_program = Some(plain);
        assert_eq!(locate(&profile).unwrap_err().kind, FailureKind::StartFailed);
        profile.command = Some(first.path().to_string_lossy().into_owned());
        assert_eq!(locate(&profile).unwrap_err().kind, FailureKind::StartFailed);
    }
}
