//! `/v1`: runs, sessions, turns, files and tokens as resources, events as streams, work in the background.
//!
//! A request with an idempotency key makes one thing, however often it is sent; without one it must not be sent again
//! unseen. Keys have 1 to 255 visible ASCII characters.

mod calls;
mod files;
mod runs;
mod sessions;
mod tokens;

use clawdforge_api::v1::{Agent, Page, UsageSum};
use reqwest::Url;

use crate::client::Client;
use crate::error::ClientError;

pub use tokens::MintedV1Token;

/// Which page of a list; the default is its first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageQuery {
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows a page has at most, 1 to 1,000; none leaves it to the service.
    pub limit: Option<usize>,
}

impl PageQuery {
    fn write_into(&self, url: &mut Url) {
        if let Some(cursor) = &self.cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        if let Some(limit) = self.limit {
            url.query_pairs_mut().append_pair("limit", &limit.to_string());
        }
    }
}

impl Client {
    /// The agents that sessions can be opened with. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError`], as its variants say.
    pub async fn list_agents(&self) -> Result<Page<Agent>, ClientError> {
        Ok(self.perform(self.agents_call()?).await?.value)
    }

    /// What the app's runs and turns used and cost, of those that ended from `from` on and before `to`, times in RFC 3339.
    /// Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `invalid_request` when a time is none.
    pub async fn usage(&self, from: Option<&str>, to: Option<&str>) -> Result<UsageSum, ClientError> {
        Ok(self.perform(self.usage_call(from, to)?).await?.value)
    }
}
