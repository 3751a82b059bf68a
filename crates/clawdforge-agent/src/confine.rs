//! What an agent needs to reach beside what every program does: its home and folders, its programs.
//!
//! The one place that turns a [`Profile`] into a [`Sandbox`]; the kernel's side of it is the process
//! crate's.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clawdforge_process::Sandbox;
use clawdforge_process::sandbox::Ports;

use crate::home::{FOLDERS, Home};
use crate::profile::Profile;

/// Variables that name further programs to start.
const PROGRAMS: &[&str] = &["CLAUDE_CODE_EXECUTABLE", "CODEX_PATH"];

/// Files that variables of npm name.
const FILES: &[&str] =
    &["npm_config_userconfig", "NPM_CONFIG_USERCONFIG", "npm_config_globalconfig", "NPM_CONFIG_GLOBALCONFIG"];

/// The sandbox of one process of an agent that gets this environment; `None` where agents have none. It may
/// do what it likes with `write`, and with its home. Where there are rules about the network, it is closed to it
/// until a way is opened.
#[must_use]
pub fn sandbox(
    profile: &Profile,
    env: &BTreeMap<OsString, OsString>,
    home: Option<&Home>,
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
        identity: home.and_then(|home| home.owner),
        ports: profile.network.as_ref().and_then(|_| Ports::only(Vec::new())),
        ..Sandbox::of(confinement)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use clawdforge_process::sandbox::Helper;
    use clawdforge_process::{Confinement, Identity};

    use super::*;

    fn profile(confined: bool) -> Profile {
        let helper = Helper::of_this_binary("launch", "attack");
        Profile {
            args: vec!["--acp".into(), "/bin/sh".into()],
            confinement: confined
                .then(|| Arc::new(Confinement::new(helper, Path::new("/data"), Vec::new(), Vec::new()))),
            ..Profile::plain()
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
    fn an_agent_reaches_its_own_home_and_none_of_the_services_folders() {
        let owner = Identity::new(20_000);
        let home = Home { path: "/data/homes/20000/claude".into(), owner, is_passing: false };
        let mut env = env();
        home.move_in(&mut env);
        let sandbox = sandbox(&profile(true), &env, Some(&home), Vec::new()).unwrap();
        assert_eq!((sandbox.write, sandbox.identity), (vec![home.path], owner));
    }
}
