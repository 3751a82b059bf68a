//! What acpx needs to work in a sandbox, beside what its agent needs.
//!
//! Its calls are short, and one of them leaves behind an owner that later calls speak to. Each call has a
//! sandbox of its own with the same rights, and the kernel lets no signal pass between two of them. acpx asks
//! with a signal whether the owner is alive and takes the refusal for a no, which is why every call gets a
//! [preload](PRELOAD). Nobody else needs signals there: we end the owner ourselves, by its mark.
//!
//! The same way is taken to narrow what Claude obeys ([`NARROWED`]), with and without a sandbox, and to give agents what they
//! are given by conversation ([`GIVEN`]).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use clawdforge_process::Sandbox;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
use sha2::{Digest as _, Sha256};

use crate::home::{Home, hand_over};

/// Where acpx keeps its sockets; it looks nowhere else.
const SOCKETS: &str = "/tmp";

/// Stands for the present in a time of a file.
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };

/// Digits of the home's hash in the name of the folder of sockets.
const HASH_DIGITS: usize = 10;

/// Loaded by Node before acpx. A process that must not be signalled is there: POSIX says so, acpx (0.19.1)
/// takes it for gone.
pub(super) const PRELOAD: &str = r#"'use strict';
const kill = process.kill;
process.kill = function (pid, signal) {
  try {
    return kill.call(process, pid, signal);
  } catch (error) {
    if (signal === 0 && error.code === 'EPERM') return true;
    throw error;
  }
};
"#;

/// Loaded as well, by acpx and by what it starts, where the workspace is not trusted. acpx (0.19.1) has Claude's adapter obey the
/// settings of the project and not those of the user, and no option of it says otherwise.
pub(super) const NARROWED: &str = r#"'use strict';
const children = require('node:child_process');
const spawn = children.spawn;
const OPTION = '--setting-sources';
children.spawn = function (program, args, ...rest) {
  const narrowed = Array.isArray(args)
    ? args.map((arg, at) => {
        if (args[at - 1] === OPTION) return 'user';
        return String(arg).startsWith(OPTION + '=') ? OPTION + '=user' : arg;
      })
    : args;
  return spawn.call(this, program, narrowed, ...rest);
};
require('node:module').syncBuiltinESMExports();
"#;

/// Where [`GIVEN`] finds the text for the system prompt, beside itself.
pub(super) const SYSTEM_FILE: &str = "acpx-system.json";

/// Loaded as well where a conversation has text for the system prompt. acpx (0.19.1) has options for it, but tells it to Claude's
/// adapter alone and with `session/new` only, so that it would be gone when a conversation is taken up; and arguments are
/// seen by everybody, and bounded. So it is put into the messages on their way to the agent.
pub(super) const GIVEN: &str = r#"'use strict';
const children = require('node:child_process');
const system = JSON.parse(require('node:fs').readFileSync(__dirname + '/acpx-system.json', 'utf8'));
const BEGINS = /"method":"session\/(new|load|resume)"/;
function told(line) {
  if (!BEGINS.test(line)) return line;
  const message = JSON.parse(line);
  message.params._meta = { ...message.params._meta, systemPrompt: system };
  return JSON.stringify(message);
}
const spawn = children.spawn;
children.spawn = function (...args) {
  const child = spawn.apply(this, args);
  if (child.stdin) {
    const write = child.stdin.write;
    child.stdin.write = function (chunk, ...rest) {
      const text = typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString();
      return write.call(this, BEGINS.test(text) ? text.split('\n').map(told).join('\n') : chunk, ...rest);
    };
  }
  return child;
};
require('node:module').syncBuiltinESMExports();
"#;

/// The sandbox of a call, made of that of an agent which has this home: with what a call needs beside it, and where what one
/// leaves behind is found by the next. Blocking.
///
/// # Errors
/// When a folder that acpx needs is in somebody else's hands, or cannot be made.
pub fn around_calls(sandbox: Sandbox, path: &Path, home: Option<&Home>) -> io::Result<Sandbox> {
    let mut sandbox = sandbox;
    sandbox.write.extend(prepare(path, home)?);
    Ok(without_namespaces(sandbox))
}

/// What a call leaves behind stays, and the next call looks for it by its number.
pub(super) fn without_namespaces(sandbox: Sandbox) -> Sandbox {
    Sandbox { namespaces: false, ..sandbox }
}

