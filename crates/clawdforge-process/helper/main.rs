//! What the service's binary is to the sandbox, for tests of this crate: its launcher and its attacker; and a program that
//! talks to a server of its own.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;

use clawdforge_process::sandbox::{attack_main, launcher_main};

/// Exit code of a wrong word.
const USAGE: u8 = 2;

/// Exit codes of a talk that failed: over IPv4, over IPv6.
const NO_TALK: [u8; 2] = [4, 6];

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().and_then(|word| word.into_string().ok()).as_deref() {
        Some("launch") => launcher_main(args),
        Some("attack") => attack_main(args),
        // A launcher that never gets anywhere.
        Some("hang") => loop {
            std::thread::park();
        },
        Some("converse") => {
            let all = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].map(converse);
            all.iter().position(Result::is_err).map_or(ExitCode::SUCCESS, |failed| ExitCode::from(NO_TALK[failed]))
        }
        _ => ExitCode::from(USAGE),
    }
}

/// A word to a server of one's own and back, over TCP and UDP.
fn converse(address: IpAddr) -> io::Result<()> {
    let server = TcpListener::bind((address, 0))?;
    let mut client = TcpStream::connect(server.local_addr()?)?;
    let (mut served, _) = server.accept()?;
    client.write_all(b"word")?;
    let mut heard = [0; 4];
    served.read_exact(&mut heard)?;
    let (one, other) = (UdpSocket::bind((address, 0))?, UdpSocket::bind((address, 0))?);
    one.send_to(&heard, other.local_addr()?)?;
    other.recv_from(&mut heard)?;
    if &heard == b"word" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
