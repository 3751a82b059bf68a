//! A connection that does not last: a relay that cuts, resets or stalls what goes through it.
//!
//! Each connection takes the next fault of a list, again and again, after so many bytes from the other side. What was
//! forwarded by then has arrived; a client must go on from there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It ends as if the other side had closed it.
    Cut,
    /// It ends with a reset.
    Reset,
    /// It stays open, and nothing comes any more.
    Stall,
    /// Nothing.
    None,
}

/// A relay in front of a service. Its connections end when it is dropped.
pub struct ChaosProxy {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
    _relay: JoinSet<()>,
}

impl ChaosProxy {
    /// A relay to `service`. Its connections meet `faults` in turn, each after that many bytes of the answer.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(service: SocketAddr, faults: Vec<(usize, Fault)>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let taken = Arc::new(AtomicUsize::new(0));
        let mut relay = JoinSet::new();
        let counter = Arc::clone(&taken);
        relay.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let number = counter.fetch_add(1, Ordering::Relaxed);
                let fault = faults.get(number % faults.len().max(1)).copied().unwrap_or((0, Fault::None));
                connections.spawn(pass(client, service, fault));
            }
        });
        Ok(Self { address, taken, _relay: relay })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections it took.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

async fn pass(client: TcpStream, service: SocketAddr, (after, fault): (usize, Fault)) {
    let Ok(server) = TcpStream::connect(service).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asking = tokio::io::copy(&mut from_client, &mut to_server);
    let answering = async {
        let (mut left, mut buffer) = (after, [0; 512]);
        loop {
            let wanted = if fault == Fault::None { buffer.len() } else { left.min(buffer.len()) };
            if wanted == 0 {
                return;
            }
            match from_server.read(&mut buffer[..wanted]).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    if to_client.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                    left = left.saturating_sub(count);
                }
            }
        }
    };
    tokio::select! {
        // A client that has said all it has to say still hears the answer.
        _ = async { let _ = asking.await; std::future::pending::<()>().await } => {}
        () = answering => {}
    }
    match fault {
        Fault::Stall => std::future::pending().await,
        Fault::Reset => {
            if let Ok(stream) = to_client.reunite(from_client) {
                // Where that fails, it is a cut.
                let _ = stream.set_zero_linger();
            }
        }
        Fault::Cut | Fault::None => {}
    }
}
