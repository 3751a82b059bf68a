//! What signs an agent in: the one place where it is kept, and where the start of an agent gets it from.
//!
//! Variables that hold a secret are taken out of an agent's environment when its profile is made, and
//! [`SignIn::add_to`] puts them back for a process that works for somebody. Questions for versions, npm and
//! other agents never see them. Whoever wants to hand out sign-ins of another kind (from a broker, for a while,
//! to one app) changes that function and nothing else.
//!
//! Invariants: no value is printable, and a file is read anew at each start, so that a renewed sign-in needs no
//! restart; a file that others can read is refused.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clawdforge_core::agent::{AgentName, Failure, FailureKind};
use clawdforge_core::secret::{ExposeSecret as _, SecretString};

/// Bytes of a file with a sign-in; the longest known (a token of 1 year) has some hundred.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// What the names of variables with secrets end with.
const SECRET_ENDINGS: &[&str] = &["_KEY", "_TOKEN", "_SECRET", "_PASSWORD", "_CUSTOM_HEADERS"];

/// Mode bits of others than the owner.
const OTHERS: u32 = 0o077;

/// What signs one agent in.
#[derive(Clone, Default)]
pub struct SignIn {
    given: BTreeMap<OsString, OsString>,
    files: BTreeMap<String, PathBuf>,
}

impl SignIn {
    /// Takes the variables with secrets out of an environment; `files` hold the values of others, which win.
    #[must_use]
    pub fn taken_from(env: &mut BTreeMap<OsString, OsString>, files: BTreeMap<String, PathBuf>) -> Self {
        let given = env.extract_if(.., |name, _| is_secret(name)).collect();
        Self { given, files }
    }

    /// Puts everything that signs the agent in into the environment of a process that is about to start. Blocking,
    /// for as long as small files take.
    ///
    /// # Errors
    /// A [`Failure`] for whoever wanted the agent; why is for the operator, in the log.
    pub fn add_to(&self, agent: &AgentName, env: &mut BTreeMap<OsString, OsString>) -> Result<(), Failure> {
        env.extend(self.given.clone());
        for (name, path) in &self.files {
            let value = read(path).map_err(|error| {
                tracing::error!(agent.name = %agent, variable = name, %error, "the sign-in of an agent cannot be read");
                Failure::new(
                    FailureKind::NotSignedIn,
                    "the agent's sign-in cannot be read; `clawdforge doctor` on the service's machine says why",
                )
            })?;
            env.insert(name.into(), value.expose_secret().into());
        }
        Ok(())
    }

    /// The variables there are.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.given.keys().map(OsString::as_os_str).chain(self.files.keys().map(OsStr::new))
    }
}

/// The values stay out.
impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn").field("given", &self.given.keys()).field("files", &self.files).finish()
    }
}

/// Whether a variable of this name holds a secret, told from how such names are made.
#[must_use]
pub fn is_secret(name: &OsStr) -> bool {
    SECRET_ENDINGS.iter().any(|ending| name.as_bytes().ends_with(ending.as_bytes()))
}

/// Why a file with a sign-in is of no use. A sentence for the operator, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there or not to be read.
    #[error("cannot read {}: {}", .0.display(), .1)]
    Unread(PathBuf, io::Error),
    /// Others than its owner can reach it.
    #[error("others than its owner can read or write {path} (mode {mode:03o}); run `chmod 600 {path}`", path = .0.display(), mode = .1)]
    Open(PathBuf, u32),
    /// It does not hold one line of text.
    #[error("{} must hold one line of visible text, of at most {FILE_BYTES_MAX} bytes", .0.display())]
    NoLine(PathBuf),
}

/// The one line that a private file holds. Blocking.
///
/// # Errors
/// [`FileError`].
pub fn read(path: &Path) -> Result<SecretString, FileError> {
    let unread = |error| FileError::Unread(path.to_owned(), error);
    // Nothing is waited for: it might be a pipe.
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    let flags = i32::try_from(flags).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(unread)?;
    let found = file.metadata().map_err(unread)?;
    if !found.is_file() {
        return Err(FileError::NoLine(path.to_owned()));
    }
    if found.mode() & OTHERS != 0 {
        return Err(FileError::Open(path.to_owned(), found.mode() & 0o777));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unread)?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= FILE_BYTES_MAX);
    let line = text.as_deref().map(str::trim).filter(|line| !line.is_empty() && !line.chars().any(char::is_control));
    line.map(|line| SecretString::from(line.to_owned())).ok_or_else(|| FileError::NoLine(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(folder: &Path, text: &str, mode: u32) -> PathBuf {
        let path = folder.join("token");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn secrets_leave_an_environment_and_come_back_at_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "sk-file\n", 0o600);
        let mut plain = env(&[("PATH", "/bin"), ("ANTHROPIC_API_KEY", "sk-given"), ("CLAUDE_CODE_OAUTH_TOKEN", "old")]);
        let files = BTreeMap::from([("CLAUDE_CODE_OAUTH_TOKEN".to_owned(), path.clone())]);
        let sign_in = SignIn::taken_from(&mut plain, files);
        assert_eq!(plain, env(&[("PATH", "/bin")]));
        assert!(!format!("{sign_in:?}").contains("sk-"), "{sign_in:?}");

        let agent: AgentName = "claude".parse().unwrap();
        let mut started = plain.clone();
        sign_in.add_to(&agent, &mut started).unwrap();
        let whole = [("PATH", "/bin"), ("ANTHROPIC_API_KEY", "sk-given"), ("CLAUDE_CODE_OAUTH_TOKEN", "sk-file")];
        assert_eq!(started, env(&whole));

        std::fs::write(&path, "sk-renewed").unwrap();
        sign_in.add_to(&agent, &mut started).unwrap();
        assert_eq!(started[OsStr::new("CLAUDE_CODE_OAUTH_TOKEN")], "sk-renewed", "no restart is needed");

        std::fs::remove_file(&path).unwrap();
        let failure = sign_in.add_to(&agent, &mut started).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotSignedIn);
        assert!(!failure.message.contains(&*path.to_string_lossy()), "callers see no paths: {}", failure.message);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_command_that_closes_it() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let path = file(folder.path(), "sk-open", mode);
            let said = read(&path).unwrap_err().to_string();
            assert!(said.contains(&format!("run `chmod 600 {}`", path.display())), "{said}");
            assert!(!said.contains("sk-open"), "{said}");
        }
        assert_eq!(read(&file(folder.path(), " sk-shut \n", 0o400)).unwrap().expose_secret(), "sk-shut");
    }

    #[test]
    fn a_file_without_exactly_one_line_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", " \n", "one\ntwo", "a\0b", &"x".repeat(16 * 1024 + 1)] {
            let error = read(&file(folder.path(), text, 0o600)).unwrap_err();
            assert!(matches!(error, FileError::NoLine(_)), "{error}");
        }
        assert!(matches!(read(folder.path()).unwrap_err(), FileError::NoLine(_)), "a folder");
        assert!(matches!(read(&folder.path().join("none")).unwrap_err(), FileError::Unread(..)));
    }

    #[test]
    fn a_secret_is_known_by_its_name() {
        for name in ["ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "COPILOT_GITHUB_TOKEN"] {
            assert!(is_secret(OsStr::new(name)), "{name}");
        }
        for name in ["ANTHROPIC_BASE_URL", "HOME", "PATH", "COPILOT_MODEL", "CLAUDE_CODE_EXECUTABLE"] {
            assert!(!is_secret(OsStr::new(name)), "{name}");
        }
    }
}
