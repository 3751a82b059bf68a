//! A freshly minted token, the only time its secret is shown.

use clawdforge_api::legacy::MintReply;
use secrecy::SecretString;

/// What minting a token gives.
#[derive(Debug, Clone)]
pub struct MintedToken {
    /// The app's name.
    pub name: String,
    /// The secret. The service keeps only a hash of it: store it now.
    pub token: SecretString,
    /// Where its requests may come from; empty for anywhere the service itself allows.
    pub ip_cidrs: Vec<String>,
}

impl From<MintReply> for MintedToken {
    fn from(reply: MintReply) -> Self {
        Self { name: reply.name, token: SecretString::from(reply.token), ip_cidrs: reply.ip_cidrs }
    }
}
