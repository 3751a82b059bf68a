//! Does it hold here? An attacker inside a real sandbox tries everything, against a victim that is made for
//! it beside the real thing: a file made as the database is, a workspace, sockets of this very process.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clawdforge_core::isolation::Isolation;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::attack::{Attack, Outcome, SHARED_TMP, Targets};
use super::{Confinement, Identity, Meeting, Ports, Sandbox, ipc, landlock_abi};
use crate::error::SpawnError;
use crate::mark::{BadTreeMark, TreeMark};
use crate::spawner::Spawner;
use crate::spec::{SpawnSpec, StdinMode};
use crate::tree::Tree;

/// How long the attacker may take; it takes a few milliseconds.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Bytes of its answer: some thirty lines.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// How long it may take to end once it was heard.
const GRACE: Duration = Duration::from_millis(200);

/// The name of a probe of the usual sandbox.
const USUAL: &str = "usual";

/// Names that are tried for a folder where others may be making theirs.
const NAMES_MAX: u32 = 64;

/// Beginning of the names of what a probe leaves in the private directory while it runs.
const PREFIX: &str = "isolation-probe-";

/// The same for the shared temporary folder, where others have names as well.
const SHARED_PREFIX: &str = "clawdforge-isolation-probe-";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The level the sandbox was made for.
    pub made: Isolation,
    /// The version of Landlock's interface in the kernel; 0 for none.
    pub landlock_abi: u32,
    /// What came of each attack, in the order they were tried.
    pub outcomes: Vec<(Attack, Outcome)>,
}

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No sandbox could be made, or the attacker not started in it.
    #[error(transparent)]
    NotStarted(#[from] SpawnError),
    /// The victim could not be made.
    #[error("could not make what is to be attacked: {0}")]
    NoVictim(io::Error),
    /// The attacker said nothing, or not all.
    #[error("the attacker did not tell what it could do: {0}")]
    NoAnswer(String),
    /// No mark can be made.
    #[error(transparent)]
    Mark(#[from] BadTreeMark),
}

impl Findings {
    /// What was refused.
    pub fn denied(&self) -> impl Iterator<Item = Attack> {
        self.with(Outcome::Denied)
    }

    /// What was not refused, or nobody knows.
    pub fn gaps(&self) -> impl Iterator<Item = (Attack, Outcome)> {
        self.outcomes.iter().filter(|(_, outcome)| *outcome != Outcome::Denied).copied()
    }

    /// What a level must refuse and this does not.
    pub fn broken(&self, level: Isolation) -> impl Iterator<Item = Attack> {
        self.gaps()
            .map(|(attack, _)| attack)
            .filter(move |attack| attack.refused_from().is_some_and(|from| from <= level))
    }

    /// The strongest level, up to the one it was made for, that holds.
    #[must_use]
    pub fn level(&self) -> Isolation {
        let holds = |level: &Isolation| self.broken(*level).next().is_none();
        Isolation::ALL.into_iter().rev().filter(|level| *level <= self.made).find(holds).unwrap_or(Isolation::Off)
    }

    fn with(&self, wanted: Outcome) -> impl Iterator<Item = Attack> {
        self.outcomes.iter().filter(move |(_, outcome)| *outcome == wanted).map(|(attack, _)| *attack)
    }
}

/// Tries everything in a sandbox of this kind, or in none at all, which is what shows that an attack works.
/// `ports` are those it may use, as in [`Sandbox::ports`].
///
/// The private directory must exist and be writable by this process. What the probe makes there is gone
/// when it returns.
///
/// # Errors
/// [`ProbeError`]; nothing is known then, and nothing should be relied on.
pub async fn measure(
    spawner: &Spawner,
    confinement: &Arc<Confinement>,
    identity: Option<Identity>,
    sandboxed: bool,
    ports: Option<Ports>,
) -> Result<Findings, ProbeError> {
    measure_as(USUAL, spawner, confinement, identity, ports, |sandbox| Ok(sandboxed.then_some(sandbox))).await
}

/// The same in a sandbox that differs from the usual one as `shape` says, or in none. Probes of one process that run at the
/// same time need names of their own, of letters.
///
/// # Errors
/// As [`measure`]; what `shape` fails with is [`ProbeError::NoVictim`].
pub async fn measure_as(
    name: &str,
    spawner: &Spawner,
    confinement: &Arc<Confinement>,
    identity: Option<Identity>,
    ports: Option<Ports>,
    shape: impl FnOnce(Sandbox) -> io::Result<Option<Sandbox>>,
) -> Result<Findings, ProbeError> {
    let victim = Victim::make(name, confinement.private(), identity).map_err(ProbeError::NoVictim)?;
    let sandbox = Sandbox { write: vec![victim.own.clone()], identity, ports, ..Sandbox::of(confinement) };
    let sandbox = shape(sandbox).map_err(ProbeError::NoVictim)?;
    let made = sandbox.as_ref().map_or(Isolation::Off, Sandbox::level);
    let helper = confinement.helper();
    let mut args = vec![helper.attack.clone(), "all".into()];
    args.extend(victim.targets.args());
    let spec = SpawnSpec {
        program: helper.program.clone(),
        args,
        env: std::collections::BTreeMap::new(),
        cwd: victim.own.clone(),
        // Another one than that of the probe before it by this name, which may still be being ended with all who carry it.
        mark: TreeMark::new(format!("isolation.{}.{name}.{}", std::process::id(), spawner.number()))?,
        stdin: StdinMode::Null,
        sandbox,
    };
    let mut tree = spawner.spawn(spec).await?;
    let heard = timeout(ANSWER_WAIT_MAX, hear(&mut tree)).await;
    let outcomes = match heard {
        Ok(Ok(Heard { outcomes: Some(outcomes), .. })) => {
            // The kernel takes its time to close some of what was tried.
            spawner.end_behind(tree, GRACE);
            outcomes
        }
        heard => {
            // Why it did not say more stands there when it has ended.
            let ended = timeout(GRACE, tree.wait()).await;
            let stderr = tree.stderr_tail();
            tree.end(if ended.is_ok() { Duration::ZERO } else { GRACE }).await;
            return Err(ProbeError::NoAnswer(match heard {
                Err(_) => "it took too long".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(Heard { said, .. })) => format!("{said:?} {stderr}"),
            }));
        }
    };
    Ok(Findings { made, landlock_abi: landlock_abi(), outcomes })
}

