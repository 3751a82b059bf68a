//! A program with namespaces of its own is the same program to whoever started it, and ends with all it started.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clawdforge_process::{Identity, SpawnError};
use tokio::io::AsyncReadExt;

use crate::server::Server;
use crate::support::{Bench, PATIENCE, all_said, is_alive, other_user, said, until, users};

async fn says(bench: &Bench, script: &str, identity: Option<Identity>) -> String {
    all_said(bench.sh_apart(script, identity).await.unwrap()).await
}

/// Everybody who carries the mark of the bench, once so many do.
async fn marked(bench: &Bench, count: usize) -> Vec<i32> {
    until("they are there", || bench.marked().len() == count).await;
    bench.marked()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_leads_a_session_and_a_group_and_sees_itself_alone() {
    let bench = Bench::new();
    for identity in users() {
        let seen = says(&bench, "cut -d ' ' -f 1,5,6 /proc/$$/stat; echo /proc/[0-9]*", identity).await;
        assert_eq!(seen, "2 2 2\n/proc/1 /proc/2\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_power_is_left_there_and_none_can_be_had() {
    let bench = Bench::new();
    for identity in users() {
        let status = says(&bench, "cat /proc/1/status /proc/self/status", identity).await;
        let values = |name: &str| -> Vec<String> {
            let lines = status.lines().filter_map(|line| line.strip_prefix(name));
            lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:", "CapBnd:"] {
            assert_eq!(values(set), ["0000000000000000"; 2], "{set}");
        }
        assert_eq!((values("NoNewPrivs:"), values("Seccomp:")), (vec!["1".to_owned(); 2], vec!["2".to_owned(); 2]));
        if let Some(identity) = identity {
            assert_eq!(values("Uid:"), vec![[identity.number().to_string().as_str(); 4].join(" "); 2]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_exit_code_and_the_signal_it_died_of_are_told() {
    let bench = Bench::new();
    for identity in users() {
        for (script, code, signal) in [
            ("exit 0", Some(0), None),
            ("exit 7", Some(7), None),
            ("kill -KILL $$", None, Some(9)),
            ("kill $$", None, Some(15)),
        ] {
            let mut tree = bench.sh_apart(script, identity).await.unwrap();
            let exit = tree.wait().await;
            assert_eq!((exit.code, exit.signal), (code, signal), "{script}");
            assert_eq!(tree.end(PATIENCE).await.survivors, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_told_as_ever() {
    let bench = Bench::new();
    let confinement = bench.confinement_with_namespaces();
    let mut spec = bench.spec("/no/such/program", &[]);
    spec.cwd = "/".into();
    spec.sandbox = Some(clawdforge_process::Sandbox::of(&confinement));
    let refused = bench.spawner.spawn(spec).await.map(drop).unwrap_err();
    assert!(matches!(refused, SpawnError::NotFound { .. }), "{refused}");
    until("nobody is left", || bench.marked().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_found_over_links_in_what_is_hidden() {
    let bench = Bench::new();
    let confinement = bench.confinement_with_namespaces();
    let elsewhere = bench.private().join("store/1.0/bin");
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::copy("/bin/echo", elsewhere.join("program")).unwrap();
    std::os::unix::fs::symlink(bench.private().join("store/1.0"), bench.private().join("current")).unwrap();
    let mut spec = bench.spec(bench.private().join("current/bin/program"), &["found"]);
    spec.cwd = "/".into();
    spec.sandbox = Some(clawdforge_process::Sandbox::of(&confinement));
    let mut tree = bench.spawner.spawn(spec).await.unwrap();
    assert_eq!(said(&mut tree).await, "found\n");
    assert_eq!(tree.end(PATIENCE).await.survivors, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directory_and_what_others_run_are_out_of_sight() {
    let bench = Bench::new();
    bench.confinement();
    for place in ["secret", "other/work/secret"] {
        let path = bench.private().join(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    for identity in users() {
        let script = format!("ls -A {} /run | grep -v '^$' | grep -v :; pwd", bench.private().display());
        let seen = says(&bench, &script, identity).await;
        let links: Vec<String> = std::fs::read_dir("/run")
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_type().unwrap().is_symlink())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        let listed: Vec<&str> = seen.lines().filter(|line| !links.iter().any(|link| link == line)).collect();
        // Folders of /run that lead to what a rule names are there as well, and nothing else in them.
        let work = bench.private().join("work");
        assert_eq!(listed.last(), work.to_str().as_ref(), "{seen}");
        assert!(!seen.contains("secret") && !seen.contains("other"), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_workspace_is_the_real_one_and_its_temporary_folders_are_its_own() {
    let bench = Bench::new();
    let strange = PathBuf::from(format!("/tmp/clawdforge-test-{}", std::process::id()));
    for identity in users() {
        let script = format!(
            "set -e; echo kept > file; for d in /tmp /var/tmp /dev/shm; do echo x > $d/{0}; cat $d/{0}; done; mktemp > /dev/null",
            strange.file_name().unwrap().to_str().unwrap()
        );
        assert_eq!(says(&bench, &script, identity).await, "x\nx\nx\n");
        assert_eq!(std::fs::read_to_string(bench.private().join("work/file")).unwrap(), "kept\n");
        std::fs::remove_file(bench.private().join("work/file")).unwrap();
        assert!(!strange.exists(), "nobody else sees it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_opens_cannot_even_change_its_mode() {
    let bench = Bench::new();
    for identity in users() {
        let script = "chmod 755 / 2>&1 || true; touch -a /usr 2>&1 || true";
        let said = says(&bench, script, identity).await;
        assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_end_everybody_ends_wherever_they_went() {
    let script = "for n in 1 2; do (setsid sh -c 'trap \"\" TERM HUP INT; (sleep 1000 & ); while :; do sleep 1; done' &); done; \
                  echo ready; read line";
    for identity in users() {
        let bench = Bench::new();
        let mut tree = bench.sh_apart(&format!("{script} < /dev/zero & wait; exit 3"), identity).await.unwrap();
        let mut ready = [0; 6];
        tree.take_stdout().unwrap().read_exact(&mut ready).await.unwrap();
        let all = bench.marked();
        assert!(all.len() > 4, "{all:?}");
        // The program, which is the third process of the tree, and nobody else.
        let program = *children_of(children_of(tree.pid()).first().unwrap()).first().unwrap();
        kill(program);
        assert_eq!(tree.wait().await.signal, Some(9));
        until("all of them are gone", || !all.iter().any(|pid| is_alive(*pid))).await;
        assert_eq!(tree.end(PATIENCE).await.killed, 0, "nobody was left to be killed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polite_end_reaches_the_program_once() {
    for identity in users() {
        let bench = Bench::new();
        let script = "trap 'echo told >> told' TERM; echo ready; while [ ! -s told ]; do sleep 0.01; done; sleep 0.1; cat told; exit 5";
        let mut tree = bench.sh_apart(script, identity).await.unwrap();
        let mut out = tree.take_stdout().unwrap();
        let mut ready = [0; 6];
        out.read_exact(&mut ready).await.unwrap();
        let mut rest = String::new();
        let (report, read) = tokio::join!(tree.end(PATIENCE), out.read_to_string(&mut rest));
        read.unwrap();
        assert_eq!((rest.as_str(), report.exit.code, report.survivors), ("told\n", Some(5), 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_keeper_takes_everybody_along() {
    for identity in users() {
        let bench = Bench::new();
        let script = "trap '' TERM; (setsid sh -c 'while :; do sleep 1; done' &); while :; do sleep 1; done";
        let mut tree = bench.sh_apart(script, identity).await.unwrap();
        // The keeper, the first, two shells, two sleeps.
        let all = marked(&bench, 6).await;
        kill(tree.pid());
        tree.wait().await;
        until("all of them are gone", || !all.iter().any(|pid| is_alive(*pid))).await;
        assert_eq!(tree.end(PATIENCE).await.survivors, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_killed_service_nobody_is_left_however_deaf() {
    if other_user().is_none() {
        return;
    }
    let script = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; echo $$ > daemon; while :; do sleep 1; done' &); \
                  while ! [ -s daemon ]; do sleep 0.01; done; echo 1 > ready; while :; do sleep 1; done";
    let mut server = Server::start_apart(script).await;
    server.pid_in("ready").await;
    let all = crate::support::marked(&server.mark());
    assert!(all.len() >= 4 && all.iter().all(|pid| is_alive(*pid)), "{all:?}");
    let began = Instant::now();
    server.kill();
    until("all of them are gone", || all.iter().all(|pid| !is_alive(*pid))).await;
    assert!(began.elapsed() < Duration::from_secs(10), "by themselves, and soon: {:?}", began.elapsed());
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn children_of(pid: impl std::borrow::Borrow<i32>) -> Vec<i32> {
    let pid = pid.borrow();
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    listed.split_whitespace().map(|word| word.parse().unwrap()).collect()
}
