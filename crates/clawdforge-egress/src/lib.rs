//! The way out: a forward proxy on loopback that knows for each process tree of an agent what it may reach.
//!
//! A tree gets a [`Grant`]: a credential of its own, as a part of the proxy's address. The credential says
//! whose rule to apply, and nobody without one gets anything. A name is judged, then looked up *here*, then
//! every address that came is judged, and one of those is connected to; nothing looks the name up again.
//!
//! The proxy binds nobody to use it. What does is the kernel's rule around the tree (the process crate's
//! sandbox), which leaves no other port to connect to. Where there is none, all this is advice. A tree with a network of
//! its own reaches the proxy, and what it always reaches of this host's loopback, by listeners in there
//! ([`Grant::answer`]).
//!
//! Invariants: no connection leaves without a grant; it ends with the grant; a refusal is logged with app and
//! host, and never with a path, a query, a header or a body.

mod connection;
mod dial;
mod grants;
mod limits;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clawdforge_core::network::Reach;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use dial::{Outside, System};
pub use grants::{Grant, Whose};

use grants::{Granted, Grants};
use limits::CONNECTIONS_MAX;

/// Pause after a failed accept (no file handle left, most likely), so that it is not tried in a loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Trees that wait for their listeners to be answered; it takes no time.
const DOORS_QUEUED_MAX: usize = 64;

/// A handle of the proxy, by which trees are let through it.
#[derive(Debug, Clone)]
pub struct Egress {
    grants: Arc<Grants>,
    address: SocketAddr,
    doors: Sender<Door>,
}

/// A listener in the network of a tree's own.
#[derive(Debug)]
pub(crate) struct Door {
    pub listener: TcpListener,
    pub granted: Arc<Granted>,
}

/// The proxy, bound and not yet serving: connections wait in the kernel's queue.
pub struct Proxy {
    listener: TcpListener,
    doors: Receiver<Door>,
    shared: Arc<Shared>,
}

/// What every connection needs.
pub(crate) struct Shared {
    pub grants: Arc<Grants>,
    pub outside: Arc<dyn Outside>,
}

impl Proxy {
    /// Binds a free port of loopback.
    ///
    /// # Errors
    /// When there is none.
    pub async fn bind(outside: Arc<dyn Outside>) -> io::Result<(Self, Egress)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let grants = Arc::new(Grants::default());
        let (doors, waiting) = mpsc::channel(DOORS_QUEUED_MAX);
        let egress = Egress { grants: Arc::clone(&grants), address: listener.local_addr()?, doors };
        Ok((Self { listener, doors: waiting, shared: Arc::new(Shared { grants, outside }) }, egress))
    }

    /// Serves until told to stop, and cuts what is open then.
    pub async fn serve(mut self, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let proxied = |shared: &Arc<Shared>| {
            let shared = Arc::clone(shared);
            move |stream| connection::serve(Arc::clone(&shared), stream)
        };
        let proxy = self.listener.local_addr().map(|address| address.port()).ok();
        // They end with it, so none outlives the service.
        let mut listening = JoinSet::new();
        listening.spawn(accept(self.listener, Arc::clone(&places), stop.clone(), proxied(&self.shared)));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = listening.join_next() => tell_of_panic(ended),
                Some(Door { listener, granted }) = self.doors.recv() => {
                    let (places, ended) = (Arc::clone(&places), granted.ended.clone());
                    match listener.local_addr() {
                        Ok(address) if Some(address.port()) == proxy => {
                            listening.spawn(accept(listener, places, ended, proxied(&self.shared)));
                        }
                        Ok(address) => {
                            let shared = Arc::clone(&self.shared);
                            listening.spawn(accept(listener, places, ended, move |stream| {
                                connection::relay(Arc::clone(&shared), Arc::clone(&granted), stream, address)
                            }));
                        }
                        Err(error) => tracing::error!(%error, "a listener of an agent's network has no address"),
                    }
                }
            }
        }
        listening.shutdown().await;
    }
}

/// Takes connections until told to stop, and cuts what is open then.
async fn accept<F>(
    listener: TcpListener,
    places: Arc<Semaphore>,
    stop: CancellationToken,
    serve: impl Fn(TcpStream) -> F + Send,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        // A place first: beyond the limit, agents wait in the kernel's queue.
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                tell_of_panic(ended);
                continue;
            }
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match (accepted, place) {
            (Ok((stream, _)), Ok(place)) => {
                let serving = serve(stream);
                connections.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            (Err(error), _) => {
                tracing::warn!(%error, "the proxy could not accept a connection of an agent");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (_, Err(_closed)) => break,
        }
    }
    connections.shutdown().await;
}

fn tell_of_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(task.name = "egress connection", "a task panicked");
    }
}

impl Egress {
    /// Lets a tree through, as far as `reach` goes, for as long as the grant lives.
    ///
    /// # Errors
    /// When the kernel gives no random numbers.
    pub fn grant(&self, whose: Whose, reach: Reach) -> io::Result<Grant> {
        Grants::grant(self, whose, reach)
    }

    /// The port that a tree must be able to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

#[cfg(test)]
mod tests;
