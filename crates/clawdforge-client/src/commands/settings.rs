//! From options, environment and `cf.env` to a client. Each value comes from the first place that
//! has it, in this order: option, environment, configuration file, default.
//!
//! Only the token a verb needs is read.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::connection::ConnectionArgs;
use super::env_file::{self, EnvFile};
use super::failure::CommandError;
use super::io::Io;
use crate::client::Client;
use crate::error::TokenKind;
use crate::limits::SETTINGS_BYTES_MAX;

/// Where the service listens unless told otherwise.
const URL_DEFAULT: &str = "http://127.0.0.1:8800";

/// Why the settings cannot be used. No text holds a value, since values are tokens.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettingsError {
    #[error("{0}")]
    EnvFile(#[from] env_file::EnvFileError),
    #[error("cannot read the token file {}: {source}", path.display())]
    TokenFile { path: PathBuf, source: io::Error },
    #[error("the environment variable {0} is not UTF-8")]
    NotUtf8(&'static str),
}

/// A client for a verb that needs no token.
pub(super) fn anonymous(args: &ConnectionArgs, io: &Io) -> Result<Client, CommandError> {
    connect(args, io, None)
}

/// A client for a verb that needs the app token.
pub(super) fn as_app(args: &ConnectionArgs, io: &Io) -> Result<Client, CommandError> {
    connect(args, io, Some(TokenKind::App))
}

/// A client for a verb that needs the admin token.
pub(super) fn as_admin(args: &ConnectionArgs, io: &Io) -> Result<Client, CommandError> {
    connect(args, io, Some(TokenKind::Admin))
}

fn connect(args: &ConnectionArgs, io: &Io, needs: Option<TokenKind>) -> Result<Client, CommandError> {
    let file = match io.home() {
        Some(home) => env_file::load(&home.join(".config/clawdforge/cf.env")).map_err(SettingsError::from)?,
        None => EnvFile::default(),
    };
    let url = match &args.url {
        Some(url) => url.clone(),
        None => text_var(io, "CLAWDFORGE_URL")?
            .or_else(|| file.get("CLAWDFORGE_URL").map(str::to_owned))
            .unwrap_or_else(|| URL_DEFAULT.to_owned()),
    };
    let builder = Client::builder(url);
    let builder = match needs {
        None => builder,
        Some(TokenKind::App) => match token(io, &file, args.token_file.as_deref(), &APP)? {
            Some(token) => builder.token(token),
            None => builder,
        },
        Some(TokenKind::Admin) => match token(io, &file, args.admin_token_file.as_deref(), &ADMIN)? {
            Some(token) => builder.admin_token(token),
            None => builder,
        },
    };
    Ok(builder.build()?)
}

/// What one token is called in the environment and in `cf.env`.
struct TokenNames {
    value: &'static str,
    file: &'static str,
}

const APP: TokenNames = TokenNames { value: "CLAWDFORGE_TOKEN", file: "CLAWDFORGE_TOKEN_FILE" };
const ADMIN: TokenNames = TokenNames { value: "CLAWDFORGE_ADMIN_TOKEN", file: "CLAWDFORGE_ADMIN_TOKEN_FILE" };

fn token(
    io: &Io,
    file: &EnvFile,
    option: Option<&Path>,
    names: &TokenNames,
) -> Result<Option<SecretString>, SettingsError> {
    if let Some(path) = option {
        return read_token(path).map(Some);
    }
    if let Some(token) = text_var(io, names.value)? {
        return Ok(Some(SecretString::from(token)));
    }
    if let Some(path) = io.var(names.file) {
        return read_token(Path::new(path)).map(Some);
    }
    if let Some(token) = file.get(names.value) {
        return Ok(Some(SecretString::from(token)));
    }
    file.get(names.file).map(|path| read_token(Path::new(path))).transpose()
}

fn text_var(io: &Io, name: &'static str) -> Result<Option<String>, SettingsError> {
    io.var(name).map(|value| value.to_str().map(str::to_owned).ok_or(SettingsError::NotUtf8(name))).transpose()
}

fn read_token(path: &Path) -> Result<SecretString, SettingsError> {
    let failed = |source: io::Error| SettingsError::TokenFile { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(SETTINGS_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    match text.trim() {
        "" => Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it is empty"))),
        token => Ok(SecretString::from(token)),
    }
}
