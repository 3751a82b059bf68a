//! System calls: a filter that refuses what no agent needs and an attacker would use.
//!
//! A list of what is refused, not of what is allowed: agents bring compilers, browsers and languages of
//! their own, and an allow-list would break one of them with every new kernel. What the list is for: new
//! namespaces (in which a process has every capability again), other processes' memory, mounts, keyrings,
//! loading code into the kernel, ways around the other layers (`io_uring`, handles of files), and the rarer
//! kinds of sockets.
//!
//! The filter counts for the native interface of the machine. A 32-bit program is ended by its first call.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// Refused as not permitted, whatever the arguments.
const FORBIDDEN: &[libc::c_long] = &[
    // Other processes: their memory, descriptors and secrets.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Namespaces and the view of the file system.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Files by handle, past every directory on the way.
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // The keyring of the service's user.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// Refused as unknown, so that programs fall back to older calls: `clone3` hides its flags in memory, where
/// a filter cannot look, and `io_uring` makes calls that no filter sees.
const UNKNOWN: &[libc::c_long] =
    &[libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Refused as unknown as well, as of a kernel without them, where others of the same user are met by them: what System V has, and
/// queues of POSIX. Those that are open are not met by anybody else.
const MEETING: &[libc::c_long] = &[
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

/// Kinds of sockets that are left: local ones, the Internet's, and the one that lists network interfaces.
const SOCKETS: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The families of the Internet.
const INTERNET: [libc::c_int; 2] = [libc::AF_INET, libc::AF_INET6];

/// Kinds of sockets of these families other than streams.
const NOT_STREAMS: [libc::c_int; 5] =
    [libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_RDM, libc::SOCK_SEQPACKET, libc::SOCK_DCCP];

/// The bits of a kind of socket that are not flags.
const SOCKET_KIND: u64 = 0xf;

/// Protocols of streams that Landlock's rules count for. To MPTCP, which falls back to TCP with every
/// server, they do not.
const STREAM_PROTOCOLS: [libc::c_int; 2] = [0, libc::IPPROTO_TCP];

/// Calls that connect while they send, which Landlock does not see, with the argument that has the flags.
const SENDING: [(libc::c_long, u8); 3] = [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)];

/// Calls that set a process' limits, processors, scheduling or places in memory, with its number as the first argument. What is
/// meant for oneself is asked for with 0; whose a number is, a filter cannot know.
const OF_A_PROCESS: [libc::c_long; 7] = [
    libc::SYS_prlimit64,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setaffinity,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
];

/// Calls that set priorities of a process, a group or a user, as the first argument says, whose number is the second; with
/// what stands for a user. 0 is one's own, which for a user is the service's as well.
const OF_PROCESSES: [(libc::c_long, u64); 2] =
    [(libc::SYS_setpriority, libc::PRIO_USER as u64), (libc::SYS_ioprio_set, IO_PRIORITY_OF_USER)];

/// `IOPRIO_WHO_USER`.
const IO_PRIORITY_OF_USER: u64 = 3;

/// What `clone` must not make. It cannot make a time namespace: that flag is a part of the exit signal to it.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Requests that put words into a terminal as if they were typed.
const TERMINAL_INPUT: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

/// Of the x32 interface of x86-64, whose calls have numbers of their own and thus pass every other rule.
#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallsError {
    #[error("the filter of system calls is wrong: {0}")]
    Wrong(#[from] seccompiler::BackendError),
    #[error("the kernel took no filter of system calls: {0}")]
    Refused(#[from] seccompiler::Error),
}

impl CallsError {
    pub(super) fn errno(&self) -> i32 {
        match self {
            Self::Refused(seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error)) => {
                error.raw_os_error().unwrap_or(libc::EINVAL)
            }
            _ => libc::EINVAL,
        }
    }
}

/// What the other layers leave to the filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    /// Cutting files by their path.
    pub truncation: bool,
    /// The network, but for ports of TCP.
    pub network: bool,
    /// Meeting others of the same user without a file.
    pub meeting: bool,
}

/// Filters this thread for good.
pub(super) fn enforce(left: Left) -> Result<(), CallsError> {
    for program in filters(left)? {
        apply_filter(&program)?;
    }
    Ok(())
}

/// Prepared before a change of user is made, so that an error is one of ours.
fn filters(left: Left) -> Result<[BpfProgram; 2], CallsError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let compile = |rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32| -> Result<BpfProgram, CallsError> {
        let errno = u32::try_from(errno).unwrap_or_default();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch)?;
        Ok(filter.try_into()?)
    };
    let mut forbidden: BTreeMap<i64, Vec<SeccompRule>> = FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
    forbidden.insert(libc::SYS_clone, NAMESPACES.iter().map(|flag| has_flag(0, *flag)).collect::<Result<_, _>>()?);
    forbidden.insert(libc::SYS_ioctl, TERMINAL_INPUT.iter().map(|request| is(1, *request)).collect::<Result<_, _>>()?);
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        forbidden.insert(call, vec![is_none_of(0, SOCKETS)?]);
    }
    for call in OF_A_PROCESS {
        forbidden.insert(call, vec![is_none_of(0, [0])?]);
    }
    for (call, user) in OF_PROCESSES {
        forbidden.insert(call, vec![is_none_of(1, [0])?, is(0, user)?]);
    }
    if left.network {
        forbidden.entry(libc::SYS_socket).or_default().extend(all_but_tcp()?);
        for (call, flags) in SENDING {
            forbidden.insert(call, vec![has_flag(flags, libc::MSG_FASTOPEN)?]);
        }
    }
    if left.truncation {
        // By path; what is open for writing can still be cut with `ftruncate`.
        forbidden.insert(libc::SYS_truncate, Vec::new());
    }
    let meeting = if left.meeting { MEETING } else { &[] };
    let unknown = UNKNOWN.iter().chain(meeting).map(|call| (*call, Vec::new())).collect();
    let mut first = compile(forbidden, libc::EPERM)?;
    bar_x32(&mut first);
    Ok([first, compile(unknown, libc::ENOSYS)?])
}

