//! How the launcher of a sandbox is followed until it has become the program: it is told its policy, and says what it has
//! to say. Births do not wait for this: what a launcher does takes longer than all the rest.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::error::SpawnError;
use crate::sandbox::{Failed, Step};
use crate::spec::SpawnSpec;

/// How long the launcher of a sandbox may take from its start to the program's: a few milliseconds. Only a file system
/// that hangs takes longer.
const LAUNCH_WAIT_MAX: Duration = Duration::from_secs(10);

const SPEAK: &str = "speak to the launcher of a sandbox";

/// Tells a launcher its policy and waits until it has become the program. Gives what leads out of the program's network,
/// where that is its own. After an error the launcher may still be there.
pub(crate) async fn follow(
    launcher: StdUnixStream,
    policy: &[u8],
    spec: &SpawnSpec,
) -> Result<Vec<TcpListener>, SpawnError> {
    launcher.set_nonblocking(true).map_err(SpawnError::os(SPEAK))?;
    let mut launcher = UnixStream::from_std(launcher).map_err(SpawnError::os(SPEAK))?;
    let mut listeners = Vec::new();
    let conversation = async {
        let told = tell(&mut launcher, policy).await;
        // A launcher that failed early may have closed its end already; what it said is there all the same.
        (told, hear(&launcher, &mut listeners).await)
    };
    let too_long = || io::Error::from(io::ErrorKind::TimedOut);
    let (told, heard) = timeout(LAUNCH_WAIT_MAX, conversation).await.map_err(|_| SpawnError::os(SPEAK)(too_long()))?;
    match (told, heard) {
        (_, Ok(Heard::Failure(failed))) => {
            let source = io::Error::from_raw_os_error(failed.errno);
            Err(match failed.step {
                Step::Exec => SpawnError::from_birth(spec, source),
                // Not the sandbox: what every child does.
                step @ (Step::Group | Step::Settle) => SpawnError::Os { action: step.action(), source },
                step => SpawnError::Sandbox { action: step.action(), source },
            })
        }
        // Closed by the exec, or by the end of a launcher that was killed, which is then the tree's end.
        (Ok(()), Ok(Heard::End)) => Ok(listeners),
        (Err(source), _) | (_, Err(source)) => Err(SpawnError::os(SPEAK)(source)),
        (Ok(()), Ok(Heard::Half)) => {
            Err(SpawnError::os("hear the launcher of a sandbox out")(io::ErrorKind::UnexpectedEof.into()))
        }
    }
}

async fn tell(launcher: &mut UnixStream, policy: &[u8]) -> io::Result<()> {
    launcher.write_all(policy).await?;
    launcher.shutdown().await
}

/// What a launcher had to say before it closed its socket.
enum Heard {
    /// Nothing more.
    End,
    Failure(Failed),
    /// A failure that was cut off.
    Half,
}

/// Hears a launcher out: its listeners, then either nothing or its failure.
async fn hear(from: &UnixStream, listeners: &mut Vec<TcpListener>) -> io::Result<Heard> {
    let mut said = Vec::with_capacity(Failed::BYTES);
    while said.len() < Failed::BYTES {
        let (bytes, mut along) = match from.async_io(Interest::READABLE, || receive(from)).await {
            Ok(received) => received,
            // Closed with something of ours unread: what it said before comes first, so there is nothing.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            break;
        }
        // The byte that a listener came with says nothing.
        if along.is_empty() {
            said.extend(bytes);
        }
        listeners.append(&mut along);
    }
    Ok(match <[u8; Failed::BYTES]>::try_from(said.as_slice()) {
        Ok(whole) => Heard::Failure(Failed::decode(whole)),
        Err(_) if said.is_empty() => Heard::End,
        Err(_) => Heard::Half,
    })
}

/// A piece of what was said, with the listeners that came along.
fn receive(from: &UnixStream) -> io::Result<(Vec<u8>, Vec<TcpListener>)> {
    let (mut bytes, mut space) = ([0; Failed::BYTES], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut along, RecvFlags::CMSG_CLOEXEC)?;
    let of_message = |message| match message {
        RecvAncillaryMessage::ScmRights(files) => files.map(TcpListener::from).collect(),
        _ => Vec::new(),
    };
    let listeners = along.drain().flat_map(of_message).collect();
    Ok((bytes.into_iter().take(received.bytes).collect(), listeners))
}
