//! Which process holds a TCP port, as far as `/proc` lets this user see.

use std::fs;
use std::path::Path;

/// The socket state "listening" in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// `process 4711 (nginx)` for the process that listens on a port of this machine, whatever the address.
pub fn of_port(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inode = tables.iter().find_map(|table| listening_inode(table, port))?;
    let socket = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        // `self` and the other names are no processes of their own.
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        if holds(&entry.path(), &socket) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", name.trim()));
        }
    }
    None
}

/// The inode of the socket that listens on the port. Lines look like
/// `0: 0100007F:2260 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 12345 …`.
fn listening_inode(table: &str, port: u16) -> Option<&str> {
    let port = format!("{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next()?, words.nth(1)?);
        let matches = state == LISTENING && local.rsplit(':').next() == Some(port.as_str());
        words.nth(5).filter(|_| matches)
    })
}

/// Whether a process has a descriptor of this socket. One that may not be looked at does not count.
fn holds(process: &Path, socket: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_listener_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = of_port(listener.local_addr().unwrap().port()).unwrap();
        assert!(found.starts_with(&format!("process {} (", std::process::id())), "{found}");
    }

    #[test]
    fn only_listening_sockets_count() {
        let table = "sl local rem st\n\
            0: 0100007F:2260 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 111 1\n\
            1: 0100007F:2260 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 222 1\n";
        assert_eq!(listening_inode(table, 0x2260), Some("222"));
        assert_eq!(listening_inode(table, 80), None);
    }
}
