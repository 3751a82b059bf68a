//! The service describes itself: `GET /openapi.json` for programs, `GET /docs` for people.
//!
//! The paths come from the table of routes; what each takes and answers stands in [`operations`], its schemas beside
//! the types they describe ([`clawdforge_api::schema`]). A route that is described nowhere fails a test. Both documents
//! are made once, when first asked for, and need nothing from elsewhere.

mod operation;
mod operations;
mod page;
mod parts;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use clawdforge_api::schema;
use serde_json::{Map, Value, json};

use crate::App;
use crate::browser::OwnPolicy;
use crate::router::{Route, routes};
#[cfg(test)]
pub(crate) use page::POLICY;

use operation::{OPERATOR_SECURITY, Operation, SECURITY};

const ABOUT: &str = "Runs coding agents for apps. Work that takes time answers as the caller asks: with the outcome, \
    with every event as it comes (`Accept: text/event-stream`), or at once (`Prefer: respond-async`). What an app made is \
    *not found* for every other. Fields that are not known are passed over, and may be added at any time. Errors are \
    problems (RFC 9457), each with a page below `/problems/`. In the examples `$CLAWDFORGE_URL` is where the service is, \
    `$CLAWDFORGE_TOKEN` the app's token, and any other word with a dollar an id.";

/// What the service says of itself.
pub(crate) struct Description {
    timeout_secs_max: u64,
    /// Written for whoever asks first: most services are never asked, and it takes megabytes to write.
    written: OnceLock<Written>,
}

/// Both documents, ready to be sent.
struct Written {
    document: Bytes,
    page: Bytes,
}

impl Description {
    /// Of a service whose runs and turns may take so long.
    pub fn of(timeout_secs_max: u64) -> Self {
        Self { timeout_secs_max, written: OnceLock::new() }
    }

    fn written(&self) -> &Written {
        self.written.get_or_init(|| {
            let document = document(self.timeout_secs_max);
            Written { page: page::write(&document).into(), document: document.to_string().into() }
        })
    }
}

/// The description for programs.
pub(crate) async fn for_programs(State(app): State<App>) -> Response {
    let kind = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (kind, app.description.written().document.clone()).into_response()
}

/// The description for people.
pub(crate) async fn for_people(State(app): State<App>) -> Response {
    let kind = [(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))];
    let mut response = (kind, app.description.written().page.clone()).into_response();
    response.extensions_mut().insert(OwnPolicy(page::POLICY));
    response
}

/// Whether a route is one that the document describes.
fn is_described(route: &Route) -> bool {
    route.path.starts_with("/v1/") || route.path.starts_with("/problems/")
}

/// The whole document.
fn document(timeout_secs_max: u64) -> Value {
    let operations = operations::all(timeout_secs_max);
    let mut paths = Map::new();
    for route in routes().iter().filter(|route| is_described(route)) {
        // A test says which route is missing.
        let Some(operation) = operation_of(&operations, route) else { continue };
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation.to_json();
    }
    let schemas = schema::all();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "clawdforge",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "/" }],
        "tags": operations::TAGS.map(|(name, about)| json!({ "name": name, "description": about })),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                SECURITY: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An app token, `cf_…`; the operator mints one with `clawdforge token mint NAME`.",
                },
                OPERATOR_SECURITY: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The operator's token.",
                },
            },
        },
    })
}

fn operation_of<'a>(operations: &'a [Operation], route: &Route) -> Option<&'a Operation> {
    let is_it = |method: &Method, path: &str| *method == route.method && path == route.path;
    operations.iter().find(|operation| is_it(&operation.method, operation.path))
}