/// Removes what a probe left that was killed. To be called when none runs.
///
/// # Errors
/// When the private directory cannot be read or something in it not be removed.
pub fn clean(private: &Path) -> io::Result<()> {
    for entry in fs::read_dir(private)? {
        let entry = entry?;
        if let Some(left) = entry.file_name().to_string_lossy().strip_prefix(PREFIX) {
            if let Some((us, name)) = whose(left) {
                ipc::remove_leftovers(us, name);
            }
            remove(&entry.path())?;
        }
    }
    clean_shared();
    Ok(())
}

/// The process and the trial that a name in the private directory tells of.
fn whose(left: &str) -> Option<(i32, &str)> {
    let (us, name) = left.split_once('-')?;
    Some((us.parse().ok()?, name.split('.').next()?))
}

/// The folders that probes of this user left in the shared temporary one. Those of a process that is there may be in use.
fn clean_shared() {
    let ours = rustix::process::geteuid().as_raw();
    let Ok(entries) = fs::read_dir(SHARED_TMP) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(SHARED_PREFIX)?.split('-').next());
        let Some(maker) = maker.filter(|maker| maker.parse::<u32>().is_ok()) else { continue };
        let is_ours = entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == ours);
        if is_ours && !Path::new("/proc").join(maker).exists() {
            // Only an empty folder is what a probe left; anything else in there is somebody else's.
            if let Err(error) = fs::remove_dir(entry.path()) {
                tracing::debug!(path = %entry.path().display(), %error, "what a probe left could not be removed");
            }
        }
    }
}

