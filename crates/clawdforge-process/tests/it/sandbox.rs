//! A program in a sandbox is the same program in the same tree, with less in reach.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clawdforge_process::sandbox::Helper;
use clawdforge_process::{Confinement, Identity, Sandbox, SpawnError, TreeMark};
use tokio::io::AsyncReadExt;

use crate::support::{Bench, PATIENCE, all_said, is_alive, marked, other_user, said, state, until, users};

async fn says(bench: &Bench, script: &str, identity: Option<Identity>) -> String {
    all_said(bench.sh_inside(script, identity).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_the_process_that_was_born() {
    let bench = Bench::new();
    for identity in users() {
        let mut tree = bench.sh_inside("cut -d ' ' -f 1,4,5,6 /proc/$$/stat; echo $0", identity).await.unwrap();
        let (pid, us) = (tree.pid(), std::process::id());
        assert_eq!(said(&mut tree).await, format!("{pid} {us} {pid} {pid}\n/bin/sh\n"));
        assert_eq!(tree.end(PATIENCE).await.survivors, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_power_is_left_and_none_can_be_had() {
    let bench = Bench::new();
    for identity in users() {
        let status = says(&bench, "cat /proc/self/status", identity).await;
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(value(set), "0000000000000000", "{set}");
        }
        if other_user().is_some() {
            assert_eq!(value("CapBnd:"), "0000000000000000");
        }
        assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), ("1".to_owned(), "2".to_owned()));
        if let Some(identity) = identity {
            let number = identity.number().to_string();
            assert_eq!(value("Uid:"), [number.as_str(); 4].join(" "));
            assert_eq!((value("Gid:"), value("Groups:")), ([number.as_str(); 4].join(" "), String::new()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_launcher_is_left_to_the_program() {
    let bench = Bench::new();
    for identity in users() {
        let open = says(&bench, "ls /proc/self/fd", identity).await;
        // 3 is the listing of the directory itself.
        assert_eq!(open.lines().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
        let names: BTreeSet<_> = says(&bench, "env", identity)
            .await
            .lines()
            .map(|line| line.split('=').next().unwrap().to_owned())
            .collect();
        let shells: BTreeSet<_> = ["PWD", "OLDPWD", "SHLVL", "_"].map(str::to_owned).into();
        let given: BTreeSet<_> = ["CLAWDFORGE_TREE", "PATH"].map(str::to_owned).into();
        assert_eq!(&names - &shells, given);
        assert_eq!(says(&bench, "ulimit -c", identity).await, "0\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_is_the_programs_own_to_work_in() {
    let bench = Bench::new();
    for identity in users() {
        let script = "set -e; mkdir -p a/b; echo x > a/b/f; mv a/b/f a/g; ln -s g a/l; cat a/l; chmod +x a/g; \
                      printf '#!/bin/sh\\necho ran\\n' > run; chmod +x run; ./run; rm -r a run";
        assert_eq!(says(&bench, script, identity).await, "x\nran\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_of_it_nothing_is_written_and_little_is_read() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.private()).unwrap();
    let secret = bench.private().join("secret");
    std::fs::write(&secret, "x").unwrap();
    let beside = bench.dir.path().join("beside");
    std::fs::write(&beside, "x").unwrap();
    for identity in users() {
        let script = format!(
            "for f in {} {}; do cat $f 2> /dev/null && echo read; done; echo x > {} && echo written; cat /etc/passwd > /dev/null && echo passwd",
            secret.display(),
            beside.display(),
            bench.dir.path().join("new").display()
        );
        assert_eq!(says(&bench, &script, identity).await, "passwd\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_beside_the_certificates_are_not_read() {
    let bench = Bench::new();
    for identity in users() {
        // What is not there says nothing, and neither does what the service cannot list itself.
        for keys in ["/etc/ssl/private", "/etc/pki/tls/private"].iter().filter(|keys| std::fs::read_dir(keys).is_ok()) {
            let script =
                format!("ls {keys} 2> /dev/null && echo listed; cat {keys}/* 2> /dev/null && echo read; echo done");
            assert_eq!(says(&bench, &script, identity).await, "done\n");
        }
        if Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
            let script = "grep -c 'BEGIN CERTIFICATE' /etc/ssl/certs/ca-certificates.crt > /dev/null && ls /etc/ssl/certs > /dev/null && echo trusted";
            assert_eq!(says(&bench, script, identity).await, "trusted\n");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_of_an_agents_own_opens_nothing_and_is_named() {
    let bench = Bench::new();
    let (work, other) = (bench.private().join("work"), bench.private().join("other"));
    for confinement in [bench.confinement(), bench.confinement_with_namespaces()] {
        std::fs::create_dir_all(&other).unwrap();
        let made = all_said(bench.sh_inside("ln -sfn ../other .acpx && echo made", None).await.unwrap()).await;
        assert_eq!(made, "made\n");
        let named = work.join(".acpx");
        let mut spec = bench.spec("/bin/sh", &["-c", "echo x > .acpx/planted"]);
        spec.cwd.clone_from(&work);
        spec.sandbox = Some(Sandbox { write: vec![work.clone(), named.clone()], ..Sandbox::of(&confinement) });
        let error = bench.spawner.spawn(spec).await.unwrap_err();
        assert!(matches!(error, SpawnError::Sandbox { .. }), "{error:?}");
        assert!(error.to_string().contains(named.to_str().unwrap()), "{error}");
        assert_eq!(std::fs::read_dir(&other).unwrap().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_others_are_scheduled_is_not_for_it_to_say() {
    let bench = Bench::new();
    let all = "'taskset -p ffffffff' 'chrt -o -p 0' 'ionice -c 2 -n 4 -p'";
    let tried = |whom: &str| {
        format!(
            "for set in {all}; do $set {whom} > /dev/null 2>&1 && echo \"$set\"; done; nice -n 1 ionice -c 2 -n 5 true && echo own"
        )
    };
    let outside = all_said(bench.sh(&tried("$$")).await).await;
    assert_eq!(outside.lines().count(), 4, "these work where nothing refuses them: {outside}");
    for identity in users() {
        assert_eq!(says(&bench, &tried(&std::process::id().to_string()), identity).await, "own\n");
        assert_eq!(says(&bench, &tried("$$"), identity).await, "own\n", "by number not even for itself");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_says_why_as_it_does_outside() {
    let bench = Bench::new();
    let confinement = bench.confinement();
    let try_to_start = async |program: &Path| {
        let mut spec = bench.spec(program, &[]);
        spec.sandbox = Some(clawdforge_process::Sandbox::of(&confinement));
        bench.spawner.spawn(spec).await.map(drop).unwrap_err()
    };
    assert!(matches!(try_to_start(Path::new("/no/such/program")).await, SpawnError::NotFound { .. }));
    assert!(matches!(try_to_start(Path::new("no-such-program")).await, SpawnError::NotFound { .. }));
    let text = bench.dir.path().join("text");
    std::fs::write(&text, "no program").unwrap();
    assert!(matches!(try_to_start(&text).await, SpawnError::NotExecutable { .. }));
    let mut spec = bench.spec("/bin/true", &[]);
    spec.cwd = "/no/such/directory".into();
    spec.sandbox = Some(clawdforge_process::Sandbox::of(&confinement));
    let refused = bench.spawner.spawn(spec).await.map(drop).unwrap_err();
    assert!(matches!(refused, SpawnError::NoWorkingDirectory { .. }), "{refused}");
    assert!(bench.marked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_in_or_around_a_sandbox_keeps_what_the_server_inherited() {
    let bench = Bench::new();
    let path = bench.dir.path().join("inherited");
    let inherited = std::fs::File::create(&path).unwrap();
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let held = |pid: &i32| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()).collect()
    };
    let us = std::process::id().cast_signed();
    assert!(held(&us).contains(&path), "the server has it");
    for kind in [bench.confinement(), bench.confinement_with_namespaces()] {
        let tree = bench.sh_in("echo $$ > ready; exec sleep 100", None, kind).await.unwrap();
        let ready = bench.private().join("work/ready");
        until("it is there", || ready.exists()).await;
        let all = bench.marked();
        assert!(all.contains(&tree.pid()), "{all:?}");
        for pid in &all {
            assert!(!held(pid).contains(&path), "{pid} of {all:?}: {:?}", held(pid));
        }
        tree.end(PATIENCE).await;
        std::fs::remove_file(ready).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_hangs_holds_up_nobody_and_goes_with_whoever_gives_it_up() {
    let bench = Bench::new();
    let helper = Helper { launch: "hang".into(), ..bench.helper() };
    bench.confinement();
    let confinement = Confinement::new(helper, &bench.private(), Vec::new(), Vec::new());
    let mut spec = bench.spec("/bin/true", &[]);
    spec.sandbox = Some(Sandbox::of(&Arc::new(confinement)));
    // Whoever carries the mark of a tree ends with it.
    let mark = TreeMark::new(format!("{}:hanging", bench.mark)).unwrap();
    spec.mark = mark.clone();
    {
        let mut hanging = std::pin::pin!(bench.spawner.spawn(spec));
        let others = async {
            until("it hangs", || !marked(&mark).is_empty()).await;
            for _ in 0..3 {
                let mut tree = bench.sh_inside("exit 3", None).await.unwrap();
                assert_eq!(tree.wait().await.code, Some(3));
                tree.end(PATIENCE).await;
            }
        };
        tokio::select! {
            born = &mut hanging => panic!("{born:?}"),
            () = others => {}
        }
    }
    assert!(bench.spawner.settled(PATIENCE).await);
    assert_eq!(marked(&mark), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_forked_for_no_program_in_a_sandbox() {
    static FORKS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn count() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    #[expect(unsafe_code, reason = "the one way to hear of a fork")]
    // SAFETY: the handler is a function of this program, which adds to a number.
    let registered = unsafe { libc::pthread_atfork(Some(count), None, None) };
    assert_eq!(registered, 0);
    let bench = Bench::new();
    bench.sh("true").await.end(PATIENCE).await;
    assert_eq!(FORKS.load(Ordering::Relaxed), 1, "what has no launcher is forked, and that is heard");
    bench.sh_inside("true", None).await.unwrap().end(PATIENCE).await;
    bench.sh_apart("true", None).await.unwrap().end(PATIENCE).await;
    assert_eq!(FORKS.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_launcher_nothing_is_started() {
    let bench = Bench::new();
    bench.confinement();
    // `false` takes the launcher's part, says nothing and ends; the tree is born and ends with it.
    for (program, is_born) in [("/no/such/launcher", false), ("/bin/false", true)] {
        let helper = Helper { program: program.into(), ..bench.helper() };
        let confinement = Confinement::new(helper, &bench.private(), Vec::new(), Vec::new());
        let ran = bench.dir.path().join("ran");
        let mut spec = bench.spec("/usr/bin/touch", &[ran.to_str().unwrap()]);
        spec.sandbox = Some(Sandbox::of(&Arc::new(confinement)));
        match bench.spawner.spawn(spec).await {
            Ok(mut tree) => {
                assert!(is_born && tree.wait().await.code == Some(1));
                assert_eq!(tree.end(PATIENCE).await.survivors, 0);
            }
            // Where it had ended before it could be told anything, that is why.
            Err(error) => {
                assert!(matches!(error, SpawnError::NotExecutable { .. } | SpawnError::Os { .. }), "{error:?}")
            }
        }
        assert!(!ran.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandboxed_tree_ends_as_every_other() {
    let script = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; echo $$ > daemon; while :; do sleep 1; done' &); \
                  while ! [ -s daemon ]; do :; done; echo ready; while :; do sleep 1; done";
    for identity in users() {
        let bench = Bench::new();
        let mut tree = bench.sh_inside(script, identity).await.unwrap();
        let mut ready = [0; 6];
        tree.take_stdout().unwrap().read_exact(&mut ready).await.unwrap();
        let daemon: i32 = std::fs::read_to_string(bench.private().join("work/daemon")).unwrap().trim().parse().unwrap();
        assert!(is_alive(daemon));
        let report = tree.end(Duration::from_millis(50)).await;
        assert_eq!(report.survivors, 0, "{report:?}");
        until("the daemon is gone", || state(daemon).is_none()).await;
    }
}
