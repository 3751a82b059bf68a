//! A process that does not want to be ended: in a session of its own, without a parent, deaf to polite
//! signals, holding the agent's standard output open.

use std::io;
use std::process::{Command, Stdio};

/// `setsid` opens the session, the outer shell's end takes the parent away; signals that a process
/// ignores stay ignored across `exec`. It writes its number to the error stream and lets go of that.
const SCRIPT: &str = r#"trap "" TERM INT HUP; setsid sh -c 'echo $$ >&2; exec sleep 86400 2>/dev/null' &"#;

/// Starts one and returns its process number.
pub(super) fn start() -> io::Result<u32> {
    let output = Command::new("/bin/sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::null())
        .stdout(Stdio::inherit())
        .stderr(Stdio::piped())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    said.trim().parse().map_err(|_| io::Error::other(format!("the grandchild did not start: {}", said.trim())))
}
