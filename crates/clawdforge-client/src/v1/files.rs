//! Uploads of `/v1`.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use clawdforge_api::v1::File;
use tokio::io::AsyncRead;

use crate::client::Client;
use crate::error::ClientError;
use crate::upload;

impl Client {
    /// Uploads a file as [`Client::upload_path`] does, and with a `key` once: sent again with the same bytes and file name it
    /// is the same upload, with the life time that it was given first. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Source`] when the file cannot be read, [`ClientError::Api`] with code `idempotency_key_reused` when the
    /// key was used for something else; the others as they say.
    pub async fn upload_v1_path(
        &self,
        path: impl AsRef<Path>,
        ttl_secs: Option<u64>,
        key: Option<&str>,
    ) -> Result<File, ClientError> {
        let source = upload::open(path.as_ref()).await.map_err(ClientError::Source)?;
        self.upload_v1_stream(&source.name, source.file, ttl_secs, key).await
    }

    /// Uploads what `reader` gives as [`Client::upload_stream`] does, and with a `key` once, as [`Client::upload_v1_path`]
    /// does. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Source`] when `reader` fails, [`ClientError::Api`] with code `idempotency_key_reused` when the key was
    /// used for something else; the others as they say.
    pub async fn upload_v1_stream<R>(
        &self,
        name: &str,
        reader: R,
        ttl_secs: Option<u64>,
        key: Option<&str>,
    ) -> Result<File, ClientError>
    where
        R: AsyncRead + Send + 'static,
    {
        let broken = Arc::new(OnceLock::new());
        let call = self.file_upload_call(upload::form(name, reader, ttl_secs, Arc::clone(&broken)), key)?;
        match self.perform(call).await {
            Ok(reply) => Ok(reply.value),
            Err(error) => Err(upload::cause(&broken, error)),
        }
    }

    /// What is known of an upload, by its `ff_…`. Needs the app token.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code `not_found` when it has expired or the app has none of that id.
    pub async fn get_file(&self, id: &str) -> Result<File, ClientError> {
        Ok(self.perform(self.file_call(id)?).await?.value)
    }
}
