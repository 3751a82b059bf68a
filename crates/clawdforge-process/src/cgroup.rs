//! Control groups of version 2: one for each process tree, where this service has a directory to make them in.
//!
//! A group gives what nothing else does: all in it end at once, however fast they multiply and whatever they did to
//! their session, parents or environment; memory, processes and processor time are bounded for all of them together; and
//! what a dead server left is all in one place. Without groups the sweep over `/proc` ends trees all the same, and only
//! what bounds the whole service bounds them.
//!
//! A process joins before it is the program, so that is never outside, and nothing that it starts ever leaves: to move
//! a process, one must be allowed to write to the group it leaves.
//!
//! Sources: the kernel's *Control Group v2*, and systemd's *Control Group APIs and Delegation* for whose a directory is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::getxattr;

use crate::proc;

/// What a file system of control groups of version 2 says it is (`CGROUP2_SUPER_MAGIC`).
const MAGIC: i64 = 0x6367_7270;

/// How the names of groups of trees begin.
const PREFIX: &str = "clawdforge-tree-";

/// Where the service itself goes, because a group that hands controllers on may have no processes of its own.
const SERVICE: &str = "clawdforge-service";

/// Attributes by which systemd says that a directory is the service's, for services of root's and of others.
const DELEGATED: [&str; 2] = ["trusted.delegate", "user.delegate"];

/// Processes and threads of one tree. Claude Code takes about 30 at its peak with its tools, a build some hundred.
const TASKS_MAX: u64 = 4_096;

/// The share of processor time of a tree, where the service has the usual 100: with the default of eight busy trees the
/// service still gets two fifths of a processor that all want.
const CPU_WEIGHT: u64 = 20;

/// How long a group may take to be empty after everybody in it was killed; the kernel needs milliseconds.
const EMPTY_WAIT_MAX: Duration = Duration::from_secs(2);

/// The rest between two looks at whether it is.
const EMPTY_PAUSE: Duration = Duration::from_millis(1);

/// What bounds a tree, where the kernel's controllers are there for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Memory: at the limit of [`Cgroups::at`], the whole tree is killed.
    pub memory: bool,
    /// Processes and threads.
    pub tasks: bool,
    /// Processor time, by its share where it is scarce.
    pub cpu: bool,
}

/// Why there are no groups.
#[derive(Debug, thiserror::Error)]
pub enum NoCgroups {
    /// The kernel has none of version 2, or none are mounted.
    #[error("there are no control groups of version 2 here")]
    None,
    /// They are, and not ours to change.
    #[error("the control group {} was not delegated to this service (in a unit of systemd's: `Delegate=yes`)", .0.display())]
    NotDelegated(PathBuf),
    /// A directory that was named is something else.
    #[error("{} is no control group of version 2", .0.display())]
    NotOne(PathBuf),
    /// The system refused.
    #[error("could not {action} in {}: {source}", dir.display())]
    Refused {
        /// What was being done, as a verb phrase.
        action: &'static str,
        /// Where.
        dir: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A directory in which trees get groups. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cgroups(Arc<Directory>);

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    memory_max: u64,
    bounds: Bounds,
    /// Who makes them: number and birth of this process, so that nobody takes them for left over.
    maker: String,
    made: AtomicU64,
}

impl Cgroups {
    /// In this service's own group, if systemd delegated that. The service moves into a group below it.
    ///
    /// # Errors
    /// See [`NoCgroups`].
    pub fn delegated(memory_max: u64) -> Result<Self, NoCgroups> {
        let unseen = |source| NoCgroups::Refused { action: "look for groups", dir: "/proc/self".into(), source };
        let own = own_cgroup().map_err(unseen)?.ok_or(NoCgroups::None)?;
        // Long enough to tell `1` from everything else.
        let says_so = |name| getxattr(&own, name, &mut [0_u8; 2]).is_ok_and(|length| length == 1);
        if !DELEGATED.into_iter().any(says_so) {
            return Err(NoCgroups::NotDelegated(own));
        }
        let service = own.join(SERVICE);
        let refused = |action| {
            let dir = own.clone();
            move |source| NoCgroups::Refused { action, dir, source }
        };
        make_dir(&service).map_err(refused("make a group for the service"))?;
        fs::write(service.join("cgroup.procs"), "0").map_err(refused("move the service into a group of its own"))?;
        Self::at(&own, memory_max)
    }

