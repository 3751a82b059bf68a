//! The thread that children are born from, and the handle to it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Rlimit, set_child_subreaper};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, OwnedPermit, Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::birth::{self, Newborn};
use crate::cgroup::{Cgroups, Group};
use crate::error::SpawnError;
use crate::kin::Kin;
use crate::launch;
use crate::leaders::Leaders;
use crate::mark::TreeMark;
use crate::proc::{self, Key};
use crate::sandbox::policy::Policy;
use crate::scope::Scope;
use crate::spec::SpawnSpec;
use crate::tree::Tree;
use crate::undertaker::{self, Grave, LIVE_TREES_MAX, Remains};

/// Births waiting for the thread; one takes about a millisecond. Further ones wait in `spawn`.
const BIRTHS_QUEUED_MAX: usize = 64;

/// Pause between two looks for orphans that cannot be reaped yet.
const REAPING_PAUSE: Duration = Duration::from_millis(10);

/// Pause between two looks at whether all trees are gone.
const SETTLED_PAUSE: Duration = Duration::from_millis(2);

/// Where process trees come from. Cheap to clone; one per process.
///
/// Two threads belong to it: one that children are born from, one that ends trees that were dropped.
/// Both live until the last spawner and the last [`Tree`] are gone.
#[derive(Clone)]
pub struct Spawner {
    births: Sender<Birth>,
    graves: Sender<Remains>,
    leaders: Arc<Leaders>,
    cgroups: Option<Cgroups>,
    /// The groups of kin, for their errands to join.
    groups_of_kin: Arc<Mutex<HashMap<TreeMark, Weak<Group>>>>,
    boot_id: Arc<str>,
    numbers: Arc<AtomicU64>,
    runtime: Handle,
}

/// An order to the thread.
struct Birth {
    spec: Arc<SpawnSpec>,
    place: OwnedPermit<Remains>,
    is_errand: bool,
    // Keeps the thread alive for the tree: with the thread's end, the kernel would end the child.
    spawner: Spawner,
    reply: oneshot::Sender<Result<Born, SpawnError>>,
}

/// A tree whose leader is the program, or is about to become it.
type Born = (Tree, Option<UnixStream>);

impl Spawner {
    /// Starts the threads and makes this process the subreaper of everything born from them. Raises the
    /// limit of open files of this process as far as it may; children get it as it was.
    ///
    /// To be called once in a process, inside a Tokio runtime that outlives all trees.
    ///
    /// # Errors
    /// [`SpawnError::Os`] when there is no runtime, no `/proc`, or the system refuses a thread.
    pub fn start() -> Result<Self, SpawnError> {
        let runtime = Handle::try_current()
            .map_err(std::io::Error::other)
            .map_err(SpawnError::os("find the asynchronous runtime"))?;
        let boot_id = proc::boot_id().map_err(SpawnError::os("read the boot id"))?.into();
        let leaders = Arc::new(Leaders::new().map_err(SpawnError::os("read our session id"))?);
        birth::make_exits_waitable().map_err(SpawnError::os("make exits of children waitable"))?;
        set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(Into::into)
            .map_err(SpawnError::os("become the subreaper of our children"))?;
        let open_files = birth::raise_open_files();
        let (births, ordered) = mpsc::channel(BIRTHS_QUEUED_MAX);
        let (graves, dropped) = mpsc::channel(LIVE_TREES_MAX);
        // The threads end by themselves with their queues; joining them would make the last drop block.
        thread::Builder::new()
            .name("births".to_owned())
            .spawn(move || deliver(ordered, open_files))
            .map_err(SpawnError::os("start the spawner thread"))?;
        thread::Builder::new()
            .name("undertaker".to_owned())
            .spawn(move || undertaker::run(dropped))
            .map_err(SpawnError::os("start the undertaker thread"))?;
        let (groups_of_kin, numbers) = (Arc::default(), Arc::default());
        Ok(Self { births, graves, leaders, cgroups: None, groups_of_kin, boot_id, numbers, runtime })
    }

    /// The same, with a control group for each tree and kin made from now on by this handle and those cloned from it.
    #[must_use]
    pub fn with_cgroups(self, cgroups: Option<Cgroups>) -> Self {
        Self { cgroups, ..self }
    }

