//! Scripts, and what is left of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawdforge_process::sandbox::Helper;
use clawdforge_process::{Confinement, Identity, Sandbox, SpawnError, SpawnSpec, Spawner, StdinMode, Tree, TreeMark};
use rustix::thread::CapabilitySet;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

/// Far more than anything here takes, even on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of its own, a spawner and a mark that nobody else has.
pub struct Bench {
    pub spawner: Spawner,
    pub dir: TempDir,
    pub mark: TreeMark,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mark = mark_of(dir.path());
        Self { spawner: Spawner::start().unwrap(), dir, mark }
    }

    pub fn spec(&self, program: impl Into<PathBuf>, args: &[&str]) -> SpawnSpec {
        SpawnSpec {
            program: program.into(),
            args: args.iter().map(OsString::from).collect(),
            env: BTreeMap::from([("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())]),
            cwd: self.dir.path().to_owned(),
            mark: self.mark.clone(),
            stdin: StdinMode::Null,
            sandbox: None,
        }
    }

    /// Sandboxes that keep everything off the private part of the bench.
    pub fn confinement(&self) -> Arc<Confinement> {
        self.confinement_with(Vec::new())
    }

    /// The same, with places that everything may write.
    pub fn confinement_with(&self, write: Vec<PathBuf>) -> Arc<Confinement> {
        Arc::new(self.plain(write))
    }

    /// Sandboxes with namespaces of their own.
    pub fn confinement_with_namespaces(&self) -> Arc<Confinement> {
        Arc::new(self.plain(Vec::new()).with_namespaces())
    }

    /// The same with a network of its own for whoever has a list of ports.
    pub fn confinement_with_own_network(&self) -> Arc<Confinement> {
        Arc::new(self.plain(Vec::new()).with_namespaces().with_own_network())
    }

    fn plain(&self, write: Vec<PathBuf>) -> Confinement {
        let private = self.private();
        std::fs::create_dir_all(&private).unwrap();
        // Another user passes through to what is its own; it can list none of it.
        for dir in [self.dir.path(), &private] {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711)).unwrap();
        }
        Confinement::new(self.helper(), &private, Vec::new(), write)
    }

    /// The launcher and the attacker of this crate's tests.
    pub fn helper(&self) -> Helper {
        Helper {
            program: env!("CARGO_BIN_EXE_process-test-helper").into(),
            launch: "launch".into(),
            attack: "attack".into(),
        }
    }

    /// What plays the service's data directory.
    pub fn private(&self) -> PathBuf {
        self.dir.path().join("private")
    }

    /// A shell in a sandbox, in a workspace of its own below the private directory.
    pub async fn sh_inside(&self, script: &str, identity: Option<Identity>) -> Result<Tree, SpawnError> {
        self.sh_in(script, identity, self.confinement()).await
    }

    /// The same with namespaces of its own.
    pub async fn sh_apart(&self, script: &str, identity: Option<Identity>) -> Result<Tree, SpawnError> {
        self.sh_in(script, identity, self.confinement_with_namespaces()).await
    }

    /// A shell in a sandbox of this kind.
    pub async fn sh_in(
        &self,
        script: &str,
        identity: Option<Identity>,
        confinement: Arc<Confinement>,
    ) -> Result<Tree, SpawnError> {
        let work = self.private().join("work");
        std::fs::create_dir_all(&work).unwrap();
        if let Some(identity) = identity {
            std::os::unix::fs::chown(&work, Some(identity.number()), Some(identity.number())).unwrap();
        }
        let mut spec = self.spec("/bin/sh", &["-c", script]);
        spec.cwd.clone_from(&work);
        spec.sandbox = Some(Sandbox { write: vec![work], identity, ..Sandbox::of(&confinement) });
        self.spawner.spawn(spec).await
    }

    pub async fn sh(&self, script: &str) -> Tree {
        self.spawner.spawn(self.spec("/bin/sh", &["-c", script])).await.unwrap()
    }

    /// The number that a script wrote into a file, as soon as it did.
    pub async fn pid_in(&self, file: &str) -> i32 {
        pid_in(&self.dir.path().join(file)).await
    }

    pub fn marked(&self) -> Vec<i32> {
        marked(&self.mark)
    }
}

/// A user that agents run as, where this machine lets us become another one.
pub fn other_user() -> Option<Identity> {
    let may = rustix::thread::capabilities(None).unwrap().effective;
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN;
    may.contains(needed).then(|| Identity::new(23_456).unwrap())
}

/// A mark made of the random name of a directory.
pub fn mark_of(dir: &Path) -> TreeMark {
    TreeMark::new(format!("test:{}", dir.file_name().unwrap().to_str().unwrap())).unwrap()
}

/// Waits for a condition, looking every few milliseconds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "still not so: {what}");
        // why: a condition outside this process offers nothing to wait for.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub async fn pid_in(path: &Path) -> i32 {
    // A whole line, because a script may be in the middle of writing it.
    let read = || std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'));
    until(&format!("{} is written", path.display()), || read().is_some()).await;
    read().unwrap().trim().parse().unwrap()
}

/// The state letter of a process, unless it is gone.
pub fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Exists and has not ended.
pub fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// Not even a zombie is left.
pub fn is_gone(pid: i32) -> bool {
    state(pid).is_none()
}

/// Everything alive that carries the mark.
pub fn marked(mark: &TreeMark) -> Vec<i32> {
    let wanted = format!("CLAWDFORGE_TREE={mark}");
    let everyone = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = everyone.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
    })
    .filter(|pid| is_alive(*pid))
    .collect()
}

/// Children of this process that have ended and were not reaped.
pub fn zombies_of_ours() -> Vec<i32> {
    let us = std::process::id().to_string();
    let everyone = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = everyone.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(&format!("Z {us} ")))
    })
    .collect()
}

/// Every user a sandbox can be made for here: the own one, and another where that is possible.
pub fn users() -> Vec<Option<Identity>> {
    [None].into_iter().chain(other_user().map(Some)).collect()
}

/// What a program writes until it closes its output.
pub async fn said(tree: &mut Tree) -> String {
    let mut text = String::new();
    tree.take_stdout().unwrap().read_to_string(&mut text).await.unwrap();
    text
}

/// What a script says that succeeds and leaves nobody behind.
pub async fn all_said(mut tree: Tree) -> String {
    let text = said(&mut tree).await;
    let exit = tree.wait().await;
    assert_eq!(exit.code, Some(0), "{text} {}", tree.stderr_tail());
    assert_eq!(tree.end(PATIENCE).await.survivors, 0);
    text
}
