//! How a path leads to a place: over which links, and whose those are.
//!
//! What a sandbox opens is named by paths, and an agent may write in some of the folders that they lead through. A link
//! there says what the agent wants, not what the service meant; so a path is gone along once, every link on it is looked
//! at, and the place that comes out is never asked for by that path again.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Links on one way: more than the kernel follows.
pub(super) const LINKS_MAX: usize = 40;

/// A path that was gone along.
#[derive(Debug)]
pub(super) struct Way {
    /// The links it leads over: where each is, with no link on the way there, and what it says.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Where it leads, with no link in it; nothing where nothing is there.
    pub place: Option<PathBuf>,
}

impl Way {
    /// Goes along an absolute path.
    pub(super) fn along(path: &Path) -> Self {
        let parts = |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>();
        let mut links = Vec::new();
        let mut here = PathBuf::from("/");
        let mut is_there = true;
        // The next part is the last.
        let mut ahead: Vec<OsString> = parts(path).into_iter().rev().collect();
        while let Some(part) = ahead.pop() {
            if part == ".." {
                here.pop();
                continue;
            }
            // The root, with which an absolute path begins, takes the place of everything before it.
            let next = here.join(part);
            match fs::read_link(&next) {
                Ok(target) if links.len() < LINKS_MAX => {
                    ahead.extend(parts(&target).into_iter().rev());
                    links.push((next, target));
                }
                Ok(_) => return Self { links, place: None },
                Err(error) => {
                    // This is what the kernel says of everything that is there and no link.
                    is_there &= error.raw_os_error() == Some(libc::EINVAL);
                    here = next;
                }
            }
        }
        Self { links, place: is_there.then_some(here) }
    }

    /// Whether one of its links lies in one of these places, at any depth.
    pub(super) fn turns_in(&self, places: &[PathBuf]) -> bool {
        self.links.iter().any(|(link, _)| places.iter().any(|place| link.starts_with(place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_links_on_a_way_are_found_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let at = |place: &str| top.join(place);
        fs::create_dir_all(at("real/deep")).unwrap();
        std::os::unix::fs::symlink("real", at("one")).unwrap();
        std::os::unix::fs::symlink(at("one/deep/../deep"), at("two")).unwrap();
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        let ours = |way: &str| -> Vec<PathBuf> {
            let links = Way::along(&at(way)).links.into_iter().map(|(link, _)| link);
            links.filter(|link| link.starts_with(&top)).collect()
        };
        assert_eq!(ours("real/deep"), Vec::<PathBuf>::new());
        assert_eq!(ours("two/x"), [at("two"), at("one")]);
        assert_eq!(ours("loop").len(), LINKS_MAX);
    }

    #[test]
    fn a_way_ends_where_the_kernel_would_end_it() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("real/deep")).unwrap();
        fs::write(top.join("real/file"), "").unwrap();
        std::os::unix::fs::symlink("real", top.join("one")).unwrap();
        std::os::unix::fs::symlink("loop", top.join("loop")).unwrap();
        for way in ["", "one", "one/deep", "one/deep/../file", "loop", "missing", "one/missing", "real/file/x"] {
            let way = top.join(way);
            assert_eq!(Way::along(&way).place, way.canonicalize().ok(), "{}", way.display());
        }
        assert_eq!(Way::along(Path::new("/")).place, Some(PathBuf::from("/")));
    }

    #[test]
    fn a_link_is_told_by_where_it_lies_and_not_by_where_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("agents")).unwrap();
        fs::create_dir_all(top.join("other")).unwrap();
        std::os::unix::fs::symlink(top.join("other"), top.join("agents/out")).unwrap();
        std::os::unix::fs::symlink(top.join("agents"), top.join("in")).unwrap();
        let theirs = [top.join("agents")];
        assert!(Way::along(&top.join("agents/out")).turns_in(&theirs));
        assert!(Way::along(&top.join("in/out")).turns_in(&theirs), "over another link");
        assert!(!Way::along(&top.join("in")).turns_in(&theirs));
        assert!(!Way::along(&top.join("agents")).turns_in(&theirs));
    }
}
