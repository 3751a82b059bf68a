//! Owning agent process trees from birth to wait. Knows nothing of agents.
//!
//! The invariants, and where each is kept:
//!
//! - **Every child is born on one long-lived thread** ([`Spawner`]), because the kernel's parent-death
//!   signal follows the thread that forked, not the process. The thread lives as long as any [`Tree`].
//! - **Every leader opens its own session.** A process cannot enter a foreign session, so whatever
//!   carries the leader's session id is of its tree, and no terminal of the operator is reachable.
//! - **A leader stays unreaped until its tree is gone.** Its zombie pins the numbers of process, group
//!   and session: no signal of ours can reach a stranger that got a recycled number.
//! - **The server is a child subreaper.** A process that lost its parent becomes our child, so every
//!   survivor hangs below us and is found by its session, its ancestors, or the mark in its environment.
//! - **A [`Tree`] that is dropped dies.** [`Tree::end`] is the polite way and tells what it took.
//! - **What an errand leaves behind has an owner.** A program started by [`Spawner::errand`] may leave processes
//!   that live on; a [`Kin`] of its mark ends them, and its drop kills them.
//! - After a crash of the server, [`reaper::end_leftovers`] ends what a stored mark or identity names.
//! - **Who forks faster than a pass over `/proc` takes is caught as well**: by the number that the kernel gave away last
//!   (`ambush`), and a pass during which somebody was born counts as quiet only when that has been listened to.
//! - Where the service has control groups to give ([`Cgroups`]), every tree, and every kin with its errands, has one: who is
//!   in it is a member, and all in it are killed at once.
//!
//! Out of reach: a process that cleared its environment, opened its own session *and* outlived its
//! parent before anybody looked; and a chain of processes that does so in every generation. Only a process
//! namespace or a control group covers that.
//!
//! What a tree may reach, beside when it ends, is the business of [`sandbox`].
//!
//! Unsafe code lives in `birth` and `settle` (what runs between fork and exec), in `sandbox` (calls that rustix does not
//! offer), in [`secrets`] and, for one constructor, in `exit`.

mod ambush;
mod birth;
mod cgroup;
mod error;
mod exit;
mod identity;
mod kin;
mod launch;
mod leaders;
pub mod lines;
mod mark;
mod proc;
pub mod reaper;
pub mod sandbox;
mod scope;
pub mod secrets;
mod settle;
mod signal;
mod spawner;
mod spec;
mod sweep;
mod tail;
mod tree;
mod undertaker;

pub use cgroup::{Bounds, Cgroups, NoCgroups, own_cgroup};
pub use error::SpawnError;
pub use exit::{ExitReport, LeaderWatch};
pub use identity::{BadTreeIdentity, TreeIdentity};
pub use kin::{Kin, KinReport};
pub use mark::{BadTreeMark, TREE_MARK_VARIABLE, TreeMark};
pub use sandbox::{Confinement, Identity, Sandbox};
pub use spawner::Spawner;
pub use spec::{SpawnSpec, StdinMode};
pub use tree::{EndReport, Tree};
