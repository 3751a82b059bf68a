//! legacy_tokens.
