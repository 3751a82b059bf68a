//! Why a program could not be started, split by what a caller would do about it.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::spec::SpawnSpec;

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such program: install it, or correct its path.
    #[error("program `{}` not found", program.display())]
    NotFound {
        /// The program as it was given.
        program: PathBuf,
    },
    /// The program is there but cannot run: not executable, of a foreign format, or its interpreter is missing.
    #[error("program `{}` cannot be executed: {source}", program.display())]
    NotExecutable {
        /// The program as it was given.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Arguments and environment are larger than the kernel takes: pass them through a pipe or a file.
    #[error("the arguments and environment are too long for the system")]
    ArgumentsTooLong,
    /// The working directory does not exist or cannot be entered: make it first.
    #[error("working directory `{}` cannot be entered", cwd.display())]
    NoWorkingDirectory {
        /// The directory as it was given.
        cwd: PathBuf,
    },
    /// So many trees are alive that another one could not be ended in good order: end some first.
    #[error("there are already {live_max} live process trees")]
    TooManyTrees {
        /// The bound.
        live_max: usize,
    },
    /// No sandbox could be put around the program, so it was not started.
    #[error("the sandbox could not {action}: {source}")]
    Sandbox {
        /// What could not be done, as a verb phrase.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system refused; trying again may help (memory, descriptors, processes).
    #[error("could not {action}: {source}")]
    Os {
        /// What was being done, as a verb phrase.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The thread that children are born from is gone: the process must be restarted.
    #[error("the spawner thread is gone")]
    SpawnerGone,
}

impl SpawnError {
    pub(crate) fn os(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Os { action, source }
    }

    /// Translates what fork, chdir or exec answered. The kernel gives one number for several causes, so
    /// this looks at the file system for what the number leaves open.
    pub(crate) fn from_birth(spec: &SpawnSpec, source: io::Error) -> Self {
        if matches!(
            source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
        ) && !can_enter(&spec.cwd)
        {
            return Self::NoWorkingDirectory { cwd: spec.cwd.clone() };
        }
        let program = spec.program.clone();
        let exists = || is_path(&spec.program) && spec.cwd.join(&spec.program).exists();
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) if !exists() => Self::NotFound { program },
            // The file exists, so what was not found is the interpreter it names.
            Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::EPERM | libc::ENOEXEC | libc::EISDIR) => {
                Self::NotExecutable { program, source }
            }
            Some(libc::E2BIG) => Self::ArgumentsTooLong,
            _ => Self::Os { action: "start the program", source },
        }
    }
}

fn can_enter(cwd: &Path) -> bool {
    cwd.is_dir() && rustix::fs::access(cwd, rustix::fs::Access::EXEC_OK).is_ok()
}

fn is_path(program: &Path) -> bool {
    let name: &OsStr = program.as_os_str();
    name.as_encoded_bytes().contains(&b'/')
}