/// What an attacker said, and what it means once that is all.
struct Heard {
    said: String,
    outcomes: Option<Vec<(Attack, Outcome)>>,
}

/// Hears an attacker until it has said everything, or says no more.
async fn hear(tree: &mut Tree) -> io::Result<Heard> {
    let mut bytes = Vec::new();
    let mut stdout = tree.take_stdout().map(|stdout| stdout.take(ANSWER_BYTES_MAX));
    loop {
        let read = match &mut stdout {
            Some(stdout) => stdout.read_buf(&mut bytes).await?,
            None => 0,
        };
        let said = String::from_utf8_lossy(&bytes);
        let outcomes = outcomes(&said);
        if outcomes.is_some() || read == 0 {
            return Ok(Heard { said: said.into_owned(), outcomes });
        }
    }
}

/// Every attack with its outcome; `None` unless all of them answered.
fn outcomes(said: &str) -> Option<Vec<(Attack, Outcome)>> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        Some((Attack::named(words.next()?)?, Outcome::named(words.next()?)?))
    };
    let outcomes: Vec<_> = said.lines().map(line).collect::<Option<_>>()?;
    outcomes.iter().map(|(attack, _)| *attack).eq(Attack::all()).then_some(outcomes)
}

/// What is attacked. Gone when dropped.
struct Victim {
    targets: Targets,
    own: PathBuf,
    made: Vec<PathBuf>,
    _listening: (UnixListener, UnixListener, TcpListener, UdpSocket),
    _meeting: Meeting,
}

impl Victim {
    fn make(name: &str, private: &Path, identity: Option<Identity>) -> io::Result<Self> {
        let us = std::process::id();
        let at = |what: &str| private.join(format!("{PREFIX}{us}-{name}{what}"));
        let (database, socket, folder) = (at(".sqlite"), at(".sock"), at(""));
        let made = vec![database.clone(), socket.clone(), folder.clone()];
        for stale in &made {
            remove(stale)?;
        }
        let tmp = shared_folder(us);
        // From here on a failure removes what is there.
        let mut guard = Made(made.into_iter().chain(tmp.clone()).collect());
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&database)?;
        let (own, workspace) = (folder.join("own"), folder.join("other"));
        // To be passed through, as the folder of all workspaces is; whatever the umask.
        DirBuilder::new().mode(0o700).create(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o711))?;
        for dir in [&own, &workspace] {
            DirBuilder::new().mode(0o700).create(dir)?;
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(workspace.join("secret"))?;
        if let Some(identity) = identity {
            std::os::unix::fs::chown(&own, Some(identity.number()), Some(identity.number()))?;
        }
        let (abstract_name, nameless) = abstract_listener(name)?;
        let listening = (
            nameless,
            UnixListener::bind(&socket)?,
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
        );
        let meeting = Meeting::make(name);
        let targets = Targets {
            database,
            workspace,
            tmp: tmp.unwrap_or_else(|| SHARED_TMP.into()),
            service: us.cast_signed(),
            abstract_name,
            socket,
            tcp: listening.2.local_addr()?.port(),
            udp: listening.3.local_addr()?.port(),
            ipc: meeting.key(),
            queue: meeting.queue().to_owned(),
        };
        let made = std::mem::take(&mut guard.0);
        Ok(Self { targets, own, made, _listening: listening, _meeting: meeting })
    }
}

/// A socket in the namespace without files, and its name there. Services in containers that share a network share the
/// names, and may have the same number.
fn abstract_listener(name: &str) -> io::Result<(String, UnixListener)> {
    let us = std::process::id();
    let mut number = 0;
    loop {
        let name = format!("{SHARED_PREFIX}{us}-{name}-{number}");
        match UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && number + 1 < NAMES_MAX => number += 1,
            bound => return Ok((name, bound?)),
        }
    }
}

