//! The app token of `serve --demo`: ready to paste, the same over restarts of the demo, and void as soon
//! as the same data directory is served for real: it was printed, so anybody may have it.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use clawdforge_core::app::AppName;
use clawdforge_core::secret::{ExposeSecret, SecretString};
use clawdforge_engine::{Engine, EngineError, TokenWish};

use super::admin_token::write_private;

/// Name of the file in the data directory.
pub const FILE: &str = "demo-token";

/// The app the demo speaks for.
const APP: &str = "demo";

/// Ends what a demo on this data directory printed. An app of the operator's that happens to be called
/// `demo` keeps its token: only the one in the demo's own file is revoked.
pub async fn forget(engine: &Engine, data_dir: &Path) -> anyhow::Result<()> {
    let path = data_dir.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        text => {
            text.with_context(|| format!("the demo's token in {} cannot be read; remove the file", path.display()))?
        }
    };
    if let Some(token) = engine.app(text.trim()) {
        let revoked = engine.revoke_token(token.app.name.clone(), engine.request_id()).await;
        revoked.context("the demo's token could not be revoked")?;
        tracing::warn!("the token that an earlier `serve --demo` printed was revoked");
    }
    std::fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))
}

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
    let minted = engine.mint_token(TokenWish::of(name), engine.request_id()).await.context("the demo's token")?;
    write_private(&path, &minted.secret)?;
    Ok(minted.secret.expose_secret().to_owned().into())
}
