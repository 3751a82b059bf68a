//! What a new tree shall be.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::mark::TreeMark;
use crate::sandbox::Sandbox;

/// Everything about a program to start. Nothing is inherited from the server.
#[derive(Debug, Clone)]
pub struct SpawnSpec {
    /// The program. With a slash it is a path (give an absolute one: a relative path would be taken
    /// from `cwd`); without, it is looked up in the `PATH` of `env`.
    pub program: PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<OsString>,
    /// The whole environment. Only [`TREE_MARK_VARIABLE`](crate::TREE_MARK_VARIABLE) is added.
    pub env: BTreeMap<OsString, OsString>,
    /// The directory it starts in.
    pub cwd: PathBuf,
    /// What its descendants are known by.
    pub mark: TreeMark,
    /// What it reads as standard input.
    pub stdin: StdinMode,
    /// What it may reach; everything that this process may, where there is none.
    pub sandbox: Option<Sandbox>,
}

/// What a program reads as its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdinMode {
    /// A pipe, taken with [`Tree::take_stdin`](crate::Tree::take_stdin).
    Piped,
    /// Nothing: the end of input at once.
    Null,
}
