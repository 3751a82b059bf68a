//! The layers around the routes, over a real engine.

mod problems;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use axum::routing::get;
use clawdforge_agent::{AgentDriver, AgentLink, Agents, OpenSpec, Presence, SessionAgent, SessionAgents};
use clawdforge_core::agent::{AgentName, Failure, FailureKind};
use clawdforge_core::app::TokenHash;
use clawdforge_core::session::DriverName;
use clawdforge_core::time::{Clock, Timestamp};
use clawdforge_engine::{EVENT_GATHER, Engine, EngineOptions, Ids, Parts};
use clawdforge_process::Spawner;
use clawdforge_store_sql::SqliteOptions;
use http_body_util::BodyExt;
use secrecy::ExposeSecret;
use tower::ServiceExt;

use crate::extract::BodyRoom;
use crate::openapi::Description;
use crate::router::{around, routes};
use crate::sign_ins::SignIns;
use crate::{App, ServerOptions};

struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000)
    }
}

/// An agent that is never there.
struct Absent(AgentName);

#[async_trait::async_trait]
impl AgentDriver for Absent {
    fn name(&self) -> &AgentName {
        &self.0
    }

    fn presence(&self) -> Presence {
        Presence { program: None, version: None }
    }

    fn check(&self) -> Result<(), Failure> {
        Err(Failure::new(FailureKind::NotInstalled, "absent"))
    }

    async fn open(&self, _: OpenSpec) -> Result<Box<dyn AgentLink>, Failure> {
        Err(Failure::new(FailureKind::NotInstalled, "absent"))
    }
}

fn database(dir: &tempfile::TempDir) -> SqliteOptions {
    SqliteOptions::at(dir.path().join("db"))
}

async fn app(dir: &tempfile::TempDir) -> App {
    app_over(dir, |_| {}).await
}

/// The same, with something done to what it is made of.
async fn app_over(dir: &tempfile::TempDir, alter: impl FnOnce(&mut Parts)) -> App {
    let name: AgentName = "claude".parse().unwrap();
    let absent: Arc<dyn AgentDriver> = Arc::new(Absent(name.clone()));
    let in_sessions = SessionAgent::new(DriverName::Acp, [(DriverName::Acp, Arc::clone(&absent))]);
    let mut parts = Parts {
        store: clawdforge_store_sql::open(database(dir)).await.unwrap().store.clone(),
        agents: Arc::new(Agents::new(name.clone(), [Arc::clone(&absent)]).unwrap()),
        session_agents: Arc::new(SessionAgents::new(name.clone(), [(name, in_sessions)]).unwrap()),
        acpx: absent,
        spawner: Spawner::start().unwrap(),
        ids: Ids::new(Arc::new(StillClock)),
        operator: TokenHash::of("operator"),
        options: EngineOptions {
            data_dir: dir.path().to_owned(),
            isolation: clawdforge_core::isolation::Isolation::Off,
            users: None,
            agent_home: Default::default(),
            slots: 1,
            queue_max: 1,
            queue_per_app_max: 1,
            queue_wait_max: Duration::from_secs(1),
            silence_max: Duration::from_secs(1),
            kill_grace: Duration::from_secs(1),
            workspace_bytes_max: None,
            upload_bytes_max: 1,
            event_gather: EVENT_GATHER,
            session_warm_max: Duration::from_secs(60),
            session_warm_up: false,
            sessions_per_process: 1,
            session_ttl: Duration::from_secs(60),
            session_hard_ttl: Duration::from_secs(60),
            run_retention: Duration::from_secs(60),
            ledger_retention: None,
            sweep_interval: Duration::from_secs(60),
        },
    };
    alter(&mut parts);
    let options = ServerOptions {
        allow_cidrs: Vec::new(),
        trusted_proxies: Vec::new(),
        allowed_hosts: Vec::new(),
        sign_in_failures_max: 20,
        admin_token_guessable: false,
        default_model: "sonnet".to_owned(),
        default_timeout: Duration::from_secs(120),
        timeout_max: Duration::from_secs(3600),
    };
    App {
        engine: Engine::start(parts).await.unwrap().0,
        description: Arc::new(Description::of(options.timeout_max.as_secs())),
        options: Arc::new(options),
        body_room: BodyRoom::new(),
        places: crate::v1::places::Places::default(),
        sign_ins: Arc::new(SignIns::new(20)),
    }
}