fn has_flag(argument: u8, flag: libc::c_int) -> Result<SeccompRule, seccompiler::BackendError> {
    let flag = u64::from(flag.cast_unsigned());
    SeccompRule::new(vec![SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(flag),
        flag,
    )?])
}

/// Sockets of the Internet that no rule about ports counts for.
fn all_but_tcp() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let word = |argument: u8, op: SeccompCmpOp, value: libc::c_int| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, u64::from(value.cast_unsigned()))
    };
    let mut rules = Vec::new();
    for family in INTERNET {
        for kind in NOT_STREAMS {
            rules.push(vec![word(0, SeccompCmpOp::Eq, family)?, word(1, SeccompCmpOp::MaskedEq(SOCKET_KIND), kind)?]);
        }
        let [any, tcp] = STREAM_PROTOCOLS;
        rules.push(vec![
            word(0, SeccompCmpOp::Eq, family)?,
            word(2, SeccompCmpOp::Ne, any)?,
            word(2, SeccompCmpOp::Ne, tcp)?,
        ]);
    }
    rules.into_iter().map(SeccompRule::new).collect()
}

fn is(argument: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?])
}

fn is_none_of<const N: usize>(
    argument: u8,
    values: [libc::c_int; N],
) -> Result<SeccompRule, seccompiler::BackendError> {
    let differs = |value: libc::c_int| {
        let value = u64::from(value.cast_unsigned());
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
    };
    SeccompRule::new(values.into_iter().map(differs).collect::<Result<_, _>>()?)
}

/// Puts a refusal of every x32 call in front of a filter.
#[cfg(target_arch = "x86_64")]
fn bar_x32(program: &mut BpfProgram) {
    use seccompiler::sock_filter;
    let op = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    let bar = [
        // The number of the call is the first word of what a filter sees.
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32_BIT),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, refuse),
    ];
    program.splice(0..0, bar);
}

#[cfg(not(target_arch = "x86_64"))]
fn bar_x32(_program: &mut BpfProgram) {}

impl From<CallsError> for io::Error {
    fn from(error: CallsError) -> Self {
        Self::from_raw_os_error(error.errno())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_can_be_made_on_this_machine() {
        for all in [true, false] {
            assert!(filters(Left { truncation: all, network: all, meeting: all }).is_ok());
        }
    }

    #[test]
    fn no_call_is_refused_in_two_ways() {
        assert!(UNKNOWN.iter().chain(MEETING).all(|call| !FORBIDDEN.contains(call)));
    }
}
