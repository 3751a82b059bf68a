//! `POST /files`: streamed to disk, whatever its size, under a limit of time per pause and of bytes.

use std::future::Future;
use std::time::Duration;

use axum::Json;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Query, Request, State};
use axum::http::header::CONTENT_LENGTH;
use clawdforge_api::legacy::{FileReply, ValidationFault};
use clawdforge_core::file::File;
use clawdforge_engine::{Submitted, Upload, UploadWish};
use serde_json::{Value, json};

use crate::App;
use crate::answer::Refusal;
use crate::extract::ByApp;
use crate::legacy::form_body::{Held, HeldTooMuch};
use crate::limits::{BODY_PAUSE_MAX, FORM_FIELD_BYTES_MAX};

/// Parts an upload's form may have; the rest of a longer one is refused unread.
const PARTS_MAX: usize = 16;

/// Takes one file.
pub(crate) async fn upload(
    State(app): State<App>,
    by: ByApp,
    Query(parameters): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Json<FileReply>, Refusal> {
    let (file, ttl) = take(&app, &by, parameters, request, None).await?.fresh()?;
    Ok(Json(FileReply { ok: true, file_token: file.id.to_string(), ttl_secs: ttl.as_secs(), size: file.size }))
}

/// Takes one file, and says for how long, or finds the one that was sent before with the same key. The old clients send `ttl_secs` as a form field; in the query it is taken too.
pub(crate) async fn take(
    app: &App,
    by: &ByApp,
    parameters: Vec<(String, String)>,
    request: Request,
    key: Option<String>,
) -> Result<Submitted<(File, Duration), File>, Refusal> {
    let held = Held::default();
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let form = Multipart::from_request(held.watch(request), app).await;
    let mut form = form.map_err(|_| Refusal::WrongContentType("multipart/form-data with a boundary"))?;
    let mut ttl = parameters.into_iter().rev().find_map(|(key, value)| (key == "ttl_secs").then_some(value));
    let mut uploaded: Option<(Upload, String)> = None;
    let mut parts = 0;
    while let Some(field) = patiently(&held, form.next_field()).await? {
        parts += 1;
        match field.name() {
            _ if parts > PARTS_MAX => return Err(Refusal::BodyBroken(format!("more than {PARTS_MAX} parts"))),
            Some("file") if uploaded.is_some() => {
                return Err(invalid("file", "value_error", "Value error, send one file per request", Value::Null));
            }
            Some("file") => {
                let name = field.file_name().unwrap_or_default().to_owned();
                uploaded = Some((store(app, &held, field, announced).await?, name));
            }
            Some("ttl_secs") => ttl = Some(short_text(&held, field).await?),
            _ => drop(short_text(&held, field).await?),
        }
    }
    let Some((upload, name)) = uploaded else {
        return Err(invalid("file", "missing", "Field required", Value::Null));
    };
    let ttl = match ttl.as_deref().map(str::trim) {
        None | Some("") => None,
        Some(text) => Some(text.parse::<i64>().map_err(|_| {
            let message = "Input should be a valid integer, unable to parse string as an integer";
            invalid("ttl_secs", "int_parsing", message, json!(text))
        })?),
    };
    let wish = UploadWish { name, ttl_secs: ttl, key };
    Ok(app.engine.finish_upload(upload, &by.token, wish, by.request).await?)
}

async fn store(app: &App, held: &Held, mut field: Field<'_>, announced: Option<u64>) -> Result<Upload, Refusal> {
    let mut upload = app.engine.begin_upload(announced).await?;
    while let Some(chunk) = patiently(held, field.chunk()).await? {
        held.give_out(chunk.len());
        upload.write(&chunk).await?;
    }
    Ok(upload)
}

async fn short_text(held: &Held, mut field: Field<'_>) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = patiently(held, field.chunk()).await? {
        held.give_out(chunk.len());
        if bytes.len() + chunk.len() > FORM_FIELD_BYTES_MAX {
            return Err(Refusal::BodyTooLarge(FORM_FIELD_BYTES_MAX as u64));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| Refusal::BodyBroken("a form field is not UTF-8".to_owned()))
}

/// The next piece of the form, unless it keeps us waiting for too long.
async fn patiently<T>(held: &Held, piece: impl Future<Output = Result<T, MultipartError>>) -> Result<T, Refusal> {
    match tokio::time::timeout(BODY_PAUSE_MAX, piece).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(_)) if held.is_too_much() => Err(Refusal::BodyBroken(HeldTooMuch.to_string())),
        Ok(Err(error)) => Err(Refusal::BodyBroken(error.body_text())),
        Err(_elapsed) => Err(Refusal::BodyTooSlow),
    }
}

fn invalid(key: &str, kind: &str, message: &str, input: Value) -> Refusal {
    let loc = vec![json!("body"), json!(key)];
    Refusal::Invalid(vec![ValidationFault { kind: kind.to_owned(), loc, msg: message.to_owned(), input, ctx: None }])
}