async fn ask(router: Router, path: &str, peer: &str) -> (StatusCode, String, Response<()>) {
    send(router, Request::get(path).body(Body::empty()).unwrap(), peer).await
}

async fn send(router: Router, mut request: Request<Body>, peer: &str) -> (StatusCode, String, Response<()>) {
    request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (parts.status, text, Response::from_parts(parts, ()))
}

#[tokio::test]
async fn a_panic_is_a_500_with_the_request_id_and_takes_nothing_else_down() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(&dir).await;
    let routes = Router::new()
        .route("/panics", get(async || -> &'static str { panic!("secret inner detail") }))
        .route("/works", get(async || "fine"));
    let router = around(app, routes);
    let (status, body, response) = ask(router.clone(), "/panics", "127.0.0.1:1").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("x-request-id") && !body.contains("secret"), "{body}");
    assert!(response.headers()["x-request-id"].to_str().unwrap().starts_with("req_"));
    let (status, body, _) = ask(router, "/works", "127.0.0.1:1").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "fine"));
}

#[tokio::test]
async fn the_address_gate_stands_before_every_route_even_those_that_do_not_exist() {
    let dir = tempfile::tempdir().unwrap();
    let router = crate::router::router(app(&dir).await);
    for path in ["/healthz", "/admin/tokens", "/nowhere"] {
        let (status, body, response) = ask(router.clone(), path, "192.0.2.1:9").await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
        assert!(body.contains("192.0.2.1") && body.contains("ALLOW_CIDRS"), "{body}");
        assert!(response.headers().contains_key("x-request-id"));
    }
    let (status, ..) = ask(router, "/healthz", "[::ffff:127.0.0.1]:9").await;
    assert_eq!(status, StatusCode::OK, "loopback in IPv6 clothes is loopback");
}

/// A request of every route, and of some that are none.
fn every_request() -> Vec<(Method, String)> {
    let of_table = routes().into_iter().map(|route| (route.method, route.path.replace(['{', '}'], "")));
    let beside = [(Method::GET, "/nowhere"), (Method::PUT, "/run"), (Method::OPTIONS, "/run"), (Method::HEAD, "/")];
    of_table.chain(beside.map(|(method, path)| (method, path.to_owned()))).collect()
}

