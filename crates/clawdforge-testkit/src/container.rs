//! What Docker does to a process, without Docker: a set of capabilities, its own by default or what a compose file
//! names, and its filter of system calls as far as it refuses any to a process without more than those.
//!
//! It is stricter in one thing: no program gains anything by being started (`no_new_privs`), because the filter is
//! set without the power to do without that. Namespaces of its own and the covered files of `/proc` are left out.

use std::collections::BTreeMap;

use anyhow::Context;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// Who a process is in a container.
#[derive(Debug, Clone, Copy)]
pub enum Seat {
    /// Root with these capabilities, at most [`DEFAULT`], and no others to be had. Needs root here.
    Root(CapabilitySet),
    /// The user with this number, which needs root here, or whoever the caller is.
    Plain(Option<u32>),
}

/// What root keeps in a container that nobody asked for more or less.
pub const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// Numbers of capabilities beyond every kernel's; the first one it does not know ends the list.
const CAPABILITIES_MAX: u32 = 64;

/// Capabilities by the names that compose files give them: those of [`DEFAULT`] that the service may be given.
const NAMES: [(&str, CapabilitySet); 7] = [
    ("CHOWN", CapabilitySet::CHOWN),
    ("DAC_OVERRIDE", CapabilitySet::DAC_OVERRIDE),
    ("FOWNER", CapabilitySet::FOWNER),
    ("KILL", CapabilitySet::KILL),
    ("SETGID", CapabilitySet::SETGID),
    ("SETPCAP", CapabilitySet::SETPCAP),
    ("SETUID", CapabilitySet::SETUID),
];

/// What the line `cap_add` of a compose file names.
///
/// # Errors
/// When there is none, or it names others than the service may be given.
pub fn added(compose: &str) -> anyhow::Result<CapabilitySet> {
    let line = compose.lines().find_map(|line| line.trim().strip_prefix("cap_add: [")).context("no `cap_add: [`")?;
    let names = line.strip_suffix(']').context("no list on one line")?.split(", ");
    names
        .map(|name| NAMES.iter().find(|(known, _)| *known == name).map(|(_, set)| *set).context(name.to_owned()))
        .collect()
}

/// As the kernel shows it in `/proc/<pid>/status`.
#[must_use]
pub fn shown(set: CapabilitySet) -> String {
    format!("{:016x}", set.bits())
}

/// Calls that the filter lets nobody make who has no more than [`DEFAULT`].
const REFUSED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Calls that are younger than the filter; it refuses what it does not know as not permitted, and not as unknown.
const UNKNOWN_TO_IT: std::ops::Range<libc::c_long> = 450..512;

/// Flags of `clone` that make namespaces.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Puts the calling thread, and all that it starts from here on, where a container's process is: for good, so call it
/// in a thread of its own.
///
/// Who is not root keeps the bounding set, out of which nothing can be had then.
///
/// # Errors
/// When this machine does not let us.
pub fn enter(seat: Seat) -> anyhow::Result<()> {
    let (keeps, bounds) = match seat {
        Seat::Root(set) => (set, set),
        Seat::Plain(_) => (CapabilitySet::empty(), DEFAULT),
    };
    if capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        shrink_bounding_set(bounds).context("the bounding set")?;
    }
    if let Seat::Plain(Some(number)) = seat {
        let (uid, gid) = (Uid::from_raw(number), Gid::from_raw(number));
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
    }
    let sets = CapabilitySets { effective: keeps, permitted: keeps, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context("the capabilities")?;
    for filter in filters()? {
        apply_filter(&filter).context("the filter of system calls")?;
    }
    Ok(())
}

fn shrink_bounding_set(bounds: CapabilitySet) -> anyhow::Result<()> {
    for number in 0..CAPABILITIES_MAX {
        let Some(one) = 1_u64.checked_shl(number).map(CapabilitySet::from_bits_retain) else { break };
        match capability_is_in_bounding_set(one) {
            Ok(true) if !bounds.contains(one) => remove_capability_from_bounding_set(one)?,
            Ok(_) => {}
            // The kernel knows no more of them.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn filters() -> anyhow::Result<[BpfProgram; 2]> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let compiled = |rules: BTreeMap<i64, Vec<SeccompRule>>, errno: libc::c_int| -> anyhow::Result<BpfProgram> {
        let refuse = SeccompAction::Errno(errno.cast_unsigned());
        Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()?)
    };
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().copied().chain(UNKNOWN_TO_IT).map(|call| (call, Vec::new())).collect();
    let makes = |flag: libc::c_int| {
        let flag = u64::from(flag.cast_unsigned());
        SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(flag), flag)?])
    };
    refused.insert(libc::SYS_clone, NAMESPACES.into_iter().map(makes).collect::<Result<_, _>>()?);
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok([compiled(refused, libc::EPERM)?, compiled(unknown, libc::ENOSYS)?])
}
