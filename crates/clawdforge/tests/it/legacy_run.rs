//! legacy_run.
