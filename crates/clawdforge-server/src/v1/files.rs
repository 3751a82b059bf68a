//! `/v1/files`.

use axum::Json;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use clawdforge_api::v1;
use clawdforge_core::file::File;
use clawdforge_engine::Submitted;

use super::{id, key_text, located, render, replayed};
use crate::App;
use crate::answer::Refusal;
use crate::extract::{ByApp, Segments};
use crate::legacy;

/// Takes one file, which can be attached to runs and turns by its id.
pub(crate) async fn upload(
    State(app): State<App>,
    by: ByApp,
    Query(parameters): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, Refusal> {
    let key = key_text(request.headers())?;
    let answer = |file: File| located(StatusCode::CREATED, &format!("/v1/files/{}", file.id), render::file(&file));
    Ok(match legacy::files::take(&app, &by, parameters, request, key).await? {
        Submitted::New((file, _)) => answer(file),
        Submitted::Known(file) => replayed(answer(file)),
    })
}

/// What is known of an upload that has not expired.
pub(crate) async fn get(
    State(app): State<App>,
    by: ByApp,
    Segments(file): Segments<String>,
) -> Result<Json<v1::File>, Refusal> {
    Ok(Json(render::file(&app.engine.file(&by.token, id(&file, "file")?).await?)))
}
