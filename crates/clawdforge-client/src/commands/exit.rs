//! The exit codes, which scripts written for the `cf` tool read.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked.
    Done = 0,
    /// The service was not reached, its reply made no sense, or a file was in the way.
    Failed = 1,
    /// The command line asks for something that cannot be; clap uses the same code.
    Usage = 2,
    /// A token is needed and none was found.
    TokenMissing = 3,
    /// The service refused (HTTP 4xx).
    Refused = 4,
    /// The service or the agent failed (HTTP 5xx).
    ServiceFailed = 5,
    /// Ctrl-C, by the shells' custom.
    Interrupted = 130,
}

impl Exit {
    /// The number the process ends with.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
