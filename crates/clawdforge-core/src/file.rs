//! Uploads.

use std::time::Duration;

use crate::id::{AppId, FileId};
use crate::limits::{FILE_TTL_SECS_DEFAULT, FILE_TTL_SECS_MAX, FILE_TTL_SECS_MIN};
use crate::time::Timestamp;

/// An upload, owned by an app, that can be attached to a prompt until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The file's token; its bytes lie under this name, never under the sender's.
    pub id: FileId,
    /// The app that uploaded it; for every other app it does not exist.
    pub app: AppId,
    /// The sender's name for it, cleaned for showing.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// When the upload was complete.
    pub created_at: Timestamp,
    /// From when on it no longer exists for its owner.
    pub expires_at: Timestamp,
}

/// The life an upload gets: the wish, clamped to what is allowed, or the default.
#[must_use]
pub fn clamp_ttl(wish_secs: Option<i64>) -> Duration {
    let secs = match wish_secs {
        None => FILE_TTL_SECS_DEFAULT,
        Some(wish) => u64::try_from(wish).unwrap_or(0).clamp(FILE_TTL_SECS_MIN, FILE_TTL_SECS_MAX),
    };
    Duration::from_secs(secs)
}

/// The part of a sender's file name that may name an attachment's kind: `.png`, or nothing.
/// Letters and digits only, at most 16 of them, lower case.
#[must_use]
pub fn safe_extension(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, extension))
            if !stem.is_empty()
                && (1..=16).contains(&extension.len())
                && extension.bytes().all(|b| b.is_ascii_alphanumeric()) =>
        {
            format!(".{}", extension.to_ascii_lowercase())
        }
        _ => String::new(),
    }
}

/// A sender's file name fit for showing: its last path component, without control characters,
/// cut to `chars_max` characters in front of its extension; `file` when nothing is left.
#[must_use]
pub fn shown_name(name: &str, chars_max: usize) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut clean: String = last.chars().filter(|c| !c.is_control()).collect();
    if clean.chars().count() > chars_max {
        let extension = safe_extension(&clean);
        clean = clean.chars().take(chars_max.saturating_sub(extension.len())).collect::<String>() + &extension;
    }
    if clean.trim().is_empty() || clean == "." || clean == ".." { "file".to_owned() } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wished_life_is_clamped_not_refused() {
        assert_eq!(clamp_ttl(None).as_secs(), 3_600);
        assert_eq!(clamp_ttl(Some(1)).as_secs(), 60);
        assert_eq!(clamp_ttl(Some(-5)).as_secs(), 60);
        assert_eq!(clamp_ttl(Some(1_000_000)).as_secs(), 86_400);
        assert_eq!(clamp_ttl(Some(120)).as_secs(), 120);
    }

    #[test]
    fn an_extension_never_carries_path_or_shell_characters() {
        assert_eq!(safe_extension("Photo.PNG"), ".png");
        for bad in ["a.p/ng", "a.tar.g z", "noext", ".bashrc", "a.", "a.\u{e9}", "a.thisextensionistoolong"] {
            assert_eq!(safe_extension(bad), "", "{bad:?}");
        }
    }

    #[test]
    fn a_shown_name_is_one_clean_component() {
        assert_eq!(shown_name("../../etc/passwd", 255), "passwd");
        assert_eq!(shown_name("C:\\x\\r\u{e9}sum\u{e9} \"final\".pdf", 255), "r\u{e9}sum\u{e9} \"final\".pdf");
        assert_eq!(shown_name("a\r\nb\0.txt", 255), "ab.txt");
        for empty in ["", "/", "..", ".", " ", "\n"] {
            assert_eq!(shown_name(empty, 255), "file", "{empty:?}");
        }
        assert_eq!(shown_name(&"x".repeat(300), 255).len(), 255);
        assert_eq!(shown_name(&format!("{}.CSV", "x".repeat(300)), 255), format!("{}.csv", "x".repeat(251)));
    }
}
