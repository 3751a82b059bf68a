//! The id of a session, known to be fit for a path.

use crate::error::ClientError;
use crate::limits::SESSION_ID_CHARS_MAX;

/// A session's id of letters, digits, `-` and `_`: it becomes part of a path, so nothing else is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionKey(String);

impl SessionKey {
    /// Takes a text that can be an id.
    pub(crate) fn parse(text: &str) -> Result<Self, ClientError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if text.is_empty() || text.len() > SESSION_ID_CHARS_MAX || !text.bytes().all(fits) {
            return Err(ClientError::Invalid("a session's id has letters, digits, `-` and `_` only".to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_one_part_of_a_path_is_an_id() {
        for good in ["0190f0a4-7c1e-7000-8000-000000000000", "ses_01H", &"a".repeat(SESSION_ID_CHARS_MAX)] {
            assert!(SessionKey::parse(good).is_ok(), "{good} was refused");
        }
        for bad in ["", ".", "..", "a/b", "a?b", "a b", "%2e%2e", "é", &"a".repeat(SESSION_ID_CHARS_MAX + 1)] {
            assert!(SessionKey::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