    /// In this directory, which must be this service's alone and without processes. A tree gets `memory_max` bytes.
    /// Controllers that are not there are done without ([`Self::bounds`]).
    ///
    /// # Errors
    /// See [`NoCgroups`].
    pub fn at(path: &Path, memory_max: u64) -> Result<Self, NoCgroups> {
        let refused = |action| move |source| NoCgroups::Refused { action, dir: path.to_owned(), source };
        let is_group = rustix::fs::statfs(path).is_ok_and(|found| found.f_type == MAGIC);
        if !is_group {
            return Err(NoCgroups::NotOne(path.to_owned()));
        }
        let bounds = hand_on(path).map_err(refused("hand controllers on"))?;
        let cgroups = Self::over(path, memory_max, bounds).map_err(refused("find out whose groups these are"))?;
        // One is made and removed, so that what cannot be is told now and not with the first agent.
        cgroups.make().map_err(refused("make a group"))?;
        Ok(cgroups)
    }

    fn over(path: &Path, memory_max: u64, bounds: Bounds) -> io::Result<Self> {
        let maker = name_of(rustix::process::getpid().as_raw_pid())?.ok_or(ErrorKind::NotFound)?;
        let directory = Directory { path: path.to_owned(), memory_max, bounds, maker, made: AtomicU64::new(0) };
        Ok(Self(Arc::new(directory)))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What bounds a tree.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.0.bounds
    }

    /// Ends everything in groups whose service is no more, and removes them. Blocks for as long as that takes. Returns
    /// how many processes there were.
    ///
    /// # Errors
    /// When the directory cannot be read, or a group cannot be ended.
    pub fn end_leftovers(&self) -> io::Result<usize> {
        let mut ended = 0;
        for entry in fs::read_dir(&self.0.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(made) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            let maker = made.rsplit_once('-').map_or(made, |(maker, _)| maker);
            let pid = maker.split('.').next().and_then(|pid| pid.parse().ok());
            if pid.map(name_of).transpose()?.flatten().as_deref() == Some(maker) {
                continue;
            }
            let group = Group::open(entry.path())?;
            ended += group.kill()?;
        }
        Ok(ended)
    }

    /// A group for a tree, to be joined by its first process.
    pub(crate) fn make(&self) -> io::Result<Group> {
        let Directory { path, memory_max, bounds, maker, made } = &*self.0;
        let path = path.join(format!("{PREFIX}{maker}-{}", made.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path)?;
        // From here on a failure removes it.
        let group = Group::open(path)?;
        for (file, value) in settings(*bounds, *memory_max) {
            fs::write(group.path.join(file), value.to_string())?;
        }
        Ok(group)
    }
}

/// What is written into the files of a new group.
fn settings(bounds: Bounds, memory_max: u64) -> impl Iterator<Item = (&'static str, u64)> {
    [
        (bounds.memory, "memory.max", memory_max),
        // Half a tree is of no use to anybody.
        (bounds.memory, "memory.oom.group", 1),
        (bounds.tasks, "pids.max", TASKS_MAX),
        (bounds.cpu, "cpu.weight", CPU_WEIGHT),
    ]
    .into_iter()
    .filter_map(|(is_bounded, file, value)| is_bounded.then_some((file, value)))
}

/// The group of one tree. Dropped, it is removed, if it is empty.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    door: File,
}

impl Group {
    fn open(path: PathBuf) -> io::Result<Self> {
        match OpenOptions::new().write(true).open(path.join("cgroup.procs")) {
            Ok(door) => Ok(Self { path, door }),
            Err(error) => {
                remove(&path);
                Err(error)
            }
        }
    }

