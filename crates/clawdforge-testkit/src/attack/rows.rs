//! What is tried. A prompt is a line for the demo agent with names in braces, which the stage fills in; `attack NAME`
//! stands for that attack of the process crate, with the service and app A as its targets unless others are named.

use clawdforge_core::isolation::Isolation::{Landlock, Namespaces, Uid};

use super::Barrier::{self, Always, From, Memory, Nothing, Ports, Scope, ScopeAlone, Users};
use super::Control::{self, AsItIs, Works, WorksAsRoot};

/// One attack.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its stable name.
    pub name: &'static str,
    /// What is tried, for people.
    pub tries: &'static str,
    pub(super) how: How,
    pub(super) barrier: Barrier,
    pub(super) control: Control,
}

/// How it is tried, and where its outcome is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// By the attacker, who says it.
    Told(&'static str),
    /// The same in a process of its own, because it changes the process.
    Alone(&'static str),
    /// The attacker leaves a file in its home; app A's next agent looks into its own.
    LeftInHome(&'static str),
    /// The attacker leaves a file in its workspace; app A's next agent looks into its own.
    LeftInWorkspace(&'static str),
    /// The attacker lays links to app A's home in the place of these folders of its own; its next agent looks through them.
    Bends(&'static [&'static str]),
    /// The attacker is asked for a variable of the service's environment.
    Variable(&'static str),
    /// The attacker fills its workspace in a session and stays; the suite looks whether the turn is ended for it, and no
    /// other begun.
    Fills(&'static str),
    /// The attacker takes all there is of something in a session, says how far it came, and keeps it.
    Takes(&'static str),
    /// Whether the service, app A's warm agent, and a new one of A's are kept from answering meanwhile: the row in which it
    /// is taken.
    Starves(&'static str),
    /// The attacker leaves a process behind; the suite looks whether it is gone.
    Survivor,
    /// Whether anything of what was taken is left when its session is closed.
    Remains,
}

impl How {
    /// Whether it is about what is not endless, and others that need some of it.
    pub(super) fn is_siege(self) -> bool {
        matches!(self, Takes(_) | Fills(_) | Starves(_) | Remains)
    }
}

use How::{Alone, Bends, Fills, LeftInHome, LeftInWorkspace, Remains, Starves, Survivor, Takes, Told, Variable};

/// The gap of a level that has no named one for it: what has one is refused there.
const NONE: &str = "none";

const fn row(name: &'static str, tries: &'static str, how: How, barrier: Barrier, control: Control) -> Row {
    Row { name, tries, how, barrier, control }
}

const fn told(name: &'static str, tries: &'static str, prompt: &'static str, barrier: Barrier) -> Row {
    row(name, tries, Told(prompt), barrier, Works)
}

/// Works without isolation only where the service is root's.
const fn by_root(name: &'static str, tries: &'static str, prompt: &'static str, barrier: Barrier) -> Row {
    row(name, tries, Told(prompt), barrier, WorksAsRoot)
}

const fn starves(name: &'static str, tries: &'static str, taker: &'static str) -> Row {
    row(name, tries, Starves(taker), Always, Works)
}

const REFUSED: Barrier = From(Landlock, NONE);
const HIDDEN: Barrier = From(Namespaces, "read_service_arguments");

/// All of them, in the order they are tried: what does harm without isolation comes last.
pub(super) const ALL: &[Row] = &[
    // The service's files.
    told("read_database", "read the database", "attack read_database", REFUSED),
    told("read_wal", "read its write-ahead log", "attack read_database database={data}/clawdforge.sqlite-wal", REFUSED),
    told(
        "read_admin_token",
        "read the admin token's file",
        "attack read_database database={data}/admin-token",
        REFUSED,
    ),
    told("read_app_token", "read an app token's file", "attack read_database database={data}/demo-token", REFUSED),
    told("read_database_by_link", "read the database by a symbolic link", "attack read_database_by_link", REFUSED),
    told("link_database", "give the database another name (hard link)", "attack link_database", REFUSED),
    told("read_database_by_dots", "read it by `..` beyond the top", "try: dotdot {data}/clawdforge.sqlite", REFUSED),
    told(
        "read_database_by_race",
        "swap a file for a link while it is opened",
        "try: rename-race {data}/clawdforge.sqlite",
        REFUSED,
    ),
    told(
        "change_database_mode",
        "change the database's mode",
        "attack change_database_mode",
        From(Uid, "change_database_mode"),
    ),
    told("stat_database", "ask for its size and times", "attack stat_database", From(Namespaces, "stat_database")),
    // App A's files.
    told("read_other_workspace", "read A's workspace", "attack read_other_workspace", REFUSED),
    told("write_other_workspace", "write into A's workspace", "attack write_other_workspace", REFUSED),
    told(
        "link_other_file",
        "give A's file another name (hard link)",
        "attack link_database database={workspace}/secret",
        REFUSED,
    ),
    told("list_uploads", "list the uploads", "try: read {data}/files", REFUSED),
    told("read_other_upload", "read A's upload", "attack read_database database={upload}", REFUSED),
    told(
        "read_other_transcript",
        "read a transcript in the home of A's agents",
        "try: read {home_a}/transcript",
        REFUSED,
    ),
    told("write_other_home", "write into the home of A's agents", "try: plant {home_a}/planted/by-b", REFUSED),
    // The host's files.
    by_root("write_etc", "write into `/etc`", "attack write_etc", REFUSED),
    by_root("write_usr", "write into `/usr`", "attack write_usr", REFUSED),
    by_root("read_shadow", "read the password hashes", "attack read_shadow", REFUSED),
    told("write_shared_tmp", "write into a shared folder of `/tmp`", "attack write_shared_tmp", REFUSED),
    // The service's process.
    by_root(
        "read_service_environment",
        "`/proc/PID/environ` of the service",
        "attack read_service_environment",
        REFUSED,
    ),
    by_root("read_service_memory", "`/proc/PID/mem` of the service", "attack read_service_memory", REFUSED),
    by_root("list_service_files", "`/proc/PID/fd` of the service", "attack list_service_files", REFUSED),
    by_root("open_service_files", "open what the service has open", "try: open-files-of {service}", REFUSED),
    by_root(
        "read_through_service_root",
        "`/proc/PID/root` of the service",
        "attack read_through_service_root",
        REFUSED,
    ),
    told("read_service_arguments", "`/proc/PID/cmdline` of the service", "attack read_service_arguments", HIDDEN),
    told("signal_service", "signal the service", "attack signal_service", Scope("signal_service")),
    by_root("trace_service", "trace the service", "attack trace_service", REFUSED),
    by_root("copy_service_memory", "copy the service's memory", "attack copy_service_memory", REFUSED),
    by_root("limit_service", "set a limit of the service's process", "try: limit {service}", REFUSED),
    told("renice_service", "set the service's priority", "try: renice {service}", REFUSED),
    told("pin_service", "say on which processors the service runs", "try: pin {service}", REFUSED),
    // A's agent, which is warm.
    told(
        "read_agent_environment",
        "`/proc/PID/environ` of A's agent",
        "attack read_service_environment service={victim}",
        REFUSED,
    ),
    told("read_agent_memory", "`/proc/PID/mem` of A's agent", "attack read_service_memory service={victim}", REFUSED),
    told("list_agent_files", "`/proc/PID/fd` of A's agent", "attack list_service_files service={victim}", REFUSED),
    told(
        "read_through_agent_root",
        "`/proc/PID/root` of A's agent",
        "attack read_through_service_root service={victim} database={workspace}/secret",
        REFUSED,
    ),
    told("read_agent_folder", "`/proc/PID/cwd` of A's agent", "try: read /proc/{victim}/cwd", REFUSED),
    told(
        "read_agent_arguments",
        "`/proc/PID/cmdline` of A's agent",
        "attack read_service_arguments service={victim}",
        HIDDEN,
    ),
    told("signal_agent", "signal A's agent", "attack signal_service service={victim}", Scope("signal_service")),
    told("trace_agent", "trace A's agent", "attack trace_service service={victim}", REFUSED),
    told("copy_agent_memory", "copy the memory of A's agent", "attack copy_service_memory service={victim}", REFUSED),
    told("limit_agent", "set a limit of A's agent", "try: limit {victim}", REFUSED),
    // The network and sockets.
    told("connect_service", "connect to the service's port", "attack connect_tcp tcp={port}", Ports("connect_tcp")),
    told("call_admin_api", "call the admin API without a token", "try: ask {port} /admin/tokens", Always),
    told(
        "connect_loopback",
        "connect to another service of this machine",
        "attack connect_tcp tcp={loopback}",
        Ports("connect_tcp"),
    ),
    told(
        "listen_tcp",
        "listen on a port that others reach",
        "attack listen_tcp tcp={port}",
        From(Namespaces, "listen_tcp"),
    ),
    told("send_udp", "send a datagram", "attack send_udp udp={loopback}", Ports("send_udp")),
    told(
        "connect_path_socket",
        "connect to a socket with a path",
        "attack connect_path_socket socket={socket}",
        From(Uid, "connect_path_socket"),
    ),
    told(
        "connect_abstract_socket",
        "connect to an abstract socket",
        "attack connect_abstract_socket abstract={abstract}",
        ScopeAlone("connect_abstract_socket"),
    ),
    // Where processes of one user meet without a file.
    told(
        "reach_system_v_ipc",
        "find the service's shared memory, semaphores or messages (System V)",
        "attack reach_system_v_ipc ipc={ipc}",
        REFUSED,
    ),
    told(
        "reach_posix_queue",
        "open a message queue of the service's (POSIX)",
        "attack reach_posix_queue queue={queue}",
        REFUSED,
    ),
    told(
        "watch_other_workspace",
        "be told of all that happens in A's workspace (inotify)",
        "attack watch_other_workspace",
        From(Uid, "watch_other_workspace"),
    ),
    // More power.
    by_root("mount_other_workspace", "mount A's workspace over a folder", "try: mount {workspace}", REFUSED),
    by_root(
        "gain_by_set_user_id",
        "run a program of root's with set-user-id",
        "try: set-user-id {programs}/cat",
        REFUSED,
    ),
    row("open_rare_socket", "open a socket of a rare kind", Told("attack open_rare_socket"), REFUSED, WorksAsRoot),
    row("raise_capability", "take a capability back", Alone("attack raise_capability"), REFUSED, WorksAsRoot),
    row("nest_user_namespace", "make a user namespace", Alone("attack nest_user_namespace"), REFUSED, AsItIs),
    // What lasts.
    row("outlive_session", "leave a process behind: own session, no parent, deaf to signals", Survivor, Always, Works),
    row(
        "leave_settings",
        "leave `.claude/settings.json` (hooks) in the home for A's next agent",
        LeftInHome(".claude/settings.json"),
        Always,
        Works,
    ),
    row(
        "leave_mcp",
        "leave `.claude.json` (MCP servers) in the home for A's next agent",
        LeftInHome(".claude.json"),
        Always,
        Works,
    ),
    row(
        "leave_acpx_config",
        "leave `.acpx/config.json` in the home for A's next agent",
        LeftInHome(".acpx/config.json"),
        Always,
        Works,
    ),
    row(
        "leave_acpxrc",
        "leave `.acpxrc.json` in the workspace for A's next agent",
        LeftInWorkspace(".acpxrc.json"),
        Always,
        Works,
    ),
    row(
        "bend_next_sandbox",
        "have its next sandbox open A's home, by links in the place of `.acpx` and other folders of its own",
        Bends(&[".acpx", ".claude", ".codex", ".config", ".cache", ".local"]),
        REFUSED,
        Works,
    ),
    row("smuggle_ld_preload", "get `LD_PRELOAD` of the service's environment", Variable("LD_PRELOAD"), Always, Works),
    row(
        "smuggle_node_options",
        "get `NODE_OPTIONS` of the service's environment",
        Variable("NODE_OPTIONS"),
        Always,
        Works,
    ),
    // Secrets, wherever they may be seen.
    by_root(
        "find_environment_secret",
        "find a secret of the service's environment",
        "try: hunt {secret_environment} {places}",
        REFUSED,
    ),
    told(
        "find_database_secret",
        "find what A's prompt and upload say",
        "try: hunt {secret_database} {places}",
        REFUSED,
    ),
    told("find_token", "find the admin token", "try: hunt {secret_token} {places}", REFUSED),
    told(
        "find_login",
        "find what a login file in the service's home says",
        "try: hunt {secret_login} {places}",
        REFUSED,
    ),
    told(
        "find_elsewhere",
        "find any of these in all that changed since and that it may read",
        "try: comb {secrets} {since} {places}",
        REFUSED,
    ),
    // What is not endless.
    row("many_threads", "make 4,200 threads", Told("try: many-threads"), Users("unbounded_processes"), AsItIs),
    row("huge_file", "make a file of more than 16 GiB", Told("try: huge-file"), REFUSED, AsItIs),
    told("spare_itself", "have the kernel take others where memory runs out", "try: spare-me", REFUSED),
    row(
        "fork_bomb",
        "fork in all processes, without end: 4,200, deaf, in sessions of their own",
        Takes("try: fork-bomb"),
        Users("unbounded_processes"),
        AsItIs,
    ),
    starves("starve_by_fork_bomb", "keep others waiting by that", "fork_bomb"),
    row(
        "huge_memory",
        "take 1 GiB of memory, 16 MiB in each process, and write into all of it",
        Takes("try: huge-memory"),
        Memory("unbounded_memory_and_cpu"),
        AsItIs,
    ),
    row(
        "starve_by_memory",
        "keep others waiting by that, or have the service ended for it",
        Starves("huge_memory"),
        REFUSED,
        AsItIs,
    ),
    row("spin", "use all of every processor", Takes("try: spin"), Nothing("unbounded_memory_and_cpu"), Works),
    starves("starve_by_spinning", "keep others waiting by that", "spin"),
    row("many_handles", "open 65,537 files in each of four processes", Takes("try: many-handles"), REFUSED, AsItIs),
    starves("starve_by_handles", "keep others waiting by that", "many_handles"),
    row("outlive_siege", "leave a process of these behind", Remains, Always, Works),
    row("fill_disk", "write 64 MiB into a workspace that may take 32", Fills("try: fill-disk"), Always, Works),
    starves("starve_by_disk", "keep others waiting by that", "fill_disk"),
    // And then the harm.
    by_root("truncate_upload", "cut A's upload", "attack truncate_database database={upload}", REFUSED),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clawdforge_process::sandbox::Attack;

    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_every_attack_of_the_probe_a_row() {
        let names: BTreeSet<&str> = ALL.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ALL.len());
        let prompts: Vec<&str> = ALL
            .iter()
            .filter_map(|row| if let Told(prompt) | Alone(prompt) = row.how { Some(prompt) } else { None })
            .collect();
        for attack in Attack::all() {
            let line = format!("attack {}", attack.name());
            let is_there = prompts.iter().any(|prompt| prompt.split(' ').take(2).collect::<Vec<_>>().join(" ") == line);
            assert!(is_there, "{line}");
        }
    }

    #[test]
    fn whoever_starves_others_does_so_by_what_a_row_takes() {
        for row in ALL {
            let Starves(taker) = row.how else { continue };
            let taken = ALL.iter().find(|other| other.name == taker).map(|other| other.how);
            assert!(matches!(taken, Some(Takes(_) | Fills(_))), "{}", row.name);
        }
    }

    #[test]
    fn a_gap_without_a_name_is_no_gap() {
        for row in ALL {
            if let Users(gap) | Memory(gap) | Nothing(gap) | Scope(gap) | ScopeAlone(gap) = row.barrier {
                assert_ne!(gap, NONE, "{}", row.name);
            }
        }
    }
}
