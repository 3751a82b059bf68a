//! Agent processes that several conversations of one app share, where the operator allows it.
//!
//! Such a process begins with a conversation that finds none with a place left, and ends with the last one
//! that leaves it. One that cannot be brought to let go of a conversation is ended, and the turns of the
//! others with it; they are taken up again by their next turns.
//!
//! Invariants:
//! - a process is on record before it is started and until it is gone, so a crash leaves none behind;
//! - a process never holds conversations of two apps or two agents.

use std::collections::HashMap;
use std::fmt::Display;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_agent::{
    AgentDriver, AgentHost, AgentLink, CloseReport, Home, HostSpec, Hosting, LinkContext, OpenSpec, Prompt,
};
use clawdforge_core::agent::{AgentName, AgentSignal, Failure};
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::id::{AppId, HostId};
use clawdforge_core::session::Session;
use clawdforge_process::reaper::Leftover;
use clawdforge_process::{TreeMark, reaper};
use tokio_util::sync::CancellationToken;

use crate::engine::Shared;
use crate::owner::run::unprepared;
use crate::owner::tell_of_closing;
use crate::tasks::{OnError, TaskKind};
use crate::workspace::Workspace;

/// How long one look for what is left of an agent may take, where there is something.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(5);

const LET_GO: TaskKind = TaskKind { name: "let-go", on_error: OnError::Log };

/// Whose processes: no two apps share one, and no two agents.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HostKey {
    app: AppId,
    agent: AgentName,
}

impl HostKey {
    pub fn of(session: &Session) -> Self {
        Self { app: session.app, agent: session.agent.clone() }
    }
}

/// The processes there are.
#[derive(Default)]
pub(crate) struct Hosts {
    /// Those that may take in another conversation.
    open: Mutex<HashMap<HostKey, Vec<Arc<Hosted>>>>,
    /// Those that could not be ended. They stay on record, and are looked for again.
    lost: Mutex<Vec<HostId>>,
}

/// A process that is on record.
struct Hosted {
    id: HostId,
    host: Box<dyn AgentHost>,
    /// Conversations that have it. Changed under the lock of the shared ones.
    conversations: Mutex<usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is changed in one step, so a poisoned one is usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// An agent for a conversation: in a process that it may share, or in one of its own.
    pub(crate) async fn open_link(
        self: &Arc<Self>,
        key: HostKey,
        driver: &Arc<dyn AgentDriver>,
        spec: OpenSpec,
    ) -> Result<Box<dyn AgentLink>, Failure> {
        let Some(hosting) = driver.hosting().filter(|_| self.options.sessions_per_process > 1) else {
            return driver.open(spec).await;
        };
        if let Some(place) = self.join(&key).await {
            return place.open(spec).await;
        }
        let hosted = self.start_host(hosting, &spec).await?;
        if hosted.host.ends_conversations() {
            lock(&self.hosts.open).entry(key.clone()).or_default().push(Arc::clone(&hosted));
        }
        Place::taken(self, key, hosted).open(spec).await
    }

    /// Starts a process, which is on record before, for a first conversation and more of the same app.
    async fn start_host(self: &Arc<Self>, hosting: &dyn Hosting, first: &OpenSpec) -> Result<Arc<Hosted>, Failure> {
        let id = self.ids.make(HostId::new);
        let dir = self.workspaces.of_host(id);
        let started = self.start_noted(hosting, id, &dir, first).await;
        match started {
            Ok(host) => Ok(Arc::new(Hosted { id, host, conversations: Mutex::new(1) })),
            Err(failure) => {
                self.look_for_host(id).await;
                Err(failure)
            }
        }
    }

    async fn start_noted(
        &self,
        hosting: &dyn Hosting,
        id: HostId,
        dir: &Workspace,
        first: &OpenSpec,
    ) -> Result<Box<dyn AgentHost>, Failure> {
        let noted = self.note_host(id, dir, first.home.clone(), first.given_up.clone()).await?;
        hosting.start(HostSpec { app: first.app.clone(), ..noted }).await
    }