    /// Where a process writes `0` to join.
    pub(crate) fn door(&self) -> BorrowedFd<'_> {
        self.door.as_fd()
    }

    /// The numbers of those who are in it and alive.
    pub(crate) fn members(&self) -> io::Result<Vec<i32>> {
        let numbers = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(numbers.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Kills everybody in it at once, and waits until they are gone. Returns how many there were. Blocks.
    ///
    /// # Errors
    /// When the kernel cannot (before 5.14), or somebody is still there.
    pub(crate) fn kill(&self) -> io::Result<usize> {
        let members = self.members()?.len();
        if members == 0 && !self.is_populated()? {
            return Ok(0);
        }
        fs::write(self.path.join("cgroup.kill"), "1")?;
        let began = Instant::now();
        while self.is_populated()? {
            if began.elapsed() >= EMPTY_WAIT_MAX {
                return Err(ErrorKind::TimedOut.into());
            }
            thread::sleep(EMPTY_PAUSE);
        }
        Ok(members)
    }

    /// Whether anybody is in it. Those of another PID namespace count too, whom [`Self::members`] may not name.
    pub(crate) fn is_populated(&self) -> io::Result<bool> {
        let events = fs::read_to_string(self.path.join("cgroup.events"))?;
        Ok(events.lines().any(|line| line == "populated 1"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(group: &Path) {
    if let Err(error) = fs::remove_dir(group) {
        // What is in it is told by whoever could not end it; the next start removes it.
        tracing::debug!(path = %group.display(), %error, "a control group could not be removed");
    }
}

/// Hands those controllers on to the groups below that are there for it.
fn hand_on(path: &Path) -> io::Result<Bounds> {
    let there = fs::read_to_string(path.join("cgroup.controllers"))?;
    let one = |name: &str| {
        there.split_whitespace().any(|known| known == name)
            && fs::write(path.join("cgroup.subtree_control"), format!("+{name}")).is_ok()
    };
    Ok(Bounds { memory: one("memory"), tasks: one("pids"), cpu: one("cpu") })
}

/// The directory of this process's own group of version 2; `None` where there is none, or it is not to be seen from here.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn own_cgroup() -> io::Result<Option<PathBuf>> {
    Ok(locate(&fs::read_to_string("/proc/self/mountinfo")?, &fs::read_to_string("/proc/self/cgroup")?))
}

/// The directory that these files of `/proc/self` tell of.
fn locate(mounts: &str, groups: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        if source.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = Path::new(group).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

/// A process by its number and birth; `None` where there is none.
fn name_of(pid: i32) -> io::Result<Option<String>> {
    Ok(proc::entry(pid)?.map(|entry| format!("{pid}.{}", entry.key.start_ticks)))
}

fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_below_its_mount() {
        let hybrid = "24 1 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                      25 24 0:23 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      26 24 0:24 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n";
        let groups = "4:memory:/elsewhere\n0::/system.slice/clawdforge.service\n";
        let found = |mounts, groups| locate(mounts, groups);
        assert_eq!(found(hybrid, groups).unwrap(), Path::new("/sys/fs/cgroup/unified/system.slice/clawdforge.service"));
        // In a container the mount shows a part, and a group outside of it is not to be seen.
        let part = "26 24 0:24 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(part, "0::/docker/x/y\n").unwrap(), Path::new("/sys/fs/cgroup/y"));
        assert_eq!(found(part, groups), None);
        assert_eq!(found(hybrid, "4:memory:/elsewhere\n"), None);
        assert_eq!(found("", groups), None);
    }

    #[test]
    fn a_group_is_bounded_by_the_controllers_there_are() {
        let set = |memory, tasks, cpu| {
            let settings = settings(Bounds { memory, tasks, cpu }, 7 << 20);
            settings.map(|(file, value)| format!("{file}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(set(true, true, true), "memory.max=7340032 memory.oom.group=1 pids.max=4096 cpu.weight=20");
        assert_eq!(set(false, true, false), "pids.max=4096");
        assert_eq!(set(false, false, false), "");
    }
}
