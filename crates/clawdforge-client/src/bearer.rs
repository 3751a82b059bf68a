//! A token that is known to fit into a header, and prints nowhere.

use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};

/// A token of visible ASCII characters; nothing else can stand in an `Authorization` header.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(SecretString);

impl Bearer {
    /// Takes a token, if it can be one.
    pub(crate) fn new(token: SecretString) -> Option<Self> {
        let text = token.expose_secret();
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then_some(Self(token))
    }

    /// Puts the token into a request, as a header marked sensitive.
    pub(crate) fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(self.0.expose_secret())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_visible_ascii_is_a_token() {
        assert!(Bearer::new(SecretString::from("cf_abc.DEF-123~")).is_some());
        for bad in ["", "two words", "line\nbreak", "tab\t", "naïve"] {
            assert!(Bearer::new(SecretString::from(bad)).is_none(), "{bad:?} was taken");
        }
    }
}
