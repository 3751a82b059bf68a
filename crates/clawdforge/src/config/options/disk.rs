//! The options about what apps and agents may take on the disk.

use super::{Group, Opt, TIB, since_0_2, spec};
use crate::config::kinds::Bytes;

/// What a workspace may take where nothing else is said: as much as the one largest file that an agent may write, and twice
/// the largest upload, so that nothing which an app could attach before is refused. A large checkout with its
/// dependencies and its build takes 1 to 3 GiB.
const WORKSPACE: &str = "16GiB";

pub static UPLOAD_MAX_BYTES: Opt<Bytes> = Opt {
    spec: spec(
        Group::Limits,
        "upload_max_bytes",
        &["CLAWDFORGE_UPLOAD_MAX_BYTES"],
        "8GiB",
        "The largest file an app may upload.",
    ),
    kind: Bytes { min: 1, max: TIB },
};

pub static WORKSPACE_BYTES_MAX: Opt<Bytes> = Opt {
    spec: since_0_2(
        Group::Limits,
        "workspace_bytes_max",
        &["CLAWDFORGE_WORKSPACE_BYTES_MAX"],
        WORKSPACE,
        "What the workspace of a run or a session, with its temporary files and attached uploads, may take on the disk. It is looked at before a turn, every few seconds during it, and while a warm agent rests; above it a turn ends as `workspace_full`, and no further one begins. 0 is no limit.",
    ),
    kind: Bytes { min: 0, max: TIB },
};
