//! Building a [`Client`]: the address is checked, tokens become unprintable, TLS gets its provider.

use std::time::Duration;

use reqwest::Url;
use reqwest::redirect::Policy;
use secrecy::SecretString;

use crate::bearer::Bearer;
use crate::client::Client;
use crate::error::TokenKind;
use crate::limits;

/// What a [`Client`] is made from; see [`Client::builder`].
#[derive(Debug)]
#[must_use = "nothing exists until `build` is called"]
pub struct ClientBuilder {
    base_url: String,
    app_token: Option<SecretString>,
    admin_token: Option<SecretString>,
    call_wait: Duration,
    run_grace: Duration,
    turn_grace: Duration,
    stream_silence: Duration,
    stream_pause: Duration,
    reply_bytes_max: usize,
}

/// Why no client could be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The base URL is not usable. The text names the reason and never the URL, which may hold a
    /// password.
    #[error("the service's URL {0}")]
    Url(String),
    /// A token cannot stand in a header.
    #[error("the {0} token holds characters no token has (a space, a line break, a quote mark?)")]
    Token(TokenKind),
    /// The HTTP client could not be set up; with `https` this can be a missing certificate store.
    #[error("the HTTP client could not be set up: {0}")]
    Http(#[source] reqwest::Error),
}

impl ClientBuilder {
    pub(crate) fn new(base_url: String) -> Self {
        Self {
            base_url,
            app_token: None,
            admin_token: None,
            call_wait: limits::CALL_WAIT_MAX,
            run_grace: limits::RUN_GRACE,
            turn_grace: limits::TURN_GRACE,
            stream_silence: limits::EVENT_SILENCE_MAX,
            stream_pause: limits::EVENT_PAUSE,
            reply_bytes_max: limits::REPLY_BYTES_MAX,
        }
    }

    /// The app token, for runs, sessions and uploads.
    pub fn token(mut self, token: impl Into<SecretString>) -> Self {
        self.app_token = Some(token.into());
        self
    }

    /// The admin token, for tokens and the ledger.
    pub fn admin_token(mut self, token: impl Into<SecretString>) -> Self {
        self.admin_token = Some(token.into());
        self
    }

    /// How long a call other than a run, a turn or an upload may take in all
    /// (default [`limits::CALL_WAIT_MAX`]).
    pub fn call_wait(mut self, wait: Duration) -> Self {
        self.call_wait = wait;
        self
    }

    /// How long to wait for a run beyond its own time limit (default [`limits::RUN_GRACE`]).
    pub fn run_grace(mut self, grace: Duration) -> Self {
        self.run_grace = grace;
        self
    }

    /// How long to wait for a turn beyond its own time limit and those of the turns ahead of it
    /// (default [`limits::TURN_GRACE`]).
    pub fn turn_grace(mut self, grace: Duration) -> Self {
        self.turn_grace = grace;
        self
    }

    /// How long a stream of events may be silent before it goes on over a new connection (default
    /// [`limits::EVENT_SILENCE_MAX`]).
    pub fn stream_silence(mut self, silence: Duration) -> Self {
        self.stream_silence = silence;
        self
    }

    /// The pause before the second try without progress to go on with a stream; further ones are longer (default
    /// [`limits::EVENT_PAUSE`]).
    pub fn stream_pause(mut self, pause: Duration) -> Self {
        self.stream_pause = pause;
        self
    }

    /// Bytes of a successful reply, or of one event of a stream (default [`limits::REPLY_BYTES_MAX`]).
    pub fn reply_bytes_max(mut self, bytes: usize) -> Self {
        self.reply_bytes_max = bytes;
        self
    }

    /// Checks everything and makes the client. Nothing is sent.
    ///
    /// Where no TLS provider is installed in this process, `ring` becomes its default.
    ///
    /// # Errors
    /// [`BuildError`], as its variants say.
    pub fn build(self) -> Result<Client, BuildError> {
        let base = parse_base(&self.base_url)?;
        let app = bearer(self.app_token, TokenKind::App)?;
        let admin = bearer(self.admin_token, TokenKind::Admin)?;

        let http = connections(&base).map_err(BuildError::Http)?;
        Ok(Client {
            http,
            base,
            app,
            admin,
            call_wait: self.call_wait,
            run_grace: self.run_grace,
            turn_grace: self.turn_grace,
            stream_silence: self.stream_silence,
            stream_pause: self.stream_pause,
            reply_bytes_max: self.reply_bytes_max,
        })
    }
}

impl Client {
    /// The same client with connections of its own, for a runtime of its own: pooled ones are moved by the
    /// runtime they were opened in.
    pub(crate) fn with_own_connections(&self) -> Result<Self, reqwest::Error> {
        Ok(Self { http: connections(&self.base)?, ..self.clone() })
    }
}

fn connections(base: &Url) -> Result<reqwest::Client, reqwest::Error> {
    install_tls_provider();
    let mut http = reqwest::Client::builder()
        .user_agent(concat!("clawdforge-client/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits::CONNECT_WAIT_MAX)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy();
    if base.scheme() == "http" {
        // Without redirects no TLS can come up, and loading the system's certificates takes
        // time and fails in images that have none.
        http = http.tls_certs_only([]);
    }
    http.build()
}

fn bearer(token: Option<SecretString>, kind: TokenKind) -> Result<Option<Bearer>, BuildError> {
    token.map(|token| Bearer::new(token).ok_or(BuildError::Token(kind))).transpose()
}

fn parse_base(text: &str) -> Result<Url, BuildError> {
    let refuse = |why: &str| Err(BuildError::Url(why.to_owned()));
    let Ok(url) = Url::parse(text.trim()) else {
        return refuse("cannot be read; write it with its scheme, like http://127.0.0.1:8800");
    };
    if !matches!(url.scheme(), "http" | "https") {
        return refuse("must begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("must not hold a user name or password; tokens are given on their own");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("must end before any `?` or `#`");
    }
    Ok(url)
}

fn install_tls_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing the race against another installer is fine: any provider will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_end_in_a_slash_or_have_a_path() {
        for good in ["http://127.0.0.1:8800", "http://forge/", "https://lan.example/forge/", " http://[::1]:8800 "] {
            assert!(parse_base(good).is_ok(), "{good} was refused");
        }
    }

    #[test]
    fn a_base_url_with_a_password_is_refused_without_repeating_it() {
        let error = parse_base("http://me:hunter2@forge:8800").unwrap_err().to_string();
        assert!(error.contains("password"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        assert!(parse_base("http://me@forge").is_err());
    }

    #[test]
    fn other_urls_are_refused_with_the_reason() {
        for (bad, why) in [
            ("localhost:8800", "http://"),
            ("ftp://forge", "http://"),
            ("forge", "cannot be read"),
            ("http://", "cannot be read"),
            ("http://forge/?a=1", "`?`"),
            ("http://forge/#a", "`#`"),
        ] {
            let error = parse_base(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn a_builder_never_prints_its_tokens() {
        let builder = ClientBuilder::new("http://forge".to_owned()).token("cf_secret1").admin_token("cf_secret2");
        let shown = format!("{builder:?}");
        assert!(!shown.contains("secret1") && !shown.contains("secret2"), "{shown}");
    }
}
