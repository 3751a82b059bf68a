//! `POST|GET /admin/tokens` and `DELETE /admin/tokens/{name}`.

use std::net::IpAddr;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use clawdforge_api::legacy::{Done, MintReply, TokenList, TokenRow};
use clawdforge_core::app::{AppName, AppToken};
use clawdforge_core::limits::TOKEN_CIDRS_MAX;
use clawdforge_core::network::{BadRule, ENDPOINTS_MAX, NetworkRule};
use clawdforge_engine::{EngineError, TokenWish};
use ipnet::IpNet;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::App;
use crate::answer::Refusal;
use crate::extract::{ByOperator, JsonBody};
use crate::validate::Fields;

/// More than a name may have, so that a long one is told apart from a wrong one.
const NAME_BYTES_MAX: usize = 1_024;

/// More than all the ranges a token may have take as one text: 43 bytes each at most.
const CIDRS_BYTES_MAX: usize = 64 * TOKEN_CIDRS_MAX;

/// Whether an app's sessions may be given tool servers, by the words for it.
pub(crate) const TOOL_SERVERS: [(&str, bool); 2] = [("any", true), ("none", false)];

/// Mints a token: the only time it is shown.
pub(crate) async fn mint(State(app): State<App>, by: ByOperator, body: JsonBody) -> Result<Json<MintReply>, Refusal> {
    let wish = read(&body.bytes)?;
    let minted = app.engine.mint_token(wish, by.request).await?;
    Ok(Json(MintReply {
        ok: true,
        name: minted.token.app.name.to_string(),
        token: minted.secret.expose_secret().to_owned(),
        ip_cidrs: texts(&minted.token.ip_cidrs),
        network: minted.token.network.as_ref().map(NetworkRule::to_json),
        mcp_servers: tool_servers(&minted.token),
    }))
}

/// Lists live tokens, without the secrets.
pub(crate) async fn list(State(app): State<App>, _by: ByOperator) -> Json<TokenList> {
    let tokens = app.engine.tokens();
    let rows = tokens.iter().map(|token| TokenRow {
        name: token.app.name.to_string(),
        ip_cidrs: texts(&token.ip_cidrs),
        network: token.network.as_ref().map(NetworkRule::to_json),
        mcp_servers: tool_servers(token),
        created_at: token.created_at.unix_seconds(),
    });
    Json(TokenList { ok: true, tokens: rows.collect() })
}

/// Revokes a token.
pub(crate) async fn revoke(
    State(app): State<App>,
    by: ByOperator,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Done>, Refusal> {
    // What is no app name, or not even text, cannot have a token.
    let name = name.ok().and_then(|Path(name)| name.parse::<AppName>().ok());
    let name = name.ok_or(EngineError::NotFound("token"))?;
    app.engine.revoke_token(name, by.request).await?;
    Ok(Json(Done { ok: true }))
}

/// What a body asks for.
pub(crate) fn read(body: &[u8]) -> Result<TokenWish, Refusal> {
    let mut fields =
        Fields::of_body(body, &["name", "ip_cidrs", "network", "mcp_servers"]).map_err(Refusal::Invalid)?;
    let name = fields.required_text("name", NAME_BYTES_MAX);
    let cidrs = cidrs(&mut fields);
    let network = network(&mut fields);
    let may_give_tool_servers = fields.optional_word("mcp_servers", &TOOL_SERVERS).unwrap_or(true);
    let parsed_name = name.parse::<AppName>();
    if let Err(error) = &parsed_name
        && !name.trim().is_empty()
    {
        fields.value_fault("name", &format!("Value error, {error}"), &json!(name));
    }
    let mut nets = Vec::with_capacity(cidrs.len());
    for text in &cidrs {
        match net(text) {
            Some(net) => nets.push(net),
            None => {
                let message = format!("Value error, {text:?} is no address range; write it like 192.168.0.0/24");
                fields.value_fault("ip_cidrs", &message, &json!(text));
            }
        }
    }
    fields.finish().map_err(Refusal::Invalid)?;
    let name = parsed_name.map_err(|error| EngineError::Internal(error.to_string()))?;
    Ok(TokenWish { name, ip_cidrs: nets, network, may_give_tool_servers })
}

/// The old service's clients send a list; an old note shows a comma-separated string as well.
fn cidrs(fields: &mut Fields<'_>) -> Vec<String> {
    if !fields.is_text("ip_cidrs") {
        return fields.text_list("ip_cidrs", TOKEN_CIDRS_MAX);
    }
    let text = fields.optional_text("ip_cidrs", CIDRS_BYTES_MAX).unwrap_or_default();
    let list: Vec<String> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    if list.len() > TOKEN_CIDRS_MAX {
        let message = format!("Value error, a token has at most {TOKEN_CIDRS_MAX} address ranges, not {}", list.len());
        fields.value_fault("ip_cidrs", &message, &json!(text));
        return Vec::new();
    }
    list
}

/// `"open"`, `"none"`, or a list of hosts with ports. A token cannot take a filter away.
fn network(fields: &mut Fields<'_>) -> Option<NetworkRule> {
    let (rule, input) = if fields.is_text("network") {
        let word = fields.optional_text("network", NAME_BYTES_MAX)?;
        let rule = NetworkRule::named(&word).and_then(|rule| match rule {
            NetworkRule::Unfiltered => Err(BadRule::Word(word.clone())),
            other => Ok(other),
        });
        (rule, json!(word))
    } else {
        if !fields.has("network") {
            return None;
        }
        let entries = fields.text_list("network", ENDPOINTS_MAX);
        (NetworkRule::only(&entries), json!(entries))
    };
    match rule {
        Ok(rule) => Some(rule),
        Err(error) => {
            fields.value_fault("network", &format!("Value error, {error}"), &input);
            None
        }
    }
}

/// Told where it is not as it always was.
fn tool_servers(token: &AppToken) -> Option<String> {
    (!token.may_give_tool_servers).then(|| "none".to_owned())
}

/// A range, or a bare address as the range of just itself.
fn net(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Ranges as they are told.
pub(crate) fn texts(cidrs: &[IpNet]) -> Vec<String> {
    cidrs.iter().map(IpNet::to_string).collect()
}
