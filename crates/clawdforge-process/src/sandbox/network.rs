//! A network of a process tree's own: a loopback with nobody on it, and listeners for what leads out.
//!
//! A socket belongs to the network it was made in, whoever holds it. So the listeners are made in here and handed
//! to the service, which answers them from outside; no process has to stay inside and pass bytes on.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;

use rustix::io::IoSlice;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socket_with,
};

/// What a listener travels with, as nothing travels without a byte.
const ALONG: u8 = 0xff;

/// The interface that every network has.
const LOOPBACK: &[u8] = b"lo";

/// Makes the network that this process has just got usable, and hands a listener for each of these ports, on each
/// of the addresses of loopback, to whoever is at the other end of the socket.
pub(super) fn settle(ports: &[u16], socket: Option<&UnixStream>) -> io::Result<()> {
    raise_loopback()?;
    let Some(socket) = socket else { return Ok(()) };
    for port in ports {
        send(socket, &TcpListener::bind((Ipv4Addr::LOCALHOST, *port))?)?;
        match TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), *port)) {
            Ok(listener) => send(socket, &listener)?,
            // Without IPv6 nothing asks for it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Loopback is there and down in a new network.
fn raise_loopback() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    #[expect(unsafe_code, reason = "no safe wrapper offers to raise an interface")]
    // SAFETY: `ifreq` is plain data for which zeroes are valid; the call reads its name and flags, and nothing keeps it.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (place, byte) in request.ifr_name.iter_mut().zip(LOOPBACK) {
            *place = byte.cast_signed();
        }
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn send(socket: &UnixStream, listener: &TcpListener) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    let listeners = [listener.as_fd()];
    if !along.push(SendAncillaryMessage::ScmRights(&listeners)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    // One byte is sent whole or not at all.
    sendmsg(socket, &[IoSlice::new(&[ALONG])], &mut along, SendFlags::NOSIGNAL)?;
    Ok(())
}