    /// Puts a process on record that is about to be started, and makes its directory. It works for nobody yet.
    pub(crate) async fn note_host(
        &self,
        id: HostId,
        dir: &Workspace,
        home: Option<Home>,
        given_up: CancellationToken,
    ) -> Result<HostSpec, Failure> {
        let mark = TreeMark::new(id.to_string()).map_err(|error| unprepared(&error.to_string()))?;
        let (made, owner) = (dir.clone(), home.clone());
        let made = tokio::task::spawn_blocking(move || made.make(owner.as_ref())).await;
        made.map_err(|error| unprepared(&error.to_string()))??;
        let noted = Commit { writes: vec![Write::NoteHost(id, self.ids.now())], ..Commit::default() };
        self.recorder.plain(noted).await.map_err(|error| unprepared(&error.to_string()))?;
        Ok(HostSpec { cwd: dir.work(), scratch: dir.scratch(), mark, home, app: None, given_up })
    }

    /// A place in a process of this app and agent that has one left.
    async fn join(self: &Arc<Self>, key: &HostKey) -> Option<Place> {
        loop {
            let hosted = {
                let shared = lock(&self.hosts.open);
                let mut all = shared.get(key)?.iter();
                let hosted = all.find(|hosted| *lock(&hosted.conversations) < self.options.sessions_per_process)?;
                *lock(&hosted.conversations) += 1;
                Arc::clone(hosted)
            };
            let place = Place::taken(self, key.clone(), hosted);
            if place.takes_in().await {
                return Some(place);
            }
            // Those who are there notice by themselves where it is gone.
            place.shut();
            place.leave(None).await;
        }
    }

    async fn let_go(self: &Arc<Self>, hosted: Arc<Hosted>) -> CloseReport {
        let report = hosted.host.close(self.options.kill_grace).await;
        tell_of_closing(&hosted.id, &report);
        if report.survivors == 0 {
            self.forget_host(hosted.id).await;
        } else {
            lock(&self.hosts.lost).push(hosted.id);
        }
        report
    }

    /// Looks again for processes that could not be ended.
    pub(crate) async fn look_for_lost_hosts(&self) {
        let lost = mem::take(&mut *lock(&self.hosts.lost));
        for id in lost {
            self.look_for_host(id).await;
        }
    }

    /// Processes of the last service that were still there when this one began.
    pub(crate) fn lose_hosts(&self, ids: Vec<HostId>) {
        lock(&self.hosts.lost).extend(ids);
    }

    /// Ends what may be left of a process that nobody has any more, and forgets it where nothing is.
    pub(crate) async fn look_for_host(&self, id: HostId) {
        if is_gone(&id).await {
            self.forget_host(id).await;
        } else {
            lock(&self.hosts.lost).push(id);
        }
    }

    /// Removes what is on record and on disk of a process that is gone. Where that cannot be recorded, the
    /// next start looks for the process and finds none.
    pub(crate) async fn forget_host(&self, id: HostId) {
        let forgotten = Commit { writes: vec![Write::ForgetHost(id)], ..Commit::default() };
        if let Err(error) = self.recorder.plain(forgotten).await {
            tracing::warn!(host.id = %id, %error, "the end of a process could not be recorded");
        }
        let dir = self.workspaces.of_host(id);
        if tokio::task::spawn_blocking(move || dir.remove()).await.is_err() {
            tracing::error!(host.id = %id, "removing the directory of a process panicked");
        }
    }
}

/// Ends whatever carries a mark that nobody uses any more; false where something of it is still there.
pub(crate) async fn is_gone(mark: &impl Display) -> bool {
    let Ok(leftover) = TreeMark::new(mark.to_string()).map(|mark| Leftover { mark, identity: None }) else {
        return true;
    };
    let ended = reaper::end_leftovers(&[leftover], LOOK_WAIT_MAX).await;
    if ended.survivors > 0 {
        tracing::error!(process.mark = %mark, process.survivors = ended.survivors,
            "processes of an agent could not be ended; they stay on record");
    }
    ended.survivors == 0
}

