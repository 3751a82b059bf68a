//! Who belongs to a tree, told from a pass over `/proc`.
//!
//! A process is a member when one of these holds:
//!
//! - it is a leader, or was seen as a member before (number *and* birth are the same);
//! - its group or session is that of a leader that still exists, if only as a zombie. A leader that is
//!   gone proves nothing: its number may be somebody else's by now;
//! - it carries one of the marks in its environment;
//! - it is in the control group of the tree, where there is one;
//! - it descends from a member, or (for a tree of ours) shares a member's session.
//!
//! For a tree of ours only processes below us are looked at, and never the trees of other leaders.
//! Of an errand only the leader's session is: what leaves it shall live on.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use crate::cgroup::Group;
use crate::leaders::Leaders;
use crate::mark::TreeMark;
use crate::proc::{self, Entry, Key};

/// What makes a process a member, and what is known already.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    leaders: Vec<Key>,
    marks: HashSet<TreeMark>,
    known: HashSet<Key>,
    reach: Reach,
    /// Who descends from a member or carries a mark is none for that.
    session_only: bool,
    /// Who is in there is a member.
    group: Option<Arc<Group>>,
}

/// Where members may be.
#[derive(Debug, Clone)]
enum Reach {
    /// Below this process, which is the subreaper of all its trees.
    BelowUs(Arc<Leaders>),
    /// Anywhere but among this process and its ancestors.
    Everywhere { us: i32 },
}

/// The members that a pass found.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub alive: Vec<Key>,
    /// Numbers of members, and of orphans of ours, that wait to be reaped.
    pub ended: Vec<i32>,
    /// Somebody ended before it could be asked for its mark: it may have been a member, and have a successor that came
    /// too late for this pass.
    pub missed: bool,
}

/// What a single process was found to be.
#[derive(Debug)]
pub(crate) enum Newborn {
    Member(Key),
    Stranger,
    /// It is not there yet, or not any more.
    Unseen,
}

/// Ancestors of a newborn that are looked at: programs that start programs are not nested deeper.
const ANCESTORS_MAX: usize = 64;

impl Scope {
    /// A tree of ours.
    pub(crate) fn of_tree(leader: Key, mark: TreeMark, leaders: Arc<Leaders>) -> Self {
        Self {
            leaders: vec![leader],
            marks: HashSet::from([mark]),
            known: HashSet::new(),
            reach: Reach::BelowUs(leaders),
            session_only: false,
            group: None,
        }
    }

    /// A leader of ours and its session, without what it leaves behind.
    pub(crate) fn of_errand(leader: Key, mark: TreeMark, leaders: Arc<Leaders>) -> Self {
        Self { session_only: true, ..Self::of_tree(leader, mark, leaders) }
    }

    /// What carries a mark below us, whoever led it.
    pub(crate) fn of_kin(mark: TreeMark, leaders: Arc<Leaders>) -> Self {
        Self {
            leaders: Vec::new(),
            marks: HashSet::from([mark]),
            known: HashSet::new(),
            reach: Reach::BelowUs(leaders),
            session_only: false,
            group: None,
        }
    }

    /// Trees of a server that is no more.
    pub(crate) fn of_leftovers(leaders: Vec<Key>, marks: HashSet<TreeMark>) -> Self {
        let us = rustix::process::getpid().as_raw_pid();
        Self {
            leaders,
            marks,
            known: HashSet::new(),
            reach: Reach::Everywhere { us },
            session_only: false,
            group: None,
        }
    }

    /// The same, with everybody in this group.
    pub(crate) fn with_group(self, group: Option<Arc<Group>>) -> Self {
        Self { group, ..self }
    }

    /// Kills everybody in the group at once, where there is one. Returns how many there were. Blocks for milliseconds.
    pub(crate) fn kill_group(&self) -> usize {
        let killed = self.group.as_ref().map_or(Ok(0), |group| group.kill());
        killed.unwrap_or_else(|error| {
            // The sweep that follows finds them one by one, and says so when it cannot either.
            tracing::warn!(%error, "a control group could not be killed at once");
            0
        })
    }

