//! What an agent needs to reach beside what every program does: its home and folders, its programs.
//!
//! The one place that turns a [`Profile`] into a [`Sandbox`]; the kernel's side of it is the process
//! crate's. Where an app has a user of its own, its agents have a home of their own, and this is where they
//! get it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use clawdforge_process::{Identity, Sandbox};

use crate::profile::Profile;

/// Variables that name folders which agents keep their settings, sign-ins, transcripts and caches in. They
/// lie in the home unless the operator says otherwise.
const FOLDERS: &[&str] = &[
    "CLAUDE_CONFIG_DIR",
    "CODEX_HOME",
    "COPILOT_HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "npm_config_cache",
    "NPM_CONFIG_CACHE",
];

/// Variables that name further programs to start.
const PROGRAMS: &[&str] = &["CLAUDE_CODE_EXECUTABLE", "CODEX_PATH"];

/// Files that variables of npm name.
const FILES: &[&str] =
    &["npm_config_userconfig", "NPM_CONFIG_USERCONFIG", "npm_config_globalconfig", "NPM_CONFIG_GLOBALCONFIG"];

/// Who the agents of an app are, where they are not the service's own user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppUser {
    /// The user.
    pub identity: Identity,
    /// Its home, which it owns.
    pub home: PathBuf,
}

impl AppUser {
    /// Gives this user the home it has, in place of the service's, and takes out what leads back there.
    pub fn move_in(&self, env: &mut BTreeMap<OsString, OsString>) {
        for name in FOLDERS {
            env.remove(OsStr::new(name));
        }
        env.insert("HOME".into(), self.home.clone().into_os_string());
        // The service's own name would be another user's.
        env.remove(OsStr::new("USER"));
        env.remove(OsStr::new("LOGNAME"));
    }
}

/// Gives a file or folder that was made for an agent to the user it runs as. Links are not followed.
///
/// # Errors
/// When the service may not.
pub fn hand_over(user: Option<&AppUser>, path: &Path) -> io::Result<()> {
    match user {
        Some(user) => user.identity.give(path),
        None => Ok(()),
    }
}

/// The sandbox of one process of an agent that gets this environment; `None` where agents have none. It may
/// do what it likes with `write`, and with its home.
#[must_use]
pub fn sandbox(
    profile: &Profile,
    env: &BTreeMap<OsString, OsString>,
    user: Option<&AppUser>,
    write: Vec<PathBuf>,
) -> Option<Sandbox> {
    let confinement = profile.confinement.as_ref()?;
    let named =
        |names: &'static [&'static str]| names.iter().filter_map(|name| env.get(OsStr::new(name))).map(PathBuf::from);
    // An agent that is an interpreter and a script has the script among the operator's arguments.
    let scripts = profile.args.iter().map(PathBuf::from).filter(|arg| arg.is_absolute() && arg.is_file());
    Some(Sandbox {
        programs: named(PROGRAMS).chain(scripts).collect(),
        read: named(FILES).collect(),
        write: write.into_iter().chain(named(&["HOME"])).chain(named(FOLDERS)).collect(),
        identity: user.map(|user| user.identity),
        ..Sandbox::of(confinement)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clawdforge_process::Confinement;
    use clawdforge_process::sandbox::Helper;

    use super::*;
    use crate::profile::Dialect;

    fn profile(confined: bool) -> Profile {
        let helper = Helper::of_this_binary("launch", "attack");
        Profile {
            name: "claude".parse().unwrap(),
            dialect: Dialect::Claude,
            program: "claude".into(),
            command: None,
            own_program: None,
            search_path: None,
            args: vec!["--acp".into(), "/bin/sh".into()],
            env: BTreeMap::new(),
            retries_max: 2,
            install_hint: String::new(),
            confinement: confined
                .then(|| Arc::new(Confinement::new(helper, Path::new("/data"), Vec::new(), Vec::new()))),
        }
    }

    fn env() -> BTreeMap<OsString, OsString> {
        let env = [
            ("HOME", "/h"),
            ("CLAUDE_CONFIG_DIR", "/c"),
            ("CLAUDE_CODE_EXECUTABLE", "/x/claude"),
            ("USER", "service"),
            ("npm_config_userconfig", "/n"),
        ];
        env.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn an_agent_reaches_its_home_its_folders_and_its_programs() {
        let sandbox = sandbox(&profile(true), &env(), None, vec!["/w".into()]).unwrap();
        let paths = |texts: &[&str]| texts.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(sandbox.write, paths(&["/w", "/h", "/c"]));
        assert_eq!(sandbox.programs, paths(&["/x/claude", "/bin/sh"]));
        assert_eq!(sandbox.read, paths(&["/n"]));
        assert!(super::sandbox(&profile(false), &env(), None, Vec::new()).is_none());
    }

    #[test]
    fn a_user_of_its_own_has_a_home_of_its_own_and_no_way_back() {
        let user = AppUser { identity: Identity::new(20_000).unwrap(), home: "/data/homes/20000".into() };
        let mut env = env();
        user.move_in(&mut env);
        let sandbox = sandbox(&profile(true), &env, Some(&user), Vec::new()).unwrap();
        assert_eq!(sandbox.write, [user.home]);
        assert_eq!(sandbox.identity, Some(user.identity));
        assert!(!env.contains_key(OsStr::new("CLAUDE_CONFIG_DIR")) && !env.contains_key(OsStr::new("USER")));
    }
}