/// The place of one conversation in a process. Dropped, it is left later.
struct Place {
    shared: Arc<Shared>,
    key: HostKey,
    hosted: Option<Arc<Hosted>>,
}

impl Place {
    fn taken(shared: &Arc<Shared>, key: HostKey, hosted: Arc<Hosted>) -> Self {
        Self { shared: Arc::clone(shared), key, hosted: Some(hosted) }
    }

    async fn takes_in(&self) -> bool {
        match &self.hosted {
            Some(hosted) => hosted.host.takes_in().await,
            None => false,
        }
    }

    async fn open(self, spec: OpenSpec) -> Result<Box<dyn AgentLink>, Failure> {
        let Some(hosted) = self.hosted.clone() else { return Err(unprepared("a place was left already")) };
        match hosted.host.open(spec).await {
            Ok(inner) => Ok(Box::new(HostedLink { inner, place: self })),
            Err(failure) => {
                self.leave(None).await;
                Err(failure)
            }
        }
    }

    /// Lets nobody else into the process.
    fn shut(&self) {
        if let Some(hosted) = &self.hosted {
            shut(&mut lock(&self.shared.hosts.open), &self.key, hosted);
        }
    }

    /// Gives the place up; the last one out ends the process. What goes before that is done by `inner`, where
    /// others stay.
    async fn leave(mut self, inner: Option<(Box<dyn AgentLink>, Duration)>) -> CloseReport {
        let Some(hosted) = self.hosted.take() else { return CloseReport::default() };
        let alone = {
            let mut shared = lock(&self.shared.hosts.open);
            let alone = *lock(&hosted.conversations) == 1;
            if alone {
                shut(&mut shared, &self.key, &hosted);
            }
            alone
        };
        if alone {
            drop(inner);
            return self.shared.let_go(hosted).await;
        }
        let report = match inner {
            Some((inner, grace)) => inner.close(grace).await,
            None => CloseReport::default(),
        };
        // The others may have left meanwhile.
        if give_up(&self.shared, &self.key, &hosted) {
            self.shared.let_go(hosted).await;
        }
        report
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(hosted) = self.hosted.take() else { return };
        if give_up(&self.shared, &self.key, &hosted) {
            let shared = Arc::clone(&self.shared);
            self.shared.work.spawn(LET_GO, async move { drop(shared.let_go(hosted).await) });
        }
    }
}

/// One conversation less; true where it was the last.
fn give_up(shared: &Shared, key: &HostKey, hosted: &Arc<Hosted>) -> bool {
    let mut all = lock(&shared.hosts.open);
    let mut conversations = lock(&hosted.conversations);
    *conversations = conversations.saturating_sub(1);
    let last = *conversations == 0;
    if last {
        shut(&mut all, key, hosted);
    }
    last
}

fn shut(shared: &mut HashMap<HostKey, Vec<Arc<Hosted>>>, key: &HostKey, hosted: &Arc<Hosted>) {
    if let Some(all) = shared.get_mut(key) {
        all.retain(|each| !Arc::ptr_eq(each, hosted));
        if all.is_empty() {
            shared.remove(key);
        }
    }
}

/// A link in a process that is not the link's own.
struct HostedLink {
    inner: Box<dyn AgentLink>,
    place: Place,
}

#[async_trait]
impl AgentLink for HostedLink {
    async fn begin_turn(&mut self, prompt: Prompt) -> Result<(), Failure> {
        self.inner.begin_turn(prompt).await
    }

    fn cancel_turn(&mut self) {
        self.inner.cancel_turn();
    }

    fn context(&self) -> LinkContext {
        self.inner.context()
    }

    fn resume_key(&self) -> Option<String> {
        self.inner.resume_key()
    }

    fn is_usable(&self) -> bool {
        self.inner.is_usable()
    }

    fn process(&self) -> Option<String> {
        self.inner.process()
    }

    async fn next_signal(&mut self) -> AgentSignal {
        self.inner.next_signal().await
    }

    async fn close(self: Box<Self>, grace: Duration) -> CloseReport {
        let Self { inner, place } = *self;
        place.leave(Some((inner, grace))).await
    }
}
