//! Apps, their tokens, and what a token looks like.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use ipnet::IpNet;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::id::{AppId, TokenId, base32};
use crate::network::NetworkRule;
use crate::secret::SecretString;
use crate::time::Timestamp;

/// The name an operator gives an app: `^[a-z0-9_-]{1,64}$`. It appears in paths, so nothing else
/// is let in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AppName(String);

/// Why a text is no app name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an app name has 1 to 64 characters out of a-z, 0-9, `_` and `-`")]
pub struct BadAppName;

/// A program registered by the operator; it owns everything made with its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Identity that outlives every token of the app.
    pub id: AppId,
    /// The operator's name for it.
    pub name: AppName,
}

/// A live token of an app, without the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppToken {
    /// The token's own id, for the ledger.
    pub id: TokenId,
    /// The app whose requests it proves.
    pub app: App,
    /// SHA-256 of the secret.
    pub hash: TokenHash,
    /// Where requests may come from; empty means anywhere the service itself allows.
    pub ip_cidrs: Vec<IpNet>,
    /// What the app's agents may reach, where that is less than the agent's own rule lets them.
    pub network: Option<NetworkRule>,
    /// Whether the app's sessions may be given tool servers.
    pub may_give_tool_servers: bool,
    /// When it was minted.
    pub created_at: Timestamp,
}

/// SHA-256 of a token. The token has 256 random bits, so a slow hash would add nothing.
#[derive(Clone, Copy, Eq)]
pub struct TokenHash([u8; 32]);

/// What every app token begins with, for ever: secret scanners look for it.
pub const APP_TOKEN_PREFIX: &str = "cf_";

/// What the admin token begins with that a first start makes unasked.
pub const ADMIN_TOKEN_PREFIX: &str = "cfadmin_";

/// What an admin token begins with that the operator had made; so the two can be told apart wherever one turns up.
pub const ROTATED_ADMIN_TOKEN_PREFIX: &str = "cfadmin_own_";

/// Random bytes in a token (256 bits).
pub const TOKEN_RANDOM_BYTES: usize = 32;

/// Characters of those in base 32.
const TOKEN_BODY_CHARS: usize = TOKEN_RANDOM_BYTES * 8 / 5 + 1;

/// Characters of a token's checksum.
const CHECKSUM_CHARS: usize = 6;

/// Makes the text of a token: prefix, 52 characters of randomness, `_`, and a six-character
/// checksum by which scanners tell a real token from a look-alike.
#[must_use]
pub fn token_text(prefix: &str, random: &[u8; TOKEN_RANDOM_BYTES]) -> SecretString {
    let body = base32(random);
    let checksum = base32(&Sha256::digest(body.as_bytes())[..4]);
    SecretString::from(format!("{prefix}{body}_{}", &checksum[..CHECKSUM_CHARS]))
}

/// Whether a text is a token made by [`token_text`] with this prefix: nobody guesses one.
#[must_use]
pub fn is_generated(prefix: &str, text: &str) -> bool {
    let Some((body, checksum)) = text.strip_prefix(prefix).and_then(|rest| rest.split_once('_')) else { return false };
    let digest = base32(&Sha256::digest(body.as_bytes())[..4]);
    body.len() == TOKEN_BODY_CHARS && checksum == &digest[..CHECKSUM_CHARS]
}

/// Whether a text is a token of ours of any kind.
#[must_use]
pub fn looks_like_token(text: &str) -> bool {
    [APP_TOKEN_PREFIX, ADMIN_TOKEN_PREFIX, ROTATED_ADMIN_TOKEN_PREFIX].iter().any(|prefix| is_generated(prefix, text))
}

impl TokenHash {
    /// The hash under which a token is stored.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// The hash behind stored bytes, if there are 32 of them.
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

/// Compares in constant time: how long it takes says nothing about where two hashes differ.
impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Equal hashes hash equally: both look at the same 32 bytes.
impl Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

impl AppName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppName {
    type Err = BadAppName;

    fn from_str(text: &str) -> Result<Self, BadAppName> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadAppName)
        }
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::ExposeSecret;

    #[test]
    fn an_app_name_cannot_climb_out_of_a_path() {
        for bad in ["", "..", "a/b", "A", "ä", "a b", "a\0", &"a".repeat(65)] {
            assert_eq!(bad.parse::<AppName>(), Err(BadAppName), "{bad:?}");
        }
        assert_eq!("cauldron-2_x".parse::<AppName>().map(|n| n.to_string()), Ok("cauldron-2_x".to_owned()));
    }

    #[test]
    fn a_token_carries_256_random_bits_and_a_checksum() {
        let token = token_text(APP_TOKEN_PREFIX, &[0xab; TOKEN_RANDOM_BYTES]);
        let text = token.expose_secret();
        assert_eq!(text.len(), 3 + 52 + 1 + 6);
        assert!(text.starts_with("cf_"));
        assert_ne!(text, token_text(APP_TOKEN_PREFIX, &[0xac; TOKEN_RANDOM_BYTES]).expose_secret());
    }

    #[test]
    fn a_token_is_told_from_a_look_alike_and_from_one_of_another_kind() {
        for prefix in [APP_TOKEN_PREFIX, ADMIN_TOKEN_PREFIX, ROTATED_ADMIN_TOKEN_PREFIX] {
            let token = token_text(prefix, &[0xab; TOKEN_RANDOM_BYTES]);
            assert!(looks_like_token(token.expose_secret()) && is_generated(prefix, token.expose_secret()));
            let longer = format!("{}x", token.expose_secret());
            let other = token_text(prefix, &[0xac; TOKEN_RANDOM_BYTES]);
            let mixed =
                format!("{}{}", &token.expose_secret()[..prefix.len() + 8], &other.expose_secret()[prefix.len() + 8..]);
            for wrong in [longer.as_str(), &longer[1..], prefix, "", &mixed] {
                assert!(!looks_like_token(wrong), "{wrong}");
            }
        }
        let rotated = token_text(ROTATED_ADMIN_TOKEN_PREFIX, &[0xab; TOKEN_RANDOM_BYTES]);
        assert!(!is_generated(ADMIN_TOKEN_PREFIX, rotated.expose_secret()), "it shares the beginning only");
    }

    #[test]
    fn a_hash_never_prints() {
        assert_eq!(format!("{:?}", TokenHash::of("cf_x")), "TokenHash(…)");
        assert_eq!(TokenHash::of("cf_x"), TokenHash::of("cf_x"));
        assert_ne!(TokenHash::of("cf_x"), TokenHash::of("cf_y"));
    }
}
