//! The app token of `serve --demo`: ready to paste, and the same over restarts.

use std::path::Path;

use anyhow::Context;
use clawdforge_core::app::AppName;
use clawdforge_core::secret::{ExposeSecret, SecretString};
use clawdforge_engine::{Engine, EngineError};

use super::admin_token::write_private;

/// Name of the file in the data directory.
const FILE: &str = "demo-token";

/// The app the demo speaks for.
const APP: &str = "demo";

/// The demo's token: the one in the data directory while it is live, else a new one.
pub async fn token(engine: &Engine, data_dir: &Path) -> anyhow::Result<SecretString> {
    let path = data_dir.join(FILE);
    if let Ok(text) = std::fs::read_to_string(&path)
        && engine.app(text.trim()).is_some_and(|token| token.app.name.as_str() == APP)
    {
        return Ok(text.trim().to_owned().into());
    }
    let name: AppName = APP.parse()?;
    match engine.revoke_token(name.clone(), engine.request_id()).await {
        Ok(()) | Err(EngineError::NotFound(_)) => {}
        Err(error) => return Err(error).context("the demo's old token could not be revoked"),
    }
    let minted = engine.mint_token(name, Vec::new(), engine.request_id()).await.context("the demo's token")?;
    write_private(&path, &minted.secret)?;
    Ok(minted.secret.expose_secret().to_owned().into())
}
