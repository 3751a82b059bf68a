//! Requests that may be sent again: the same key and the same request make one thing.
//!
//! The key is its app's own word for a request; the service remembers for a while what came of it. The `Idempotency-Key`
//! header of the IETF's draft (draft-ietf-httpapi-idempotency-key-header) is how it arrives.

use core::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::id::AppId;
use crate::time::Timestamp;

/// How long a key is remembered: longer than anybody retries, and a night.
pub const KEY_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes of a key: far more than the UUID that it usually is.
pub const KEY_BYTES_MAX: usize = 255;

/// What a request says beside its key, as a hash: the same key for another request is a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a request in its parts. No parts of another division have the same one.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// Of an upload: its bytes and the name it was sent with. How long it is wished to live is not part of what it is.
    #[must_use]
    pub fn of_upload(name: &str, content: ContentHash) -> Self {
        let content: [u8; 32] = content.0.finalize().into();
        Self::of(&[b"upload", name.as_bytes(), &content])
    }

    /// The fingerprint behind stored bytes, if there are 32 of them.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes, for storing.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A hash of content that comes piece by piece and is not held.
#[derive(Debug, Clone, Default)]
pub struct ContentHash(Sha256);

impl ContentHash {
    /// Takes in the next piece.
    pub fn take_in(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }
}

/// A request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The app's word.
    pub key: String,
    /// What it asks.
    pub fingerprint: Fingerprint,
}

impl IdempotencyKey {
    /// Whether this may be a key: visible ASCII, not empty and not longer than [`KEY_BYTES_MAX`].
    #[must_use]
    pub fn is_key(text: &str) -> bool {
        (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

/// A key with what came of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptKey {
    /// Whose it is.
    pub app: AppId,
    /// The key.
    pub key: IdempotencyKey,
    /// What was made, in its shown form: a run, a session or a turn.
    pub subject: String,
    /// When it was made.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_requests_apart_however_they_are_divided() {
        let of = |parts: &[&str]| Fingerprint::of(&parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>());
        assert_eq!(of(&["/v1/runs", "{}"]), of(&["/v1/runs", "{}"]));
        for other in [&["/v1/runs{}"][..], &["/v1/runs{", "}"], &["/v1/runs", "{ }"], &["/v1/runs", "{}", ""]] {
            assert_ne!(of(&["/v1/runs", "{}"]), of(other), "{other:?}");
        }
        let one = of(&["x"]);
        assert_eq!(Fingerprint::from_bytes(one.as_bytes()), Some(one));
        assert_eq!(Fingerprint::from_bytes(&[0; 31]), None);
    }

    #[test]
    fn an_upload_is_its_name_and_its_bytes_however_they_come() {
        let of = |name: &str, pieces: &[&str]| {
            let mut content = ContentHash::default();
            pieces.iter().for_each(|piece| content.take_in(piece.as_bytes()));
            Fingerprint::of_upload(name, content)
        };
        assert_eq!(of("a.txt", &["one", "two"]), of("a.txt", &["onetwo"]));
        for (name, bytes) in [("b.txt", "onetwo"), ("a.txt", "onetw"), ("a.txtone", "two"), ("", "")] {
            assert_ne!(of("a.txt", &["onetwo"]), of(name, &[bytes]), "{name} {bytes}");
        }
    }

    #[test]
    fn a_key_is_one_visible_word() {
        for good in ["a", "0190a-b_c.d:/", &"k".repeat(KEY_BYTES_MAX)] {
            assert!(IdempotencyKey::is_key(good), "{good}");
        }
        for bad in ["", "a b", "ä", "a\n", &"k".repeat(KEY_BYTES_MAX + 1)] {
            assert!(!IdempotencyKey::is_key(bad), "{bad}");
        }
    }
}
