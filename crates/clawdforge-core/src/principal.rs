//! Who is acting.

use std::sync::Arc;

use crate::app::AppToken;

/// Who is behind a change right now.
#[derive(Debug, Clone)]
pub enum Principal {
    /// An app, proved by one of its tokens.
    App(Arc<AppToken>),
    /// The operator, proved by the admin token.
    Operator,
    /// The service itself: sweep and recovery.
    Service,
}

impl Principal {
    /// How the ledger names it: `app`, `operator` or `service`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::App(_) => "app",
            Self::Operator => "operator",
            Self::Service => "service",
        }
    }
}
