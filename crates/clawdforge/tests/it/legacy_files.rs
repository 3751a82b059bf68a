//! legacy_files.
