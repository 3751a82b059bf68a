//! A server in a process of its own, to be killed.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use clawdforge_process::{Sandbox, TreeIdentity, TreeMark};

use crate::support::{Bench, PATIENCE, mark_of, other_user, pid_in, until};

/// The file that says that the tree shall be another user's.
const AS_OTHER_USER: &str = "as-other-user";

/// The file that says that it shall have namespaces of its own as well.
const WITH_NAMESPACES: &str = "with-namespaces";

/// Where the part of the server that dies is told to work.
const SERVER_DIR: &str = "CLAWDFORGE_PROCESS_TEST_SERVER_DIR";

/// Not a test of its own: in a process that another test started, this is the server that gets killed.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_of_other_tests() {
    #[expect(clippy::disallowed_methods, reason = "how the other test tells this process its part")]
    let Some(dir) = std::env::var_os(SERVER_DIR).map(PathBuf::from) else {
        return;
    };
    let bench = Bench::new();
    let script = std::fs::read_to_string(dir.join("script")).unwrap();
    let mut spec = bench.spec("/bin/sh", &["-c", &script]);
    spec.mark = mark_of(&dir);
    spec.cwd.clone_from(&dir);
    if let Some(identity) = other_user().filter(|_| dir.join(AS_OTHER_USER).exists()) {
        identity.give(&dir).unwrap();
        let confinement = match dir.join(WITH_NAMESPACES).exists() {
            true => bench.confinement_with_namespaces(),
            false => bench.confinement(),
        };
        spec.sandbox =
            Some(Sandbox { write: vec![dir.clone()], identity: Some(identity), ..Sandbox::of(&confinement) });
    }
    let tree = bench.spawner.spawn(spec).await.unwrap();
    std::fs::write(dir.join("identity.new"), tree.identity().to_string()).unwrap();
    std::fs::rename(dir.join("identity.new"), dir.join("identity")).unwrap();
    tokio::time::timeout(PATIENCE * 3, std::future::pending::<()>()).await.unwrap_err();
}

/// A server in a process of its own, with one tree.
pub struct Server {
    process: Child,
    dir: tempfile::TempDir,
}

impl Server {
    pub async fn start(script: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), script).await
    }

    /// Its tree is in a sandbox, as a user of its own.
    pub async fn start_with_user(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(AS_OTHER_USER), "").unwrap();
        Self::start_in(dir, script).await
    }

    /// The same, with namespaces of its own.
    pub async fn start_apart(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(AS_OTHER_USER), "").unwrap();
        std::fs::write(dir.path().join(WITH_NAMESPACES), "").unwrap();
        Self::start_in(dir, script).await
    }

    async fn start_in(dir: tempfile::TempDir, script: &str) -> Self {
        std::fs::write(dir.path().join("script"), script).unwrap();
        // Started as a shell starts a command in the background: deaf to the terminal's signals.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "trap '' HUP INT QUIT TERM; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "server::the_server_of_other_tests"])
            .env(SERVER_DIR, dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        #[expect(clippy::disallowed_methods, reason = "this process plays the operator who starts the server")]
        let process = command.spawn().unwrap();
        let server = Self { process, dir };
        until("the server has its tree", || server.dir.path().join("identity").exists()).await;
        server
    }

    pub fn pid(&self) -> i32 {
        self.process.id().cast_signed()
    }

    pub fn mark(&self) -> TreeMark {
        mark_of(self.dir.path())
    }

    pub fn identity(&self) -> TreeIdentity {
        std::fs::read_to_string(self.dir.path().join("identity")).unwrap().parse().unwrap()
    }

    pub async fn pid_in(&self, file: &str) -> i32 {
        pid_in(&self.dir.path().join(file)).await
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Dead already when the test went well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
