//! Tokens of apps at `/v1`, the operator's.

use clawdforge_api::legacy::MintRequest;
use clawdforge_api::v1::{self, Page, Token};
use reqwest::Method;
use secrecy::SecretString;

use super::PageQuery;
use crate::calls::{Call, app_name, call};
use crate::client::Client;
use crate::error::ClientError;

/// What minting a token at `/v1` gives.
#[derive(Debug, Clone)]
pub struct MintedV1Token {
    /// What is known of it from now on.
    pub token: Token,
    /// The bearer. The service keeps only a hash of it: store it now.
    pub secret: SecretString,
}

impl Client {
    /// Mints the token of an app. It takes no idempotency key, for a secret cannot be told again: who loses the answer revokes
    /// the token and mints another. Needs the admin token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `name_taken` when the app has one, or another one; the others as they say.
    pub async fn mint_v1_token(&self, request: &MintRequest) -> Result<MintedV1Token, ClientError> {
        let v1::MintedToken { token, secret } = self.perform(self.token_mint_call(request)?).await?.value;
        Ok(MintedV1Token { token, secret: secret.into() })
    }

    /// The live tokens by name, without the secrets. Needs the admin token.
    ///
    /// # Errors
    /// [`ClientError`], as its variants say.
    pub async fn list_v1_tokens(&self, page: &PageQuery) -> Result<Page<Token>, ClientError> {
        Ok(self.perform(self.tokens_page_call(page)?).await?.value)
    }

    /// The live token of an app, without the secret. Needs the admin token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `not_found` when it has none; the others as they say.
    pub async fn get_token(&self, name: &str) -> Result<Token, ClientError> {
        Ok(self.perform(self.token_get_call(name)?).await?.value)
    }

    /// Revokes the token of an app; its work under way goes on. Needs the admin token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `not_found` when it has none; the others as they say.
    pub async fn revoke_v1_token(&self, name: &str) -> Result<(), ClientError> {
        self.perform(self.token_revoke_call(name)?).await?;
        Ok(())
    }

    fn token_mint_call(&self, request: &MintRequest) -> Result<Call<v1::MintedToken>, ClientError> {
        app_name(&request.name)?;
        let post = self.as_admin(self.to(Method::POST, &["v1", "tokens"])?)?;
        Ok(call(post.json(request), Some(self.call_wait)))
    }

    pub(crate) fn tokens_page_call(&self, page: &PageQuery) -> Result<Call<Page<Token>>, ClientError> {
        let mut url = self.url(&["v1", "tokens"])?;
        page.write_into(&mut url);
        Ok(call(self.as_admin(self.http.request(Method::GET, url))?, Some(self.call_wait)))
    }

    pub(crate) fn token_get_call(&self, name: &str) -> Result<Call<Token>, ClientError> {
        let get = self.to(Method::GET, &["v1", "tokens", &app_name(name)?])?;
        Ok(call(self.as_admin(get)?, Some(self.call_wait)))
    }

    fn token_revoke_call(&self, name: &str) -> Result<Call<()>, ClientError> {
        let delete = self.to(Method::DELETE, &["v1", "tokens", &app_name(name)?])?;
        Ok(call(self.as_admin(delete)?, Some(self.call_wait)))
    }
}
