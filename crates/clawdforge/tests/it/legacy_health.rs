//! legacy_health.
