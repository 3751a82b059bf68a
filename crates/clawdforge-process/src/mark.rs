//! The mark by which the members of a tree are known, whatever became of their parents.

use std::fmt;
use std::str::FromStr;

/// The environment variable that carries a tree's mark to everything born in it.
pub const TREE_MARK_VARIABLE: &str = "CLAWDFORGE_TREE";

/// Characters of a mark: room for a prefixed id and an attempt, short enough to store and to log.
const MARK_CHARS_MAX: usize = 96;

/// A short text, unique to one tree, that its processes inherit as [`TREE_MARK_VARIABLE`].
///
/// Whoever makes a mark answers for its being unique on the machine: two live trees with the same mark
/// are one tree to us, and ending the first ends the second.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TreeMark(String);

/// Why a text is no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tree mark has 1 to {MARK_CHARS_MAX} characters out of a-z, A-Z, 0-9, `_`, `-`, `.` and `:`")]
pub struct BadTreeMark;

impl TreeMark {
    /// Takes a text of 1 to 96 characters out of `a-z`, `A-Z`, `0-9`, `_`, `-`, `.` and `:`.
    pub fn new(text: impl Into<String>) -> Result<Self, BadTreeMark> {
        let text = text.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
        if (1..=MARK_CHARS_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(BadTreeMark)
        }
    }

    /// The mark as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TreeMark {
    type Err = BadTreeMark;

    fn from_str(text: &str) -> Result<Self, BadTreeMark> {
        Self::new(text)
    }
}

impl fmt::Display for TreeMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_keeps_its_text() {
        let mark = TreeMark::new("run_01hzz.2:a-b").unwrap();
        assert_eq!(mark.to_string(), "run_01hzz.2:a-b");
        assert_eq!(mark.as_str().parse::<TreeMark>(), Ok(mark));
    }

    #[test]
    fn what_could_end_an_environment_entry_early_is_refused() {
        for text in ["", "a b", "a=b", "a\0b", "a\nb", "é", &"x".repeat(97)] {
            assert_eq!(TreeMark::new(text), Err(BadTreeMark), "{text:?}");
        }
        assert!(TreeMark::new("x".repeat(96)).is_ok());
    }
}
