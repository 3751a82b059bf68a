//! Showing a person that an installation goes on: time and bytes so far.
//!
//! On a terminal one line is drawn anew every second; elsewhere a line comes every fifteen, so that a
//! log shows life without filling up.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use clawdforge_client::commands::Io;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

const REDRAW_EVERY: Duration = Duration::from_secs(1);
const LINE_EVERY: Duration = Duration::from_secs(15);

/// To the start of the line, and erase to its end.
const CLEAR: &str = "\r\x1b[K";

/// Waits for `work`, which fills the folder, and shows how far it is.
pub async fn watch<T>(io: &mut Io, what: &str, folder: &Path, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let on_terminal = io.stderr_is_terminal;
    let began = Instant::now();
    let every = if on_terminal { REDRAW_EVERY } else { LINE_EVERY };
    let mut tick = interval_at(began + every, every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let done = loop {
        // Both are cancel-safe: the work is only borrowed, a tick that is not taken comes again.
        tokio::select! {
            biased;
            done = &mut work => break done,
            _ = tick.tick() => {}
        }
        let folder = folder.to_owned();
        // A count that fails is shown as nothing; only a panic could make it fail.
        let bytes = tokio::task::spawn_blocking(move || bytes_in(folder)).await.unwrap_or_default();
        let text = format!("{what}: {} so far, {}", size(bytes), elapsed(began.elapsed()));
        if on_terminal {
            write(io, &format!("{CLEAR}{text}"));
        } else {
            write(io, &format!("{text}\n"));
        }
    };
    if on_terminal {
        write(io, CLEAR);
    }
    done
}

/// Writes to standard error; there is nowhere to tell that it is gone.
pub fn write(io: &mut Io, text: &str) {
    let _ = io.stderr.write_all(text.as_bytes()).and_then(|()| io.stderr.flush());
}

/// Bytes of all files below a folder that is being written to. Whatever vanishes meanwhile counts
/// nothing. Blocking.
pub fn bytes_in(folder: PathBuf) -> u64 {
    let (mut bytes, mut folders) = (0, vec![folder]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) => bytes += found.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

/// A size for a person: `364 MB`.
pub fn size(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

/// A time for a person: `7 s`, `3 min 07 s`.
pub fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {:02} s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(size(0), "0 MB");
        assert_eq!(size(363_200_001), "364 MB");
        assert_eq!(elapsed(Duration::from_millis(7_900)), "7 s");
        assert_eq!(elapsed(Duration::from_secs(187)), "3 min 07 s");
    }

    #[test]
    fn bytes_are_counted_through_all_folders() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/c"), [0; 700]).unwrap();
        std::fs::write(folder.path().join("d"), [0; 42]).unwrap();
        assert_eq!(bytes_in(folder.path().to_owned()), 742);
        assert_eq!(bytes_in(folder.path().join("gone")), 0);
    }
}