/// A folder in the shared temporary one, for everybody to write; `None` where this process cannot make one either.
fn shared_folder(us: u32) -> Option<PathBuf> {
    // Somebody may have taken a name, by chance or in order to be in the way.
    let named = |number: u32| Path::new(SHARED_TMP).join(format!("{SHARED_PREFIX}{us}-{number}"));
    let path = (0..NAMES_MAX).map(named).find(|path| DirBuilder::new().mode(0o700).create(path).is_ok())?;
    let guard = Made(vec![path.clone()]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).ok()?;
    std::mem::forget(guard);
    Some(path)
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop(Made(std::mem::take(&mut self.made)));
    }
}

/// Places that are removed with it.
struct Made(Vec<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = remove(path) {
                tracing::warn!(path = %path.display(), %error, "what was made for a probe could not be removed");
            }
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(made: Isolation, open: &[Attack]) -> Findings {
        let outcome = |attack| if open.contains(&attack) { Outcome::Open } else { Outcome::Denied };
        Findings { made, landlock_abi: 7, outcomes: Attack::all().map(|attack| (attack, outcome(attack))).collect() }
    }

    #[test]
    fn probes_of_services_with_the_same_number_and_network_are_not_in_each_others_way() {
        let all: Vec<_> = (0..3).map(|_| abstract_listener("x").unwrap()).collect();
        let names: std::collections::HashSet<_> = all.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn what_the_kernel_keeps_of_a_killed_probe_is_removed_with_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let meeting = Meeting::make("killed");
        let (key, queue) = (meeting.key(), meeting.queue().to_owned());
        // As when nobody is there any more to drop it.
        std::mem::forget(meeting);
        fs::write(dir.path().join(format!("{PREFIX}{}-killed.sqlite", std::process::id())), "").unwrap();
        clean(dir.path()).unwrap();
        assert!(ipc::reach_system_v(key).is_err() && ipc::reach_queue(&queue).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_level_is_what_it_refuses_and_not_what_was_asked_for() {
        use Isolation::{Landlock, Off, Uid};
        assert_eq!(findings(Uid, &[Attack::ConnectTcp, Attack::StatDatabase]).level(), Uid);
        assert_eq!(findings(Uid, &[Attack::ChangeDatabaseMode]).level(), Landlock);
        assert_eq!(findings(Uid, &[Attack::ReadDatabase]).level(), Off);
        assert_eq!(findings(Landlock, &[]).level(), Landlock);
        let mut unknown = findings(Landlock, &[]);
        unknown.outcomes[0].1 = Outcome::Unknown;
        assert_eq!(unknown.level(), Off, "what is not known is not relied on");
    }

    #[test]
    fn the_way_to_what_is_attacked_is_open_whatever_the_umask() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let before = rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        let victim = Victim::make(USUAL, dir.path(), None);
        rustix::process::umask(before);
        let victim = victim.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        // So that it is the owner who keeps another user off, and not the way there.
        assert_eq!(mode(victim.targets.workspace.parent().unwrap()), 0o711);
        assert_eq!([mode(&victim.targets.workspace), mode(&victim.own)], [0o700; 2]);
        assert_eq!([mode(&victim.targets.database), mode(&victim.targets.workspace.join("secret"))], [0o600; 2]);
    }

    #[test]
    fn half_an_answer_is_none() {
        let whole: String = Attack::all().map(|attack| format!("{} denied 13\n", attack.name())).collect();
        assert_eq!(outcomes(&whole).unwrap().len(), Attack::all().count());
        let (half, _) = whole.rsplit_once("nest").unwrap();
        assert!(outcomes(half).is_none() && outcomes("").is_none());
        assert!(outcomes(&whole.replace("denied", "maybe")).is_none());
    }
}
