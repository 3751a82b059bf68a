//! `/v1/tokens`: the operator's, about the tokens of apps.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use clawdforge_api::v1;
use clawdforge_core::app::AppName;
use clawdforge_engine::EngineError;
use secrecy::ExposeSecret;

use super::{id, located, page, page_wish, render};
use crate::App;
use crate::answer::Refusal;
use crate::extract::{ByOperator, JsonBody, Segments};
use crate::legacy;
use crate::validate::Fields;

/// Mints the token of an app: the only time its secret is shown.
///
/// It takes no idempotency key: a secret of which only the hash is kept cannot be told again, and an app has one token,
/// so a request that is sent again makes no second one.
pub(crate) async fn mint(State(app): State<App>, by: ByOperator, body: JsonBody) -> Result<Response, Refusal> {
    let wish = legacy::tokens::read(&body.bytes)?;
    let minted = app.engine.mint_token(wish, by.request).await?;
    let token = render::token(&minted.token);
    let place = format!("/v1/tokens/{}", token.name);
    let secret = minted.secret.expose_secret().to_owned();
    Ok(located(StatusCode::CREATED, &place, v1::MintedToken { token, secret }))
}

/// The live tokens, by name.
pub(crate) async fn list(
    State(app): State<App>,
    _by: ByOperator,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<v1::Page<v1::Token>>, Refusal> {
    let mut fields = Fields::of_query(query, &["cursor", "limit"]);
    let wish = page_wish::<AppName>(&mut fields);
    fields.finish().map_err(Refusal::Invalid)?;
    let tokens = app.engine.tokens();
    let rest = tokens.iter().filter(|token| wish.cursor.as_ref().is_none_or(|seen| token.app.name > *seen));
    let data = rest.take(wish.limit).map(|token| render::token(token)).collect();
    Ok(Json(page(data, wish.limit, |token| token.name.clone())))
}

/// The live token of an app.
pub(crate) async fn get(
    State(app): State<App>,
    _by: ByOperator,
    Segments(name): Segments<String>,
) -> Result<Json<v1::Token>, Refusal> {
    let name: AppName = id(&name, "token")?;
    let token = app.engine.tokens().into_iter().find(|token| token.app.name == name);
    let token = token.ok_or(EngineError::NotFound("token"))?;
    Ok(Json(render::token(&token)))
}

/// Revokes the token of an app, which is good for nothing from then on. Work under way goes on.
pub(crate) async fn revoke(
    State(app): State<App>,
    by: ByOperator,
    Segments(name): Segments<String>,
) -> Result<StatusCode, Refusal> {
    app.engine.revoke_token(id(&name, "token")?, by.request).await?;
    Ok(StatusCode::NO_CONTENT)
}
