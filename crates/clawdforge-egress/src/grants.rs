//! Who may pass: a credential for each process tree, with the rules that count for it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawdforge_core::app::TokenHash;
use clawdforge_core::id::base32;
use clawdforge_core::network::{Host, Permit, Reach, Refused};
use clawdforge_core::secret::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use crate::limits::{CONNECTIONS_PER_GRANT_MAX, REFUSALS_LOGGED_MAX};
use crate::{Door, Egress};

/// Random bytes of a credential (256 bits).
const SECRET_BYTES: usize = 32;

/// Whose tree it is, for the log and for sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    /// The agent's name.
    pub agent: String,
    /// The app's name.
    pub app: String,
}

/// All live grants, by the hash of their credential: comparing hashes says nothing about a secret.
#[derive(Default)]
pub(crate) struct Grants(Mutex<HashMap<TokenHash, Arc<Granted>>>);

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants").field("live", &self.lock().len()).finish()
    }
}

/// What a connection needs of its grant.
#[derive(Debug)]
pub(crate) struct Granted {
    whose: Whose,
    reach: Reach,
    refusals: AtomicU64,
    /// Cancelled with the grant.
    pub ended: CancellationToken,
    pub places: Arc<Semaphore>,
}

/// The right of one tree to pass. Dropped, it is gone, and its connections are cut.
#[derive(Debug)]
pub struct Grant {
    grants: Arc<Grants>,
    granted: Arc<Granted>,
    hash: TokenHash,
    url: SecretString,
    ports: Vec<u16>,
    doors: Sender<Door>,
}

impl Grants {
    pub fn grant(egress: &Egress, whose: Whose, reach: Reach) -> io::Result<Grant> {
        let Egress { grants, address: proxy, doors } = egress.clone();
        let mut random = [0; SECRET_BYTES];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let secret = base32(&random);
        let hash = TokenHash::of(&secret);
        let ports = std::iter::once(proxy.port()).chain(reach.loopback_ports()).collect();
        let granted = Arc::new(Granted {
            whose,
            reach,
            refusals: AtomicU64::new(0),
            ended: CancellationToken::new(),
            places: Arc::new(Semaphore::new(CONNECTIONS_PER_GRANT_MAX)),
        });
        grants.lock().insert(hash, Arc::clone(&granted));
        let url = SecretString::from(format!("http://agent:{secret}@{proxy}"));
        Ok(Grant { grants, granted, hash, url, ports, doors })
    }

    /// The grant of a credential.
    pub fn find(&self, secret: &str) -> Option<Arc<Granted>> {
        self.lock().get(&TokenHash::of(secret)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenHash, Arc<Granted>>> {
        // What is behind the lock is changed in one step, so a poisoned one is usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Granted {
    /// Whether this may be asked for.
    ///
    /// # Errors
    /// With the sentence for the agent.
    pub fn judge(&self, host: &Host, port: u16) -> Result<Permit, String> {
        self.reach.judge(host, port).map_err(|refused| {
            let rule = match refused {
                Refused::ByAgent => format!("the network rule of the agent {}", self.whose.agent),
                Refused::ByApp => format!("the network rule of the app {}", self.whose.app),
            };
            self.note(host, port, &rule);
            format!("{host}:{port} is closed to this agent by {rule}; the service's operator can change it")
        })
    }

    /// Whether this address of loopback is what the operator named.
    pub fn is_always_reached(&self, address: SocketAddr) -> bool {
        self.reach.always_on_loopback(address.ip(), address.port())
    }

    /// The sentence about addresses that none may reach.
    pub fn closed(&self, host: &Host, port: u16, what: &str) -> String {
        self.note(host, port, what);
        format!(
            "{host}:{port} leads to {what}, which agents do not reach unless the service's operator names it in \
             `network_always` of the agent {}",
            self.whose.agent
        )
    }

    fn note(&self, host: &Host, port: u16, why: &str) {
        if self.refusals.fetch_add(1, Ordering::Relaxed) < REFUSALS_LOGGED_MAX {
            let Whose { agent, app } = &self.whose;
            tracing::info!(app.name = %app, agent.name = %agent, host = %host, port, why,
                "a connection of an agent was refused");
        }
    }
}

impl Grant {
    /// The proxy's address with the credential: `http://agent:…@127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.expose_secret()
    }

    /// The ports that a program must be able to connect to: the proxy's, and those of loopback that are
    /// always reached.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Answers what leads out of the network of a tree's own: at the proxy's port as the proxy, at any other by that port
    /// of this host's loopback. Until the grant or the proxy ends.
    ///
    /// # Errors
    /// When the runtime cannot listen on them.
    pub async fn answer(&self, listeners: Vec<std::net::TcpListener>) -> io::Result<()> {
        for listener in listeners {
            listener.set_nonblocking(true)?;
            let door = Door { listener: TcpListener::from_std(listener)?, granted: Arc::clone(&self.granted) };
            // A proxy that is gone has ended with the service, as the tree is about to.
            let _ = self.doors.send(door).await;
        }
        Ok(())
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let Some(granted) = self.grants.lock().remove(&self.hash) else { return };
        granted.ended.cancel();
        let refusals = granted.refusals.load(Ordering::Relaxed);
        if refusals > REFUSALS_LOGGED_MAX {
            let Whose { agent, app } = &granted.whose;
            tracing::warn!(app.name = %app, agent.name = %agent, refusals, "an agent went on asking for what is closed to it");
        }
    }
}