    /// Whether somebody is in the group; where there is none, or it does not say, nobody is known to be.
    pub(crate) fn group_is_populated(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.is_populated().unwrap_or(true))
    }

    /// Finds the members there are now, and remembers them.
    pub(crate) fn look(&mut self) -> io::Result<Members> {
        let everyone = proc::everyone()?;
        let missed = Cell::new(false);
        let members = self.members(&everyone, |pid| {
            let is_marked = self.is_marked(pid)?;
            missed.set(missed.get() || is_marked.is_none());
            Ok(is_marked.unwrap_or(false))
        })?;
        let ended = self.orphans_that_ended(&everyone);
        let mut found = Members { alive: Vec::new(), ended, missed: missed.get() };
        for member in members {
            if member.ended {
                found.ended.push(member.key.pid);
            } else {
                self.known.insert(member.key);
                found.alive.push(member.key);
            }
        }
        Ok(found)
    }

    /// What the process of this number is, which was most likely born a moment ago; a member is remembered. Looks at
    /// itself and its ancestors alone, so a member that is one by what others are is not known here.
    pub(crate) fn newborn(&mut self, pid: i32) -> io::Result<Newborn> {
        let Some(entry) = proc::entry(pid)?.filter(|entry| !entry.ended) else { return Ok(Newborn::Unseen) };
        if !self.may_be_member(entry)? {
            return Ok(Newborn::Stranger);
        }
        if !self.is_led(&entry)? {
            match self.is_marked(pid)?.filter(|_| !self.session_only) {
                Some(true) => {}
                Some(false) => return Ok(Newborn::Stranger),
                None if self.session_only => return Ok(Newborn::Stranger),
                None => return Ok(Newborn::Unseen),
            }
        }
        self.known.insert(entry.key);
        Ok(Newborn::Member(entry.key))
    }

    /// Reaps those of these processes that are orphans of ours, unless that would have to wait. False when it would.
    pub(crate) fn reap_now(&self, ended: &[i32]) -> bool {
        match &self.reach {
            Reach::BelowUs(leaders) => leaders.reap_now(ended),
            // Somebody else's children.
            Reach::Everywhere { .. } => true,
        }
    }

    /// Orphans of ours that wait to be reaped, whichever tree they were of: what has ended tells no mark any more. In a
    /// storm of forks each pass would look at more of them.
    fn orphans_that_ended(&self, everyone: &[Entry]) -> Vec<i32> {
        let Reach::BelowUs(leaders) = &self.reach else { return Vec::new() };
        let is_orphan = |entry: &&Entry| entry.ended && entry.ppid == leaders.us() && leaders.is_orphan(entry);
        everyone.iter().filter(is_orphan).map(|entry| entry.key.pid).collect()
    }

    fn is_marked(&self, pid: i32) -> io::Result<Option<bool>> {
        proc::carries_mark(pid, |mark| self.marks.iter().any(|wanted| wanted.as_str().as_bytes() == mark))
    }

    /// Whether it is in the session of a leader of ours, whose unreaped process keeps that number.
    fn is_led(&self, entry: &Entry) -> io::Result<bool> {
        if matches!(self.reach, Reach::Everywhere { .. }) {
            // A leader may be gone any moment there, and its number somebody else's.
            return Ok(false);
        }
        match self.leaders.iter().find(|leader| leader.pid == entry.session) {
            Some(leader) => Ok(proc::entry(leader.pid)?.is_some_and(|found| found.key == *leader)),
            None => Ok(false),
        }
    }

    /// The same question as [`Self::candidates`], asked of one process.
    fn may_be_member(&self, mut entry: Entry) -> io::Result<bool> {
        let leaders = match &self.reach {
            Reach::BelowUs(leaders) => leaders,
            Reach::Everywhere { us } => return Ok(entry.key.pid != *us && entry.key.pid != 1),
        };
        let others = leaders.pids();
        let is_barred =
            |pid: i32| pid == leaders.us() || (others.contains(&pid) && !self.leaders.iter().any(|own| own.pid == pid));
        for _ in 0..ANCESTORS_MAX {
            if entry.ppid == 0 || is_barred(entry.key.pid) {
                return Ok(false);
            }
            if entry.ppid == leaders.us() {
                return Ok(true);
            }
            match proc::entry(entry.ppid)? {
                Some(parent) => entry = parent,
                // It ended a moment ago; its child is on its way to us.
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// How many members were ever seen alive.
    pub(crate) fn seen(&self) -> usize {
        self.known.len()
    }

    fn members(&self, everyone: &[Entry], marked: impl Fn(i32) -> io::Result<bool>) -> io::Result<Vec<Entry>> {
        let family = Family::of(everyone);
        let candidates = self.candidates(&family, everyone);
        let mut pinned: HashSet<i32> = self
            .leaders
            .iter()
            .filter(|leader| family.by_pid.get(&leader.pid).is_some_and(|entry| entry.key == **leader))
            .map(|leader| leader.pid)
            .collect();
        if let Reach::Everywhere { us } = &self.reach
            && let Some(us) = family.by_pid.get(us)
        {
            // Started from inside of a leftover, our own children share what else would tell members.
            pinned.remove(&us.group);
            pinned.remove(&us.session);
        }
        let grouped = self.group.as_ref().map_or(Ok(Vec::new()), |group| group.members())?;
        let mut members = HashMap::new();
        for entry in &candidates {
            let known = self.known.contains(&entry.key) || self.leaders.contains(&entry.key);
            if known
                || grouped.contains(&entry.key.pid)
                || pinned.contains(&entry.group)
                || pinned.contains(&entry.session)
            {
                members.insert(entry.key.pid, *entry);
            }
        }
        if self.session_only {
            return Ok(members.into_values().collect());
        }
        self.close_over(&mut members, &candidates, &family);
        // Reading an environment costs more than all the rest, so only for those still undecided.
        for entry in &candidates {
            if !entry.ended && !members.contains_key(&entry.key.pid) && marked(entry.key.pid)? {
                members.insert(entry.key.pid, *entry);
            }
        }
        self.close_over(&mut members, &candidates, &family);
        Ok(members.into_values().collect())
    }

    fn candidates(&self, family: &Family, everyone: &[Entry]) -> Vec<Entry> {
        match &self.reach {
            Reach::BelowUs(leaders) => {
                let mut barred = leaders.pids();
                barred.retain(|pid| !self.leaders.iter().any(|own| own.pid == *pid));
                barred.insert(leaders.us());
                // A parent that is not in the picture ended during the pass; its child is on its way to us.
                let roots = everyone.iter().filter(|entry| {
                    let parent_ended = entry.ppid != 0 && !family.by_pid.contains_key(&entry.ppid);
                    entry.ppid == leaders.us() || parent_ended
                });
                family.descend(roots, &barred)
            }
            Reach::Everywhere { us } => {
                let spared = family.line_of(*us);
                everyone.iter().filter(|entry| !spared.contains(&entry.key.pid)).copied().collect()
            }
        }
    }

    /// Adds descendants and, below us, whoever shares a session with a member: sessions cannot be joined
    /// from outside, so all of a session that was opened in a tree is of the tree.
    fn close_over(&self, members: &mut HashMap<i32, Entry>, candidates: &[Entry], family: &Family) {
        let open: HashSet<i32> = candidates.iter().map(|entry| entry.key.pid).collect();
        loop {
            let before = members.len();
            let mut unvisited: Vec<i32> = members.keys().copied().collect();
            while let Some(pid) = unvisited.pop() {
                for child in family.children_of(pid) {
                    if open.contains(&child.key.pid) && members.insert(child.key.pid, *child).is_none() {
                        unvisited.push(child.key.pid);
                    }
                }
            }
            if let Reach::BelowUs(leaders) = &self.reach {
                let mut sessions: HashSet<i32> = members.values().map(|member| member.session).collect();
                sessions.remove(&leaders.our_session());
                let sharing = candidates.iter().filter(|entry| sessions.contains(&entry.session));
                members.extend(sharing.map(|entry| (entry.key.pid, *entry)));
            }
            if members.len() == before {
                return;
            }
        }
    }
}

/// One pass over `/proc`, arranged by who is whose child.
struct Family {
    by_pid: HashMap<i32, Entry>,
    by_parent: HashMap<i32, Vec<Entry>>,
}

impl Family {
    fn of(everyone: &[Entry]) -> Self {
        let mut by_parent: HashMap<i32, Vec<Entry>> = HashMap::new();
        for entry in everyone {
            by_parent.entry(entry.ppid).or_default().push(*entry);
        }
        Self { by_pid: everyone.iter().map(|entry| (entry.key.pid, *entry)).collect(), by_parent }
    }

    fn children_of(&self, pid: i32) -> &[Entry] {
        self.by_parent.get(&pid).map_or(&[], Vec::as_slice)
    }

    /// These and everybody below them, without the barred ones and whoever hangs below those.
    fn descend<'a>(&self, roots: impl Iterator<Item = &'a Entry>, barred: &HashSet<i32>) -> Vec<Entry> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        let mut unvisited: Vec<Entry> = roots.copied().collect();
        while let Some(entry) = unvisited.pop() {
            if !barred.contains(&entry.key.pid) && seen.insert(entry.key.pid) {
                unvisited.extend_from_slice(self.children_of(entry.key.pid));
                found.push(entry);
            }
        }
        found
    }

    /// A process and its ancestors, and the first process of all.
    fn line_of(&self, pid: i32) -> HashSet<i32> {
        let mut line = HashSet::from([1]);
        let mut next = pid;
        while line.insert(next) {
            match self.by_pid.get(&next) {
                Some(entry) => next = entry.ppid,
                None => break,
            }
        }
        line
    }
}

#[cfg(test)]
mod tests;
