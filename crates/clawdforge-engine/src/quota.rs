//! How much a workspace holds, and whether that is too much.
//!
//! Nothing of the kernel's counts it for us, so it is looked at: before a turn begins, and every few seconds while
//! one is played. Between two looks an agent can write as fast as the disk takes it.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clawdforge_core::agent::{Failure, FailureKind};

/// Pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);

/// A look may take one part in so many of the time, so that large trees are looked at less often.
const LOOK_SHARE: u32 = 20;

/// Files and folders of one workspace that are counted; a large JavaScript project has some hundred thousand. More are
/// too many, because what lies behind them would not be counted.
const ENTRIES_MAX: usize = 1_000_000;

/// Bytes in which a disk counts what a file takes, whatever its own blocks are.
const BLOCK_BYTES: u64 = 512;

/// The directories of a workspace and what they may hold.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    pub dir: PathBuf,
    pub bytes_max: u64,
}

/// Why a workspace is too full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Excess {
    /// So many bytes, as far as they were counted.
    Bytes(u64),
    Entries,
    /// Folders lie deeper than a path can say.
    Depth,
}

impl Quota {
    /// Looks once, off the threads that must not wait.
    ///
    /// # Errors
    /// The failure of a turn in a workspace that is too full.
    pub async fn look(&self) -> Result<(), Failure> {
        let Self { dir, bytes_max } = self.clone();
        let looked = tokio::task::spawn_blocking(move || measure(&dir, bytes_max, ENTRIES_MAX)).await;
        match looked {
            Ok(None) => Ok(()),
            Ok(Some(excess)) => Err(self.failure(excess)),
            Err(error) => {
                tracing::error!(path = %self.dir.display(), %error, "a workspace could not be measured");
                Ok(())
            }
        }
    }

    /// Resolves when the workspace is too full.
    pub async fn exceeded(self) -> Failure {
        let mut pause = LOOK_INTERVAL;
        loop {
            tokio::time::sleep(pause).await;
            let began = Instant::now();
            if let Err(failure) = self.look().await {
                return failure;
            }
            pause = LOOK_INTERVAL.max(began.elapsed() * LOOK_SHARE);
        }
    }

    fn failure(&self, excess: Excess) -> Failure {
        let holds = match excess {
            Excess::Bytes(bytes) => format!("holds at least {}", shown(bytes)),
            Excess::Entries => format!("holds more than {ENTRIES_MAX} files"),
            Excess::Depth => "has folders too deep to be measured".to_owned(),
        };
        let message = format!(
            "the workspace {holds}, and {} are allowed; close the session and open a new one, or have the operator delete \
             files in it or raise workspace_bytes_max",
            shown(self.bytes_max)
        );
        Failure::new(FailureKind::WorkspaceFull, message)
    }
}

/// Walks a tree until it is known to hold too much. Links are not followed, and what has several names counts once. What
/// cannot be read, or is gone before it is, is passed over. Blocking.
fn measure(dir: &Path, bytes_max: u64, entries_max: usize) -> Option<Excess> {
    let (mut bytes, mut entries) = (0_u64, 0_usize);
    let (mut dirs, mut several_names) = (vec![dir.to_owned()], HashSet::new());
    while let Some(dir) = dirs.pop() {
        let listed = match std::fs::read_dir(&dir) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::InvalidFilename => return Some(Excess::Depth),
            Err(_unreadable) => continue,
        };
        for entry in listed.flatten() {
            // Of the entry itself, not of what a link leads to.
            let Ok(found) = entry.metadata() else { continue };
            entries += 1;
            if entries > entries_max {
                return Some(Excess::Entries);
            }
            if found.is_dir() {
                dirs.push(entry.path());
            } else if found.nlink() > 1 && !several_names.insert((found.dev(), found.ino())) {
                continue;
            }
            bytes = bytes.saturating_add(found.blocks().saturating_mul(BLOCK_BYTES));
            if bytes > bytes_max {
                return Some(Excess::Bytes(bytes));
            }
        }
    }
    None
}

/// A number of bytes for people.
fn shown(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, bits)| bytes >> bits > 0);
    unit.map_or_else(|| format!("{bytes} bytes"), |(name, bits)| format!("{} {name}", bytes >> bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_counted_by_what_it_takes_on_the_disk_each_file_once_and_no_link_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, inside) = (dir.path().join("outside"), dir.path().join("inside/deep"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir(&outside).unwrap();
        for place in [outside.join("large"), inside.join("one")] {
            std::fs::write(place, vec![1; 100_000]).unwrap();
        }
        std::fs::hard_link(inside.join("one"), inside.join("two")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        std::fs::File::create(inside.join("holes")).unwrap().set_len(1 << 40).unwrap();
        let root = dir.path().join("inside");
        assert_eq!(measure(&root, 150_000, ENTRIES_MAX), None);
        assert!(matches!(measure(&root, 90_000, ENTRIES_MAX), Some(Excess::Bytes(90_001..))));
        assert_eq!(measure(&root, 150_000, 3), Some(Excess::Entries));
        assert_eq!(measure(&dir.path().join("nowhere"), 0, ENTRIES_MAX), None);
    }
}