/// Makes what a sandboxed acpx cannot make itself, for the home it gets; what it may write beside that home comes back.
/// Blocking.
pub(super) fn prepare(path: &Path, home: Option<&Home>) -> io::Result<Vec<PathBuf>> {
    let sockets = socket_folder(path);
    // Named by itself only where that is needed: a home around the data directory is not writable as a whole. In a home
    // of its own acpx makes it, and an agent that puts a link there does not choose what is opened for the next one.
    let records = home.is_none().then(|| path.join(".acpx"));
    for folder in records.iter().chain([&sockets]) {
        own_folder(folder, home)?;
    }
    // It is in use from now on, although nothing is in it yet: what is erased meanwhile leaves it alone.
    let now = Timestamps { last_access: NOW, last_modification: NOW };
    utimensat(CWD, &sockets, &now, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(records.into_iter().chain([sockets]).collect())
}

/// The folder in which owners of acpx listen that have this home.
#[must_use]
pub fn socket_folder(home: &Path) -> PathBuf {
    Path::new(SOCKETS).join(format!("acpx-{}", short_hash(home.as_os_str().as_bytes(), HASH_DIGITS)))
}

/// The first digits of a hash, as acpx names things by them.
pub(super) fn short_hash(bytes: &[u8], digits: usize) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(bytes) {
        // Writing to a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(digits);
    hex
}

/// Makes a folder of the agent's own. One that is there must be its own or ours: its name can be foretold, and
/// what it were a link to would be opened to the agent.
fn own_folder(path: &Path, home: Option<&Home>) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = std::fs::symlink_metadata(path)?;
            let is_ours = found.uid() == rustix::process::geteuid().as_raw();
            let owner = home.and_then(|home| home.owner);
            let is_theirs = owner.is_some_and(|owner| found.uid() == owner.number());
            if !found.is_dir() || !(is_ours || is_theirs) {
                let message = format!("{} is there, and is no folder of the agent's user", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
        }
        Err(error) => return Err(error),
    }
    hand_over(home, path)
}

/// Has Node load a file first, beside what the operator has it load.
pub(super) fn preload(env: &mut BTreeMap<OsString, OsString>, file: &Path) {
    let options = env.entry("NODE_OPTIONS".into()).or_default();
    if !options.is_empty() {
        options.push(" ");
    }
    options.push("--require=\"");
    for byte in file.as_os_str().as_bytes() {
        if matches!(byte, b'"' | b'\\') {
            options.push("\\");
        }
        options.push(OsStr::from_bytes(&[*byte]));
    }
    options.push("\"");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_sockets_has_the_name_that_acpx_gives_it() {
        // `sha256("/root")` begins with these digits.
        let folder = socket_folder(Path::new("/root"));
        assert_eq!(folder, Path::new("/tmp/acpx-94a6b44758"));
    }

    #[test]
    fn a_folder_that_somebody_else_laid_out_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acpx-1");
        own_folder(&path, None).unwrap();
        own_folder(&path, None).unwrap();
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink(dir.path(), &path).unwrap();
        assert!(own_folder(&path, None).is_err(), "a link");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(own_folder(&path, None).is_err(), "a file");
    }

    #[test]
    fn in_a_home_of_its_own_an_agent_names_nothing_further_to_open() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", dir.path().join(".acpx")).unwrap();
        let home = Home { path: dir.path().to_owned(), owner: None, is_passing: false };
        let sockets = socket_folder(dir.path());
        assert_eq!(prepare(dir.path(), Some(&home)).unwrap(), std::slice::from_ref(&sockets));
        let error = prepare(dir.path(), None).unwrap_err();
        assert!(error.to_string().contains(&*dir.path().join(".acpx").to_string_lossy()), "{error}");
        std::fs::remove_file(dir.path().join(".acpx")).unwrap();
        assert_eq!(prepare(dir.path(), None).unwrap(), [dir.path().join(".acpx"), sockets.clone()]);
        std::fs::remove_dir(sockets).unwrap();
    }

    #[test]
    fn a_file_is_loaded_beside_what_the_operator_has_loaded() {
        let mut env = BTreeMap::new();
        preload(&mut env, Path::new("/a b/\"x.cjs"));
        assert_eq!(env[OsStr::new("NODE_OPTIONS")], r#"--require="/a b/\"x.cjs""#);
        let mut env = BTreeMap::from([("NODE_OPTIONS".into(), "--use-openssl-ca".into())]);
        preload(&mut env, Path::new("/x.cjs"));
        assert_eq!(env[OsStr::new("NODE_OPTIONS")], r#"--use-openssl-ca --require="/x.cjs""#);
    }
}
