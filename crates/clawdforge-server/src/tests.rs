//! The layers around the routes, over a real engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use axum::routing::get;
use clawdforge_agent::{AgentDriver, AgentLink, Agents, OpenSpec, Presence, SessionAgent, SessionAgents};
use clawdforge_core::agent::{AgentName, Failure, FailureKind};
use clawdforge_core::app::TokenHash;
use clawdforge_core::session::DriverName;
use clawdforge_core::time::{Clock, Timestamp};
use clawdforge_engine::{Engine, EngineOptions, Ids, Parts};
use clawdforge_process::Spawner;
use clawdforge_store_sql::SqliteOptions;
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::extract::BodyRoom;
use crate::router::around;
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

async fn app(dir: &tempfile::TempDir) -> App {
    let name: AgentName = "claude".parse().unwrap();
    let absent: Arc<dyn AgentDriver> = Arc::new(Absent(name.clone()));
    let in_sessions = SessionAgent::new(DriverName::Acp, [(DriverName::Acp, Arc::clone(&absent))]);
    let parts = Parts {
        store: clawdforge_store_sql::open(SqliteOptions::at(dir.path().join("db"))).await.unwrap().store.clone(),
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
            slots: 1,
            queue_max: 1,
            queue_per_app_max: 1,
            queue_wait_max: Duration::from_secs(1),
            silence_max: Duration::from_secs(1),
            kill_grace: Duration::from_secs(1),
            upload_bytes_max: 1,
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
    let options = ServerOptions {
        allow_cidrs: Vec::new(),
        trusted_proxies: Vec::new(),
        default_model: "sonnet".to_owned(),
        default_timeout: Duration::from_secs(120),
        timeout_max: Duration::from_secs(3600),
    };
    App { engine: Engine::start(parts).await.unwrap().0, options: Arc::new(options), body_room: BodyRoom::new() }
}

async fn ask(router: Router, path: &str, peer: &str) -> (StatusCode, String, Response<()>) {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
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
