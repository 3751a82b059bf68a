//! Identifiers: UUIDv7 behind one new type per thing, shown with a prefix.
//!
//! The wire form is `<prefix>_<26 characters>`, lower-case Crockford base32 of the 128 bits, so ids
//! sort by time and survive a double click. Ids are made here from a time and random bytes that the
//! caller hands in; nothing in this crate draws randomness (I1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::time::Timestamp;

/// Crockford's base32 digits in lower case: no `i`, `l`, `o`, `u`.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters of an encoded 128-bit id (26 × 5 bits, the top two unused).
const ENCODED_LEN: usize = 26;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {expected}_… id")]
pub struct ParseIdError {
    /// Prefix the wanted kind of id begins with.
    pub expected: &'static str,
}

/// Encodes bytes as lower-case Crockford base32, most significant bit first, padded with zero bits.
#[must_use]
pub fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut buffer, mut bits) = (0u32, 0u32);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(digit(buffer >> bits));
        }
    }
    if bits > 0 {
        out.push(digit(buffer << (5 - bits)));
    }
    out
}

fn digit(value: u32) -> char {
    char::from(DIGITS[(value & 31) as usize])
}

fn encode(value: u128) -> String {
    (0..ENCODED_LEN).rev().map(|place| digit((value >> (place * 5)) as u32)).collect()
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != ENCODED_LEN {
        return None;
    }
    let mut value = 0u128;
    for (place, byte) in text.bytes().enumerate() {
        let digit = DIGITS.iter().position(|d| *d == byte)? as u128;
        if place == 0 && digit > 7 {
            return None;
        }
        value = (value << 5) | digit;
    }
    Some(value)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What the shown form begins with, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id from the present time and ten random bytes (UUIDv7).
            #[must_use]
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(now.millis_since_epoch(), &random).into_uuid())
            }

            /// The id as 128 bits, for storing.
            #[must_use]
            pub fn as_u128(self) -> u128 {
                self.0.as_u128()
            }

            /// The id behind a stored value.
            #[must_use]
            pub fn from_u128(value: u128) -> Self {
                Self(Uuid::from_u128(value))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), encode(self.as_u128()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(decode)
                    .map(Self::from_u128)
                    .ok_or(ParseIdError { expected: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A program registered by the operator.
    AppId = "app";
    /// One minted app token (not the secret itself).
    TokenId = "tok";
    /// An uploaded file. Its shown form doubles as the `ff_…` token of the first versions.
    FileId = "ff";
    /// A conversation with one agent.
    SessionId = "ses";
    /// A single prompt without memory: the same number as the session that holds its one turn.
    RunId = "run";
    /// One prompt of a session and everything until the agent stops.
    TurnId = "trn";
    /// An agent process that conversations share, or that waits for its first one.
    HostId = "hst";
    /// One HTTP request; sent back as `x-request-id`.
    RequestId = "req";
}

impl SessionId {
    /// The id as the first versions write it: a UUID.
    #[must_use]
    pub fn to_uuid(self) -> String {
        self.0.to_string()
    }

    /// The id behind either of its forms, `ses_…` or a UUID.
    ///
    /// # Errors
    /// [`ParseIdError`] for any other text.
    pub fn parse_either(text: &str) -> Result<Self, ParseIdError> {
        match Uuid::try_parse(text) {
            Ok(uuid) => Ok(Self(uuid)),
            Err(_) => text.parse(),
        }
    }
}

impl From<SessionId> for RunId {
    fn from(session: SessionId) -> Self {
        Self(session.0)
    }
}

impl From<RunId> for SessionId {
    fn from(run: RunId) -> Self {
        Self(run.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_shows_its_kind_and_sorts_by_time() {
        let early = FileId::new(Timestamp::from_micros(1_000_000), [0xff; 10]);
        let late = FileId::new(Timestamp::from_micros(2_000_000), [0; 10]);
        assert!(early.to_string().starts_with("ff_0"));
        assert!(early < late);
        assert!(early.to_string() < late.to_string());
    }

    #[test]
    fn an_id_of_another_kind_or_length_is_refused() {
        let id = FileId::new(Timestamp::from_micros(5), [7; 10]).to_string();
        assert!(id.parse::<SessionId>().is_err());
        assert!(id[..id.len() - 1].parse::<FileId>().is_err());
        assert!("ff_zzzzzzzzzzzzzzzzzzzzzzzzzz".parse::<FileId>().is_err());
        assert!("ff_../../../../etc/passwd0000".parse::<FileId>().is_err());
        assert!(id.to_uppercase().parse::<FileId>().is_err());
    }

    #[test]
    fn a_session_is_known_by_both_of_its_names() {
        let id = SessionId::new(Timestamp::from_micros(5), [7; 10]);
        assert_eq!(SessionId::parse_either(&id.to_uuid()), Ok(id));
        assert_eq!(SessionId::parse_either(&id.to_string()), Ok(id));
        assert_eq!(id.to_uuid().len(), 36);
        assert!(SessionId::parse_either("../../etc").is_err());
    }

    proptest! {
        #[test]
        fn every_id_survives_its_shown_form(value: u128) {
            let id = TurnId::from_u128(value);
            prop_assert_eq!(id.to_string().parse::<TurnId>(), Ok(id));
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".*") {
            let _outcome = text.parse::<RunId>();
        }
    }
}