    /// Starts a program as the leader of a tree of its own. Dropping the future ends what was started.
    ///
    /// # Errors
    /// See [`SpawnError`]; nothing is left running after an error.
    pub async fn spawn(&self, spec: SpawnSpec) -> Result<Tree, SpawnError> {
        self.bear(spec, false).await
    }

    /// Starts a program that shall leave processes behind, in sessions of their own. Its tree is the session
    /// it leads and no more: ending or dropping it spares what left. Hold a [`Kin`] of the same mark for that.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub async fn errand(&self, spec: SpawnSpec) -> Result<Tree, SpawnError> {
        self.bear(spec, true).await
    }

    /// Takes charge of what errands with this mark leave behind.
    ///
    /// # Errors
    /// [`SpawnError::TooManyTrees`], [`SpawnError::SpawnerGone`], and [`SpawnError::Os`] when no control group can be made.
    pub fn kin(&self, mark: TreeMark) -> Result<Kin, SpawnError> {
        let place = self.place()?;
        let group = self.group()?;
        if let Some(group) = &group {
            let mut groups = self.groups_of_kin.lock().unwrap_or_else(PoisonError::into_inner);
            groups.retain(|_, group| group.strong_count() > 0);
            groups.insert(mark.clone(), Arc::downgrade(group));
        }
        self.leaders.take_in_kin();
        let scope = Scope::of_kin(mark, Arc::clone(&self.leaders)).with_group(group);
        let grave = Grave::new(place, Remains { leader: None, scope, leaders: Arc::clone(&self.leaders) });
        Ok(Kin::new(grave, self.clone()))
    }

    fn place(&self) -> Result<OwnedPermit<Remains>, SpawnError> {
        self.graves.clone().try_reserve_owned().map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => SpawnError::TooManyTrees { live_max: LIVE_TREES_MAX },
            mpsc::error::TrySendError::Closed(_) => SpawnError::SpawnerGone,
        })
    }

    async fn bear(&self, spec: SpawnSpec, is_errand: bool) -> Result<Tree, SpawnError> {
        let place = self.place()?;
        let spec = Arc::new(spec);
        let policy = self.policy(&spec).await?;
        let (reply, born) = oneshot::channel();
        let birth = Birth { spec: Arc::clone(&spec), place, is_errand, spawner: self.clone(), reply };
        self.births.send(birth).await.map_err(|_| SpawnError::SpawnerGone)?;
        let (tree, launcher) = born.await.map_err(|_| SpawnError::SpawnerGone)??;
        let (Some(launcher), Some(policy)) = (launcher, policy) else { return Ok(tree) };
        match launch::follow(launcher, &policy, &spec).await {
            Ok(listeners) => Ok(tree.with_listeners(listeners)),
            Err(error) => {
                tree.end(Duration::ZERO).await;
                Err(error)
            }
        }
    }

    /// What the launcher of a sandbox is to be told; nothing where there is none. Many looks at the file system.
    async fn policy(&self, spec: &Arc<SpawnSpec>) -> Result<Option<Vec<u8>>, SpawnError> {
        if spec.sandbox.is_none() {
            return Ok(None);
        }
        let spec = Arc::clone(spec);
        let of_sandbox = move || spec.sandbox.as_ref().map(|sandbox| sandbox.policy(&spec)).transpose();
        let policy = self.runtime.spawn_blocking(of_sandbox).await.map_err(|failed| match failed.is_panic() {
            true => SpawnError::os("work out a policy")(io::Error::other(failed)),
            false => SpawnError::SpawnerGone,
        })?;
        let policy = policy.map_err(|source| SpawnError::Sandbox { action: "open its places", source })?;
        Ok(policy.as_ref().map(Policy::encode))
    }

    /// Reaps orphans of trees that ended by themselves, so that they do not pile up as zombies while
    /// their trees live. Never touches a tree's leader or a command that other code of this process runs.
    ///
    /// Looks at the children of this process, which takes well under a millisecond where the kernel
    /// lists them, else a pass over `/proc`. Returns how many were reaped.
    pub fn reap_orphans(&self) -> usize {
        self.leaders.reap_orphans().unwrap_or_else(|error| {
            // The next call finds them; a zombie costs nothing but a number.
            tracing::debug!(error = %error, "could not look for orphans");
            0
        })
    }

    /// Reaps orphans until none that has ended is left. The first thread of a program is a zombie before its others are
    /// gone, and only then can it be reaped: a look right after a kill may be too early. False when there is still one
    /// after `wait_max`. Cancel-safe.
    pub async fn orphans_reaped(&self, wait_max: Duration) -> bool {
        let began = Instant::now();
        loop {
            self.reap_orphans();
            match self.leaders.has_ended_orphan() {
                Ok(false) => return true,
                Ok(true) => {}
                Err(error) => tracing::debug!(%error, "could not look for orphans"),
            }
            if began.elapsed() >= wait_max {
                return false;
            }
            tokio::time::sleep(REAPING_PAUSE).await;
        }
    }

    /// Waits until no tree and no kin are left, dropped ones included: a process that ends while one of them is being
    /// killed would leave it stopped but alive. False when some are still there after `wait_max`.
    pub async fn settled(&self, wait_max: Duration) -> bool {
        let began = Instant::now();
        while !self.leaders.nobody_is_left() {
            if began.elapsed() >= wait_max {
                return false;
            }
            tokio::time::sleep(SETTLED_PAUSE).await;
        }
        true
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Ends a tree that is ending by itself, behind whoever calls. Dropping it would as well, but looks for everybody it
    /// may have left before it has ended. [`Self::settled`] waits for it.
    pub(crate) fn end_behind(&self, mut tree: Tree, grace: Duration) {
        drop(self.runtime.spawn(async move {
            // One that takes longer is ended.
            let _ = timeout(grace, tree.wait()).await;
            tree.end(Duration::ZERO).await;
        }));
    }

    /// A number that it did not give before, for marks that must differ.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn leaders(&self) -> &Arc<Leaders> {
        &self.leaders
    }

    pub(crate) fn boot_id(&self) -> String {
        self.boot_id.to_string()
    }

    /// A new group, where there are any.
    fn group(&self) -> Result<Option<Arc<Group>>, SpawnError> {
        let made = self.cgroups.as_ref().map(|cgroups| cgroups.make().map(Arc::new)).transpose();
        made.map_err(SpawnError::os("make a control group"))
    }

    /// The group that the first process of a tree joins. An errand joins that of its kin, if there are any.
    fn group_of(&self, mark: &TreeMark, is_errand: bool) -> Result<Option<Arc<Group>>, SpawnError> {
        if is_errand {
            let groups = self.groups_of_kin.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(groups.get(mark).and_then(Weak::upgrade))
        } else {
            self.group()
        }
    }

    fn grave(
        &self,
        place: OwnedPermit<Remains>,
        leader: Key,
        mark: TreeMark,
        is_errand: bool,
        group: Option<Arc<Group>>,
    ) -> Grave {
        let leaders = Arc::clone(&self.leaders);
        let scope = match is_errand {
            // What is in the group of its kin shall live on.
            true => Scope::of_errand(leader, mark, leaders),
            false => Scope::of_tree(leader, mark, leaders).with_group(group),
        };
        Grave::new(place, Remains { leader: Some(leader), scope, leaders: Arc::clone(&self.leaders) })
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner").field("leaders", &self.leaders).finish_non_exhaustive()
    }
}

/// The thread's life: one birth after the other, until no spawner and no tree is left.
fn deliver(mut ordered: Receiver<Birth>, open_files: Rlimit) {
    while let Some(Birth { spec, place, is_errand, spawner, reply }) = ordered.blocking_recv() {
        if reply.is_closed() {
            continue;
        }
        // Pipes register with the runtime's reactor when the tree takes them.
        let runtime = spawner.runtime.clone();
        let _inside = runtime.enter();
        let born = spawner.group_of(&spec.mark, is_errand).and_then(|group| {
            let birth = || birth::bear(&spec, open_files, group.as_deref());
            let (Newborn { child, launcher }, leader) = spawner.leaders.bear(birth)?;
            // From here on a failure, or a caller that went away, ends what was born.
            let grave = spawner.grave(place, leader, spec.mark.clone(), is_errand, group);
            Ok((Tree::take(child, leader, grave, spawner)?, launcher))
        });
        // A tree that nobody waits for any more is dropped here, and thereby ended.
        drop(reply.send(born));
    }
}
