//! Kinds for isolation: lists of places, and ranges of users.

use std::fmt;
use std::path::{Path, PathBuf};

use clawdforge_process::Identity;
use serde_json::{Value as Json, json};

use super::{Kind, absolute};
use crate::config::raw::Raw;

/// Places one option may list; each becomes a rule of the kernel for every process that is started.
const PLACES_MAX: usize = 64;

/// A list of paths, made absolute.
pub struct Paths;

impl Kind for Paths {
    type Value = Vec<PathBuf>;

    fn expected(&self) -> String {
        format!("a list of at most {PLACES_MAX} paths, such as `/srv/toolchains`")
    }

    fn read(&self, raw: &Raw, base: &Path) -> Result<Vec<PathBuf>, String> {
        let texts = raw.list().ok_or_else(|| self.refuse(raw))?;
        if texts.len() > PLACES_MAX || texts.iter().any(|text| text.is_empty() || text.contains('\0')) {
            return Err(self.refuse(raw));
        }
        Ok(texts.into_iter().map(|text| absolute(text, base)).collect())
    }

    fn json(&self, value: &Vec<PathBuf>) -> Json {
        value.iter().map(|path| json!(path.display().to_string())).collect()
    }

    fn placeholder(&self) -> &'static str {
        "PATHS"
    }

    fn toml(&self, _text: &str) -> Option<String> {
        Some("[]".to_owned())
    }
}

/// Numbers of users, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRange {
    /// The first.
    pub first: Identity,
    /// The last; not below the first.
    pub last: Identity,
}

impl fmt::Display for UserRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first.number(), self.last.number())
    }
}

/// A range of users.
pub struct Users;

impl Kind for Users {
    type Value = UserRange;

    fn expected(&self) -> String {
        format!("a range of user numbers from {} on, such as `20000-29999`", Identity::NUMBER_MIN)
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<UserRange, String> {
        let number = |text: &str| text.trim().parse().ok().and_then(Identity::new);
        let range = raw.text().and_then(|text| text.split_once('-')).and_then(|(first, last)| {
            let range = UserRange { first: number(first)?, last: number(last)? };
            (range.first.number() <= range.last.number()).then_some(range)
        });
        range.ok_or_else(|| self.refuse(raw))
    }

    fn json(&self, value: &UserRange) -> Json {
        json!(value.to_string())
    }

    fn placeholder(&self) -> &'static str {
        "FIRST-LAST"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Raw {
        Raw::Plain(text.to_owned())
    }

    #[test]
    fn paths_are_made_absolute_and_bounded_in_number() {
        let read = |raw: &Raw| Paths.read(raw, Path::new("/etc/cf"));
        assert_eq!(read(&plain("/srv/a,b")).unwrap(), [PathBuf::from("/srv/a"), PathBuf::from("/etc/cf/b")]);
        assert!(read(&plain("")).unwrap().is_empty());
        assert!(read(&Raw::List(vec!["/a".to_owned(); PLACES_MAX + 1])).is_err());
        assert!(read(&Raw::Boolean(true)).is_err());
    }

    #[test]
    fn a_range_of_users_keeps_off_the_systems_own() {
        let read = |text: &str| Users.read(&plain(text), Path::new("/"));
        assert_eq!(read("20000-29999").unwrap().to_string(), "20000-29999");
        assert_eq!(read("20000-20000").unwrap().to_string(), "20000-20000");
        for wrong in ["", "20000", "0-10", "999-2000", "3000-2000", "20000-4294967295", "a-b"] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("such as `20000-29999`"), "{error}");
        }
    }
}
