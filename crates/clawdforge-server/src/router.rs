//! Every route on one page, grouped by audience: one table, from which the router is made and by which the tests
//! walk the surface.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;

use crate::App;
use crate::answer::Refusal;
use crate::{admin, browser, envelope, gate, legacy, openapi, unread, v1};

/// One thing that can be asked of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path; `{…}` stands for one segment.
    pub path: &'static str,
    /// Whom it answers.
    pub audience: Audience,
}

/// Whom a route answers, of those whose address is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    Everybody,
    /// Apps, and about their own things only.
    App,
    /// The operator.
    Operator,
}

/// A method that routes have.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Get,
    Post,
    Patch,
    Delete,
}

use Audience::{Everybody, Operator};
use Verb::{Delete, Get, Patch, Post};

/// Every route with its handler.
fn table() -> Vec<(Route, MethodRouter<App>)> {
    vec![
        entry(Everybody, Get, "/healthz", legacy::health::healthz),
        entry(Everybody, Get, "/readyz", legacy::health::readyz),
        entry(Audience::App, Post, "/run", legacy::run::run),
        streaming(entry(Audience::App, Post, "/files", legacy::files::upload)),
        entry(Audience::App, Post, "/sessions", legacy::sessions::open),
        entry(Audience::App, Get, "/sessions", legacy::sessions::list),
        entry(Audience::App, Get, "/sessions/{id}", legacy::sessions::state),
        entry(Audience::App, Delete, "/sessions/{id}", legacy::sessions::close),
        entry(Audience::App, Post, "/sessions/{id}/turn", legacy::turns::turn),
        entry(Everybody, Get, "/openapi.json", openapi::for_programs),
        entry(Everybody, Get, "/docs", openapi::for_people),
        entry(Everybody, Get, "/problems/{code}", v1::problems::page),
        entry(Audience::App, Get, "/v1/agents", v1::agents::list),
        streaming(entry(Audience::App, Post, "/v1/files", v1::files::upload)),
        entry(Audience::App, Get, "/v1/files/{file}", v1::files::get),
        entry(Audience::App, Get, "/v1/usage", v1::usage::sum),
        entry(Audience::App, Post, "/v1/runs", v1::runs::submit),
        entry(Audience::App, Get, "/v1/runs", v1::runs::list),
        entry(Audience::App, Get, "/v1/runs/{run}", v1::runs::get),
        entry(Audience::App, Post, "/v1/runs/{run}/cancel", v1::runs::cancel),
        entry(Audience::App, Get, "/v1/runs/{run}/events", v1::runs::events),
        entry(Audience::App, Post, "/v1/sessions", v1::sessions::open),
        entry(Audience::App, Get, "/v1/sessions", v1::sessions::list),
        entry(Audience::App, Get, "/v1/sessions/{session}", v1::sessions::get),
        entry(Audience::App, Patch, "/v1/sessions/{session}", v1::sessions::change),
        entry(Audience::App, Delete, "/v1/sessions/{session}", v1::sessions::close),
        entry(Audience::App, Post, "/v1/sessions/{session}/fork", v1::forks::fork),
        entry(Audience::App, Get, "/v1/sessions/{session}/events", v1::sessions::events),
        entry(Audience::App, Post, "/v1/sessions/{session}/turns", v1::turns::submit),
        entry(Audience::App, Get, "/v1/sessions/{session}/turns", v1::turns::list),
        entry(Audience::App, Get, "/v1/sessions/{session}/turns/{turn}", v1::turns::get),
        entry(Audience::App, Delete, "/v1/sessions/{session}/turns/{turn}", v1::turns::cancel),
        entry(Audience::App, Post, "/v1/sessions/{session}/turns/{turn}/cancel", v1::turns::cancel),
        entry(Audience::App, Get, "/v1/sessions/{session}/turns/{turn}/events", v1::turns::events),
        entry(Operator, Post, "/v1/tokens", v1::tokens::mint),
        entry(Operator, Get, "/v1/tokens", v1::tokens::list),
        entry(Operator, Get, "/v1/tokens/{name}", v1::tokens::get),
        entry(Operator, Delete, "/v1/tokens/{name}", v1::tokens::revoke),
        entry(Operator, Post, "/admin/tokens", legacy::tokens::mint),
        entry(Operator, Get, "/admin/tokens", legacy::tokens::list),
        entry(Operator, Delete, "/admin/tokens/{name}", legacy::tokens::revoke),
        entry(Operator, Get, "/admin/ledger", admin::ledger::page),
    ]
}

/// Every route there is. A test walks it with the wrong bearers, so that none is forgotten there.
#[must_use]
pub fn routes() -> Vec<Route> {
    table().into_iter().map(|(route, _)| route).collect()
}

/// The whole surface.
pub(crate) fn router(app: App) -> Router {
    let routes = table().into_iter().fold(Router::new(), |router, (route, handler)| router.route(route.path, handler));
    let routes = routes
        .method_not_allowed_fallback(async || Refusal::MethodNotAllowed)
        .fallback(async || Refusal::NoSuchRoute)
        .with_state(app.clone());
    around(app, routes)
}

/// What is around every route: first the envelope, then the gates: by address, and against foreign pages.
pub(crate) fn around(app: App, routes: Router) -> Router {
    routes
        .layer(from_fn_with_state(app.clone(), browser::gate))
        .layer(from_fn_with_state(app.clone(), gate::gate))
        .layer(from_fn(unread::close_behind_errors))
        .layer(from_fn_with_state(app, envelope::envelope))
        .layer(map_response(browser::headers))
}

fn entry<H, T>(audience: Audience, verb: Verb, path: &'static str, handler: H) -> (Route, MethodRouter<App>)
where
    H: Handler<T, App>,
    T: 'static,
{
    let (method, filter) = match verb {
        Verb::Get => (Method::GET, MethodFilter::GET),
        Verb::Post => (Method::POST, MethodFilter::POST),
        Verb::Patch => (Method::PATCH, MethodFilter::PATCH),
        Verb::Delete => (Method::DELETE, MethodFilter::DELETE),
    };
    (Route { method, path, audience }, on(filter, handler))
}

/// A route that bounds its body itself, as it comes.
fn streaming((route, handler): (Route, MethodRouter<App>)) -> (Route, MethodRouter<App>) {
    (route, handler.layer(DefaultBodyLimit::disable()))
}
