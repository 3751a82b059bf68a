//! Starting a program: what it is given, what it does not inherit, and what is said when it cannot start.

use std::os::unix::fs::PermissionsExt as _;

use clawdforge_process::{Sandbox, SpawnError, StdinMode, Tree};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::server::Server;
use crate::support::{Bench, PATIENCE, is_alive, is_gone, until};

async fn stdout_of(tree: &mut Tree) -> String {
    let mut text = String::new();
    tree.take_stdout().unwrap().read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_what_was_given_and_the_mark() {
    let bench = Bench::new();
    let mut spec = bench.spec("/usr/bin/env", &[]);
    spec.env.insert("B".into(), "two words".into());
    spec.env.insert("CLAWDFORGE_TREE".into(), "somebody else's".into());
    let mut tree = bench.spawner.spawn(spec).await.unwrap();
    let text = stdout_of(&mut tree).await;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let mark = format!("CLAWDFORGE_TREE={}", bench.mark);
    assert_eq!(lines, ["B=two words", &mark, "PATH=/usr/local/bin:/usr/bin:/bin"]);
    tree.end(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_child_leads_a_session_of_its_own_and_inherits_no_descriptor() {
    let bench = Bench::new();
    let leaked = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let mut tree = bench.sh("cut -d' ' -f1,5,6 /proc/self/stat; cut -d' ' -f6 /proc/$$/stat; ls /proc/$$/fd").await;
    let text = stdout_of(&mut tree).await;
    let pid = tree.pid().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with(&format!(" {pid} {pid}")), "{text}");
    assert_eq!(lines[1], pid);
    assert_eq!(lines[2..], ["0", "1", "2"]);
    tree.end(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_open_files_is_raised_for_us_and_not_for_the_child() {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), maximum: hard }).unwrap();
    let bench = Bench::new();
    let mut tree = bench.sh("ulimit -Sn").await;
    assert_eq!(stdout_of(&mut tree).await, "200\n");
    assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: hard, maximum: hard });
    tree.end(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_the_server_ignores_are_not_ignored_by_the_child() {
    let mut server = Server::start("echo $$ > leader; exec sleep 100").await;
    let ignored = |pid: i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap() & 0x7fff_ffff
    };
    let leader = server.pid_in("leader").await;
    // HUP, INT, QUIT, TERM, and PIPE, which Rust ignores in every program.
    assert_eq!(ignored(server.pid()), 0b101_0000_0000_0111);
    assert_eq!(ignored(leader), 0);
    server.kill();
    until("the leader heard of it", || !is_alive(leader)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_ignores_blocks_and_raised_is_as_usual_in_a_sandbox_and_without_one() {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), maximum: hard }).unwrap();
    #[expect(unsafe_code, reason = "as a service that was started with signals ignored and blocked")]
    // SAFETY: bare system calls on memory of this frame, before this thread starts the one that children are born from.
    unsafe {
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        let mut blocked = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(blocked.as_mut_ptr());
        libc::sigaddset(blocked.as_mut_ptr(), libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, blocked.as_ptr(), std::ptr::null_mut());
    }
    let bench = Bench::new();
    let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    assert!(own.contains("SigBlk:\t0000000000004000"), "TERM is blocked here: {own}");
    let kinds = [bench.confinement(), bench.confinement_with_namespaces()];
    for kind in kinds.iter().map(Some).chain([None]) {
        // Not by a shell, which unblocks signals by itself.
        let args = ["-hE", "^(SigBlk|SigIgn|Max open files)", "/proc/self/limits", "/proc/self/status"];
        let mut spec = bench.spec("/usr/bin/grep", &args);
        spec.cwd = "/".into();
        spec.sandbox = kind.map(Sandbox::of);
        let mut tree = bench.spawner.spawn(spec).await.unwrap();
        let said = stdout_of(&mut tree).await;
        let [limit, blocked, ignored] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
        assert_eq!(limit.split_whitespace().nth(3), Some("200"), "{said}");
        // Beyond the plain ones lies what the C library keeps to itself.
        let plain =
            |line: &str| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap() & 0x7fff_ffff;
        assert_eq!((plain(blocked), plain(ignored)), (0, 0), "{said}");
        tree.end(PATIENCE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_is_a_pipe_or_nothing() {
    let bench = Bench::new();
    let mut spec = bench.spec("/bin/cat", &[]);
    spec.stdin = StdinMode::Piped;
    let mut tree = bench.spawner.spawn(spec).await.unwrap();
    let mut stdin = tree.take_stdin().unwrap();
    stdin.write_all(b"there and back").await.unwrap();
    drop(stdin);
    assert_eq!(stdout_of(&mut tree).await, "there and back");
    assert!(tree.take_stdin().is_none() && tree.take_stdout().is_none(), "pipes are taken once");
    assert_eq!(tree.wait().await.code, Some(0));
    tree.end(PATIENCE).await;

    let mut tree = bench.spawner.spawn(bench.spec("/bin/cat", &[])).await.unwrap();
    assert!(tree.take_stdin().is_none());
    assert_eq!(tree.wait().await.code, Some(0), "no input is the end of input");
    tree.end(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_program_is_not_found() {
    let bench = Bench::new();
    for program in ["/no/such/program", "no-such-program", "./no-such-program"] {
        let error = bench.spawner.spawn(bench.spec(program, &[])).await.unwrap_err();
        assert!(matches!(&error, SpawnError::NotFound { program: named } if named.as_os_str() == program), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_not_executable() {
    let bench = Bench::new();
    let write = |name: &str, text: &str, mode| {
        let path = bench.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let unset = write("unset", "#!/bin/sh\n", 0o600);
    let orphaned = write("orphaned", "#!/no/such/interpreter\n", 0o700);
    for program in [unset, orphaned, bench.dir.path().to_owned()] {
        let error = bench.spawner.spawn(bench.spec(&program, &[])).await.unwrap_err();
        assert!(matches!(error, SpawnError::NotExecutable { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_working_directory_that_is_none_is_said_so() {
    let bench = Bench::new();
    let file = bench.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for cwd in [bench.dir.path().join("missing"), file] {
        let mut spec = bench.spec("/bin/true", &[]);
        spec.cwd.clone_from(&cwd);
        let error = bench.spawner.spawn(spec).await.unwrap_err();
        assert!(matches!(&error, SpawnError::NoWorkingDirectory { cwd: named } if *named == cwd), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_beyond_the_kernels_bound_are_said_so() {
    let bench = Bench::new();
    let error = bench.spawner.spawn(bench.spec("/bin/true", &[&"x".repeat(600_000)])).await.unwrap_err();
    assert!(matches!(error, SpawnError::ArgumentsTooLong), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_leaves_no_zombie_and_no_place_taken() {
    let bench = Bench::new();
    for _ in 0..1_100 {
        let spec = bench.spec("/no/such/program", &[]);
        assert!(matches!(bench.spawner.spawn(spec).await, Err(SpawnError::NotFound { .. })));
    }
    assert_eq!(crate::support::zombies_of_ours(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_stops_waiting_for_a_birth_leaves_nothing() {
    let bench = Bench::new();
    for _ in 0..20 {
        let spec = bench.spec("/bin/sleep", &["100"]);
        let spawner = bench.spawner.clone();
        let spawning = tokio::time::timeout(std::time::Duration::ZERO, spawner.spawn(spec));
        drop(spawning.await);
    }
    // Behind the others in the queue of births, so all of them have been born or given up by then.
    bench.sh("true").await.end(PATIENCE).await;
    until("nothing is left", || bench.marked().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_outlive_the_last_spawner_handle_as_long_as_their_tree() {
    let bench = Bench::new();
    let mut tree = bench.sh("echo ready; exec sleep 100").await;
    let pid = tree.pid();
    drop(bench);
    let mut line = [0; 6];
    tree.take_stdout().unwrap().read_exact(&mut line).await.unwrap();
    assert!(!is_gone(pid), "the death of the spawner thread would have ended it");
    let report = tree.end(PATIENCE).await;
    assert_eq!((report.exit.signal, report.killed), (Some(15), 0));
}
