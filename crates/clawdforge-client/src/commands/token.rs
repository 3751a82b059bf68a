//! `clawdforge token mint|list|get|revoke`, and the older `admin token-mint|token-list|token-revoke`.
//!
//! What the older tool had speaks to `/admin/tokens`, whose replies scripts know; the rest to `/v1/tokens`.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::ConnectionArgs;
use super::failure::CommandError;
use super::io::Io;
use super::settings;
use super::text::whole_number;
use crate::v1::PageQuery;

/// Options of `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: TokenVerb,
    /// Where the service is.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// What can be done with app tokens.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Mint the token of an app; it is shown only once
    Mint(MintArgs),
    /// List live tokens, without the secrets
    List(TokenListArgs),
    /// Look at the live token of an app, without the secret
    Get(TokenGetArgs),
    /// Revoke the token of an app
    Revoke(RevokeArgs),
}

/// Options of the older `admin`.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: AdminVerb,
    /// Where the service is.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// The older names of the same three.
#[derive(Debug, Subcommand)]
pub enum AdminVerb {
    /// Mint the token of an app; it is shown only once
    TokenMint(MintArgs),
    /// List live tokens, without the secrets
    TokenList,
    /// Revoke the token of an app
    TokenRevoke(RevokeArgs),
}

/// Options of minting.
#[derive(Debug, Args)]
pub struct MintArgs {
    /// Name of the app: 1 to 64 of a-z, 0-9, `_` and `-`
    pub name: String,
    /// Addresses its requests may come from, such as 192.168.0.0/24, separated by commas [default: any]
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    pub ip_cidrs: Vec<String>,
    /// What its agents may reach: open, none, or hosts with ports, such as example.com:443, separated by commas
    /// [default: what the agents' own rules let them]
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub network: Vec<String>,
    /// Whether its sessions may be given tool servers [default: any]
    #[arg(long, value_name = "WHICH", value_parser = PossibleValuesParser::new(["any", "none"]))]
    pub mcp_servers: Option<String>,
}

/// Options of listing.
#[derive(Debug, Args)]
pub struct TokenListArgs {
    /// Tokens on a page at most, 1 to 1,000, as a page of /v1 [default: all of them, in the older form]
    #[arg(long, value_parser = whole_number::<usize>)]
    pub limit: Option<usize>,
    /// The `next_cursor` of the page before
    #[arg(long)]
    pub cursor: Option<String>,
}

/// Options of looking.
#[derive(Debug, Args)]
pub struct TokenGetArgs {
    /// Name of the app
    pub name: String,
}

/// Options of revoking.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Name of the app
    pub name: String,
}

pub(super) async fn token(args: &TokenArgs, io: &mut Io) -> Result<(), CommandError> {
    match &args.verb {
        TokenVerb::Mint(mint_args) => mint(mint_args, &args.connection, io).await,
        TokenVerb::List(TokenListArgs { limit: None, cursor: None }) => list(&args.connection, io).await,
        TokenVerb::List(list_args) => page(list_args, &args.connection, io).await,
        TokenVerb::Get(get_args) => get(get_args, &args.connection, io).await,
        TokenVerb::Revoke(revoke_args) => revoke(revoke_args, &args.connection, io).await,
    }
}

pub(super) async fn admin(args: &AdminArgs, io: &mut Io) -> Result<(), CommandError> {
    match &args.verb {
        AdminVerb::TokenMint(mint_args) => mint(mint_args, &args.connection, io).await,
        AdminVerb::TokenList => list(&args.connection, io).await,
        AdminVerb::TokenRevoke(revoke_args) => revoke(revoke_args, &args.connection, io).await,
    }
}

async fn mint(args: &MintArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_admin(connection, io)?;
    let cidrs: Vec<String> =
        args.ip_cidrs.iter().map(|cidr| cidr.trim().to_owned()).filter(|cidr| !cidr.is_empty()).collect();
    let call = client.mint_call(&args.name, &cidrs, network(&args.network), args.mcp_servers.clone())?;
    let reply = client.perform(call).await?;
    io.print_json(&reply.bytes)?;
    io.say("the token is shown only this once: store it now; the service keeps no copy");
    Ok(())
}

/// A single word without a port is a rule of its own, and everything else a list.
fn network(given: &[String]) -> Option<Value> {
    let given: Vec<&str> = given.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
    match given.as_slice() {
        [] => None,
        [word] if !word.contains(':') => Some(json!(word)),
        list => Some(json!(list)),
    }
}

async fn list(connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_admin(connection, io)?;
    let reply = client.perform(client.tokens_call()?).await?;
    Ok(io.print_json(&reply.bytes)?)
}

async fn page(args: &TokenListArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_admin(connection, io)?;
    let page = PageQuery { cursor: args.cursor.clone(), limit: args.limit };
    let reply = client.perform(client.tokens_page_call(&page)?).await?;
    Ok(io.print_json(&reply.bytes)?)
}

async fn get(args: &TokenGetArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_admin(connection, io)?;
    let reply = client.perform(client.token_get_call(&args.name)?).await?;
    Ok(io.print_json(&reply.bytes)?)
}

async fn revoke(args: &RevokeArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_admin(connection, io)?;
    let reply = client.perform(client.revoke_call(&args.name)?).await?;
    Ok(io.print_json(&reply.bytes)?)
}
