//! Every route on one page, grouped by audience.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::{delete, get, post};

use crate::App;
use crate::answer::Refusal;
use crate::{admin, envelope, gate, legacy, unread};

/// The whole surface.
pub(crate) fn router(app: App) -> Router {
    around(app.clone(), routes(app))
}

fn routes(app: App) -> Router {
    Router::new()
        // For everybody whose address is let in.
        .route("/healthz", get(legacy::health::healthz))
        .route("/readyz", get(legacy::health::readyz))
        // For apps.
        .route("/run", post(legacy::run::run))
        .route("/files", post(legacy::files::upload).layer(DefaultBodyLimit::disable()))
        .route("/sessions", post(legacy::sessions::open).get(legacy::sessions::list))
        .route("/sessions/{id}", get(legacy::sessions::state).delete(legacy::sessions::close))
        .route("/sessions/{id}/turn", post(legacy::turns::turn))
        // For the operator.
        .route("/admin/tokens", post(legacy::tokens::mint).get(legacy::tokens::list))
        .route("/admin/tokens/{name}", delete(legacy::tokens::revoke))
        .route("/admin/ledger", get(admin::ledger::page))
        .method_not_allowed_fallback(async || Refusal::MethodNotAllowed)
        .fallback(async || Refusal::NoSuchRoute)
        .with_state(app)
}

/// What is around every route: first the envelope, then the address gate.
pub(crate) fn around(app: App, routes: Router) -> Router {
    routes
        .layer(from_fn_with_state(app.clone(), gate::gate))
        .layer(map_response(legacy::no_store))
        .layer(from_fn(unread::close_behind_errors))
        .layer(from_fn_with_state(app, envelope::envelope))
}