#[tokio::test]
async fn no_route_answers_a_foreign_page_or_under_a_foreign_name_or_takes_a_token_in_the_url() {
    let dir = tempfile::tempdir().unwrap();
    let router = crate::router::router(app(&dir).await);
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let foreign: [(&str, Headers<'_>, StatusCode); 5] = [
        ("", &[("host", "rebound.example:8800")], StatusCode::MISDIRECTED_REQUEST),
        ("", &[("host", "127.0.0.1:8800"), ("origin", "https://evil.example")], StatusCode::FORBIDDEN),
        ("", &[("host", "127.0.0.1:8800"), ("origin", "null")], StatusCode::FORBIDDEN),
        ("", &[("host", "127.0.0.1:8800"), ("sec-fetch-site", "cross-site")], StatusCode::FORBIDDEN),
        ("?access_token=cf_x", &[("host", "127.0.0.1:8800")], StatusCode::BAD_REQUEST),
    ];
    let mut asked = 0;
    for (method, path) in every_request() {
        for (query, headers, expected) in foreign {
            let mut request = Request::builder().method(method.clone()).uri(format!("{path}{query}"));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            // The right token changes nothing.
            let request = request.header("authorization", "Bearer operator").body(Body::empty()).unwrap();
            let (status, body, response) = send(router.clone(), request, "127.0.0.1:9").await;
            assert_eq!(status, expected, "{method} {path}{query} {headers:?}: {body}");
            let cors = response.headers().keys().find(|name| name.as_str().starts_with("access-control-"));
            assert_eq!(cors, None, "{method} {path}");
            asked += 1;
        }
    }
    assert!(asked >= 5 * (routes().len() + 4));
}

#[tokio::test]
async fn every_answer_says_that_it_is_no_page_and_is_not_to_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(&dir).await;
    let panics = around(app.clone(), Router::new().route("/panics", get(async || -> &'static str { panic!() })));
    let router = crate::router::router(app);
    let mut asked = vec![
        ask(panics, "/panics", "127.0.0.1:9").await,
        ask(router.clone(), "/healthz", "192.0.2.1:9").await,
        ask(router.clone(), "/healthz?token=x", "127.0.0.1:9").await,
    ];
    for (method, path) in every_request() {
        let request = Request::builder().method(method).uri(path).header("authorization", "Bearer operator");
        asked.push(send(router.clone(), request.body(Body::empty()).unwrap(), "127.0.0.1:9").await);
    }
    let pages = asked.iter().filter(|(_, body, _)| body.starts_with("<!doctype html>")).count();
    let statuses: Vec<u16> = asked.iter().map(|(status, ..)| status.as_u16()).collect();
    for kind in [200, 400, 403, 404, 405, 500] {
        assert!(statuses.contains(&kind), "{kind} in {statuses:?}");
    }
    assert_eq!(pages, 1, "the description for people");
    for (status, body, response) in asked {
        let is_page = body.starts_with("<!doctype html>");
        let policy = if is_page { crate::openapi::POLICY } else { "default-src 'none'; frame-ancestors 'none'" };
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", policy),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            let found = response.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(found, Some(value), "{name} of {status} {body}");
        }
        assert!(!response.headers().keys().any(|name| name.as_str().starts_with("access-control-")));
    }
}

/// Asks an operator's route with a bearer.
async fn sign_in(router: &Router, path: &str, bearer: &str, peer: &str) -> (StatusCode, Response<()>) {
    let request = Request::get(path).header("authorization", format!("Bearer {bearer}")).body(Body::empty()).unwrap();
    let (status, _, response) = send(router.clone(), request, peer).await;
    (status, response)
}

#[tokio::test]
async fn an_admin_token_that_could_be_guessed_is_not_looked_at_after_too_many_wrong_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut app = app(&dir).await;
    Arc::make_mut(&mut app.options).admin_token_guessable = true;
    Arc::make_mut(&mut app.options).allow_cidrs = vec!["192.0.2.0/24".parse().unwrap()];
    let router = crate::router::router(app);
    let (attacker, neighbour) = ("192.0.2.1:9", "192.0.2.2:9");
    for _ in 0..20 {
        let (status, _) = sign_in(&router, "/admin/tokens", "wrong", attacker).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    for bearer in ["wrong", "operator"] {
        let (status, response) = sign_in(&router, "/admin/tokens", bearer, attacker).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{bearer}");
        let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    let (status, _) = sign_in(&router, "/admin/tokens", "operator", neighbour).await;
    assert_eq!(status, StatusCode::OK, "from another address");
    // The routes of apps would tell a right guess by another answer.
    for _ in 0..20 {
        sign_in(&router, "/sessions", "wrong", attacker).await;
    }
    let (status, _) = sign_in(&router, "/sessions", "operator", attacker).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_token_that_nobody_can_guess_is_let_in_however_many_wrong_ones_came() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(&dir).await;
    let minted = app
        .engine
        .mint_token(clawdforge_engine::TokenWish::of("app".parse().unwrap()), app.engine.request_id())
        .await
        .unwrap();
    let router = crate::router::router(app);
    for path in ["/admin/tokens", "/sessions"] {
        let mut last = StatusCode::OK;
        for _ in 0..30 {
            last = sign_in(&router, path, "wrong", "127.0.0.1:9").await.0;
        }
        assert_eq!(last, StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
    let good = [("/admin/tokens", "operator"), ("/sessions", minted.secret.expose_secret())];
    for (path, bearer) in good {
        assert_eq!(sign_in(&router, path, bearer, "127.0.0.1:9").await.0, StatusCode::OK, "{path}");
    }
}
