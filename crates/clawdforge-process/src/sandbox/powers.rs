//! Giving up what a process may: resources, users, capabilities. Only ever in the launcher, which has one
//! thread, so what these calls say of a thread they say of the process.

use std::io;

use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::Identity;

/// Largest file an agent may write: twice the default of the largest upload, far below any disk. Against
/// one endless file, not against many: those are for the service's quota of workspaces (`workspace_bytes_max`), which is
/// looked at every few seconds, so this bounds as well what one file takes between two looks, or without a name.
pub(super) const FILE_BYTES_MAX: u64 = 16 << 30;

/// Processes and threads of one user of agents. Claude Code takes about 30 at its peak with its tools, a
/// build some hundred; enough for the default of eight at once, far below the kernel's usual 32,768. The
/// kernel counts by user, so it is set only where agents have one of their own.
pub(super) const PROCESSES_MAX: u64 = 4_096;

/// Files that one process of agents may have open: more than any build or watcher needs, and far from what the whole
/// system has.
pub(super) const OPEN_FILES_MAX: u64 = 65_536;

/// How much sooner than the service an agent is taken where memory runs out: as if it had half of all memory there is, of
/// the machine or of its group. So it is never the service that is chosen, unless that has taken as much.
const OOM_SCORE: i16 = 500;

/// Numbers of capabilities beyond every kernel's; the first one it does not know ends the list.
const CAPABILITIES_MAX: u32 = 64;

/// Limits what the program and everything it starts may use.
pub(super) fn limit_resources(own_user: bool) -> io::Result<()> {
    let at_most = |resource: Resource, max: u64| {
        let limit = rustix::process::getrlimit(resource);
        let max = limit.maximum.map_or(max, |hard| hard.min(max));
        setrlimit(resource, Rlimit { current: Some(max), maximum: Some(max) })
    };
    // A dump of an agent's memory holds its keys.
    at_most(Resource::Core, 0)?;
    at_most(Resource::Fsize, FILE_BYTES_MAX)?;
    let open_files = rustix::process::getrlimit(Resource::Nofile);
    // The lower of the two stays: programs go through all the numbers below it.
    let lowered = |limit: Option<u64>| Some(limit.map_or(OPEN_FILES_MAX, |limit| limit.min(OPEN_FILES_MAX)));
    let lowered = Rlimit { current: lowered(open_files.current), maximum: lowered(open_files.maximum) };
    setrlimit(Resource::Nofile, lowered)?;
    if own_user {
        at_most(Resource::Nproc, PROCESSES_MAX)?;
    }
    goes_first()
}

/// Has the kernel rather take this process, and all that it starts, than the service. The way back is closed: nothing of
/// `/proc` is an agent's to write.
fn goes_first() -> io::Result<()> {
    let path = "/proc/self/oom_score_adj";
    let is = std::fs::read_to_string(path)?;
    // Whoever started the service may have given it more.
    let has_more = is.trim().parse::<i16>().is_ok_and(|is| is >= OOM_SCORE);
    if has_more { Ok(()) } else { std::fs::write(path, OOM_SCORE.to_string()) }
}

/// Becomes another user, gives up every capability and every way to get one.
pub(super) fn give_up(identity: Option<Identity>) -> io::Result<()> {
    let may_bound = capabilities(None)?.effective.contains(CapabilitySet::SETPCAP);
    // Before the change of user, after which nothing may be taken out of the bounding set any more.
    if may_bound {
        empty_bounding_set()?;
        let bits = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
        set_capabilities_secure_bits(bits)?;
    }
    if let Some(identity) = identity {
        let (uid, gid) = (Uid::from_raw(identity.number()), Gid::from_raw(identity.number()));
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
    }
    // Kernels before 4.3 have none, and then there is nothing to clear.
    if let Err(error) = clear_ambient_capability_set()
        && error != rustix::io::Errno::INVAL
    {
        return Err(error.into());
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    // From here on no program gives more than its caller has, set-user-id or not.
    set_no_new_privs(true)?;
    Ok(())
}

fn empty_bounding_set() -> io::Result<()> {
    for number in 0..CAPABILITIES_MAX {
        let Some(one) = 1_u64.checked_shl(number).map(CapabilitySet::from_bits_retain) else { break };
        match capability_is_in_bounding_set(one) {
            Ok(true) => remove_capability_from_bounding_set(one)?,
            Ok(false) => {}
            // The kernel knows no more of them.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
