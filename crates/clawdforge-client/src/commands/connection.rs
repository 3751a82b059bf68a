//! The options every verb shares: where the service is, and where tokens lie.

use std::path::PathBuf;

use clap::Args;

/// Where the service is and which files hold the tokens. A token itself is never an argument: the
/// process list shows those to everyone.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Address of the service [env: CLAWDFORGE_URL] [default: http://127.0.0.1:8800]
    #[arg(long, value_name = "URL", global = true)]
    pub url: Option<String>,
    /// File with the app token [env: CLAWDFORGE_TOKEN_FILE; the token itself: CLAWDFORGE_TOKEN]
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// File with the admin token [env: CLAWDFORGE_ADMIN_TOKEN_FILE; the token itself: CLAWDFORGE_ADMIN_TOKEN]
    #[arg(long, value_name = "FILE", global = true)]
    pub admin_token_file: Option<PathBuf>,
}
