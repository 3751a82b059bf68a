//! Nobody reaches what is not theirs: every route of the service, taken from its own table, is asked with the wrong
//! bearer and about somebody else's things.
//!
//! A route that this file knows no request for fails it, and so does one with a segment for an id that no request
//! here fills with another app's.

use anyhow::Context as _;
use clawdforge_core::id::SessionId;
use clawdforge_server::{Audience, Route, routes};
use clawdforge_testkit::app::{Answer, TestApp, read};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setup;

/// What a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Nothing,
    Session,
    Turn,
    Run,
    File,
}

#[derive(Debug, Clone)]
enum Body {
    None,
    Json(Value),
    Upload,
}

/// A request of a route that its audience is answered well.
#[derive(Debug, Clone)]
struct Ask {
    route: Route,
    path: String,
    names: Names,
    body: Body,
}

/// Things of one app.
#[derive(Debug, Clone)]
struct Things {
    session: String,
    /// The one turn of the session, which has ended.
    turn: String,
    /// A run that has ended.
    run: String,
    file: String,
}

impl Things {
    /// What no answer to anybody else shows.
    fn secrets(&self) -> [String; 5] {
        [self.session.clone(), self.session_v1(), self.turn.clone(), self.run.clone(), self.file.clone()]
    }

    /// The session in the form of `/v1`.
    fn session_v1(&self) -> String {
        SessionId::parse_either(&self.session).map(|id| id.to_string()).unwrap_or_default()
    }
}

/// Things that are nobody's, in their proper form.
fn nobodys() -> Things {
    Things {
        session: "01900000-0000-7000-8000-000000000000".to_owned(),
        turn: "trn_01j00000000000000000000000".to_owned(),
        run: "run_01j00000000000000000000000".to_owned(),
        file: "ff_01j00000000000000000000000".to_owned(),
    }
}

/// The requests of a route; none where the route is new here.
fn asks(route: &Route, things: &Things) -> Option<Vec<Ask>> {
    let Things { session, turn: one_turn, run, file } = things;
    let ask = |names, path: &str, body| Ask { route: route.clone(), path: path.to_owned(), names, body };
    let prompt = || Body::Json(json!({ "prompt": "say: hi" }));
    let with_file = || Body::Json(json!({ "prompt": "say: hi", "files": [file] }));
    let of_session = format!("/sessions/{session}");
    let turn = format!("{of_session}/turn");
    let v1_session = format!("/v1/sessions/{}", things.session_v1());
    let v1_turns = format!("{v1_session}/turns");
    let v1_turn = format!("{v1_turns}/{one_turn}");
    let v1_run = format!("/v1/runs/{run}");
    Some(match (route.method.as_str(), route.path) {
        ("GET", "/healthz" | "/readyz" | "/sessions" | "/admin/tokens" | "/v1/tokens" | "/admin/ledger") => {
            vec![ask(Names::Nothing, route.path, Body::None)]
        }
        ("POST", "/run") => vec![ask(Names::Nothing, "/run", prompt()), ask(Names::File, "/run", with_file())],
        ("POST", "/files") => vec![ask(Names::Nothing, "/files", Body::Upload)],
        ("POST", "/sessions") => vec![ask(Names::Nothing, "/sessions", Body::Json(json!({})))],
        ("GET" | "DELETE", "/sessions/{id}") => vec![ask(Names::Session, &of_session, Body::None)],
        ("POST", "/sessions/{id}/turn") => {
            vec![ask(Names::Session, &turn, prompt()), ask(Names::File, &turn, with_file())]
        }
        ("POST", "/admin/tokens") => {
            vec![ask(Names::Nothing, "/admin/tokens", Body::Json(json!({ "name": "new" })))]
        }
        ("POST", "/v1/tokens") => vec![ask(Names::Nothing, route.path, Body::Json(json!({ "name": "newer" })))],
        ("GET", "/v1/tokens/{name}") => vec![ask(Names::Nothing, "/v1/tokens/owner", Body::None)],
        ("DELETE", "/v1/tokens/{name}") => vec![ask(Names::Nothing, "/v1/tokens/newer", Body::None)],
        ("DELETE", "/admin/tokens/{name}") => vec![ask(Names::Nothing, "/admin/tokens/owner", Body::None)],
        ("GET", "/openapi.json" | "/docs") => vec![ask(Names::Nothing, route.path, Body::None)],
        ("GET", "/problems/{code}") => vec![ask(Names::Nothing, "/problems/busy", Body::None)],
        ("POST", "/v1/files") => vec![ask(Names::Nothing, "/v1/files", Body::Upload)],
        ("GET", "/v1/files/{file}") => vec![ask(Names::File, &format!("/v1/files/{file}"), Body::None)],
        ("GET", "/v1/runs" | "/v1/sessions" | "/v1/agents" | "/v1/usage") => {
            vec![ask(Names::Nothing, route.path, Body::None)]
        }
        ("POST", "/v1/runs") => {
            vec![ask(Names::Nothing, route.path, prompt()), ask(Names::File, route.path, with_file())]
        }
        ("GET", "/v1/runs/{run}") => vec![ask(Names::Run, &v1_run, Body::None)],
        ("POST", "/v1/runs/{run}/cancel") => vec![ask(Names::Run, &format!("{v1_run}/cancel"), Body::None)],
        ("GET", "/v1/runs/{run}/events") => vec![ask(Names::Run, &format!("{v1_run}/events"), Body::None)],
        ("POST", "/v1/sessions") => vec![ask(Names::Nothing, route.path, Body::Json(json!({})))],
        ("GET" | "DELETE", "/v1/sessions/{session}") => vec![ask(Names::Session, &v1_session, Body::None)],
        ("PATCH", "/v1/sessions/{session}") => {
            vec![ask(Names::Session, &v1_session, Body::Json(json!({ "meta": {"a": 1} })))]
        }
        ("POST", "/v1/sessions/{session}/fork") => {
            vec![ask(Names::Session, &format!("{v1_session}/fork"), Body::Json(json!({})))]
        }
        ("GET", "/v1/sessions/{session}/events") => {
            vec![ask(Names::Session, &format!("{v1_session}/events"), Body::None)]
        }
        ("POST", "/v1/sessions/{session}/turns") => {
            vec![ask(Names::Session, &v1_turns, prompt()), ask(Names::File, &v1_turns, with_file())]
        }
        ("GET", "/v1/sessions/{session}/turns") => vec![ask(Names::Session, &v1_turns, Body::None)],
        ("GET" | "DELETE", "/v1/sessions/{session}/turns/{turn}") => vec![ask(Names::Turn, &v1_turn, Body::None)],
        ("POST", "/v1/sessions/{session}/turns/{turn}/cancel") => {
            vec![ask(Names::Turn, &format!("{v1_turn}/cancel"), Body::None)]
        }
        ("GET", "/v1/sessions/{session}/turns/{turn}/events") => {
            vec![ask(Names::Turn, &format!("{v1_turn}/events"), Body::None)]
        }
        _ => return None,
    })
}

/// The requests of every route in a table.
fn walk(table: &[Route], things: &Things) -> Result<Vec<Ask>, String> {
    let mut all = Vec::new();
    for route in table {
        let Route { method, path, audience } = route;
        let asks = asks(route, things).ok_or_else(|| {
            format!("{method} {path} is new: say here how it is asked, and about which things of an app")
        })?;
        let names_something = asks.iter().any(|ask| ask.names != Names::Nothing);
        if *audience == Audience::App && path.contains('{') && !names_something {
            return Err(format!("{method} {path} has an id in its path: say here whose"));
        }
        all.extend(asks);
    }
    Ok(all)
}

async fn send(app: &TestApp, ask: &Ask, bearer: &str) -> anyhow::Result<Answer> {
    let mut request = app.http().request(ask.route.method.clone(), app.url(&ask.path));
    if !bearer.is_empty() {
        request = request.bearer_auth(bearer);
    }
    read(match &ask.body {
        Body::None => request,
        Body::Json(body) => request.json(body),
        Body::Upload => {
            let part = reqwest::multipart::Part::bytes(b"bytes".to_vec()).file_name("a.txt");
            request.multipart(reqwest::multipart::Form::new().part("file", part))
        }
    })
    .await
}

async fn things_of(app: &TestApp, bearer: &str) -> anyhow::Result<Things> {
    let opened = app.call(Method::POST, "/sessions", bearer, json!({})).await?;
    let session = opened.json()["session_id"].as_str().unwrap_or_default().to_owned();
    assert!(!session.is_empty(), "{opened:?}");
    let id = SessionId::parse_either(&session)?;
    let body = || json!({ "prompt": "say: hi" });
    let turn = app.call(Method::POST, &format!("/v1/sessions/{id}/turns"), bearer, body()).await?.json();
    let run = app.call(Method::POST, "/v1/runs", bearer, body()).await?.json();
    let of = |thing: &Value| thing["id"].as_str().map(str::to_owned).context("it has an id");
    let (turn, run) = (of(&turn)?, of(&run)?);
    Ok(Things { session, turn, run, file: app.upload(bearer, "secret.txt", b"secret".to_vec()).await? })
}

/// Everything a caller can see of an answer but what differs between any two.
fn shown(answer: &Answer) -> (StatusCode, Vec<(String, String)>, String) {
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("not text").to_owned()))
        .collect();
    headers.sort();
    // A problem repeats the id of its request.
    let id = answer.headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or("none");
    (answer.status, headers, answer.text.replace(id, "…"))
}

async fn ledger_lines(app: &TestApp) -> anyhow::Result<usize> {
    Ok(app.ledger().await?.len())
}

#[tokio::test]
async fn what_another_app_has_is_answered_as_what_nobody_has_on_every_route() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let (owner, stranger) = (app.mint("owner").await?, app.mint("stranger").await?);
    let table: Vec<Route> = routes().into_iter().filter(|route| route.audience == Audience::App).collect();
    let count = walk(&table, &nobodys()).map_err(anyhow::Error::msg)?.len();
    let mut asked = 0;
    for place in 0..count {
        // New ones for every request: some of them end with it.
        let (foreign, own) = (things_of(&app, &owner).await?, things_of(&app, &stranger).await?);
        let request =
            |things: &Things| walk(&table, things).map(|mut asks| asks.swap_remove(place)).map_err(anyhow::Error::msg);
        let names = request(&own)?.names;
        let of = |theirs: &Things| match names {
            Names::Nothing => own.clone(),
            Names::Session | Names::Turn | Names::Run => Things { file: own.file.clone(), ..theirs.clone() },
            Names::File => Things { file: theirs.file.clone(), ..own.clone() },
        };
        let before = ledger_lines(&app).await?;
        let about_foreign = send(&app, &request(&of(&foreign))?, &stranger).await?;
        let ask = request(&of(&foreign))?;
        if names == Names::Nothing {
            assert!(about_foreign.status.is_success(), "{ask:?} {about_foreign:?}");
            for secret in foreign.secrets() {
                assert!(!about_foreign.text.contains(secret.as_str()), "{ask:?} shows {secret}");
            }
            continue;
        }
        asked += 1;
        let about_nobodys = send(&app, &request(&of(&nobodys()))?, &stranger).await?;
        assert_eq!(about_foreign.status, StatusCode::NOT_FOUND, "{ask:?} {about_foreign:?}");
        assert_eq!(shown(&about_foreign), shown(&about_nobodys), "{ask:?}");
        assert_eq!(ledger_lines(&app).await?, before, "{ask:?} did something");
        // The request is a good one: its owner is answered.
        let about_own = send(&app, &request(&foreign)?, &owner).await?;
        // What has ended cannot be stopped, and its owner is told so.
        let is_answered = about_own.status.is_success() || about_own.status == StatusCode::CONFLICT;
        assert!(is_answered, "{ask:?} {about_own:?}");
    }
    assert!(asked >= 16, "only {asked} requests named something");
    Ok(())
}

#[tokio::test]
async fn no_route_but_those_for_everybody_answers_without_a_good_bearer() -> anyhow::Result<()> {
    let app = setup().demo().arg("--sign-in-failures-max=1000").start().await?;
    let (owner, revoked) = (app.mint("owner").await?, app.mint("gone").await?);
    app.call(Method::DELETE, "/admin/tokens/gone", &app.admin_token()?, Value::Null).await?;
    let things = things_of(&app, &owner).await?;
    let before = ledger_lines(&app).await?;
    for ask in walk(&routes(), &things).map_err(anyhow::Error::msg)? {
        for bearer in ["", "cf_wrong", &revoked] {
            let answer = send(&app, &ask, bearer).await?;
            let expected = match ask.route.audience {
                Audience::Everybody => StatusCode::OK,
                Audience::App | Audience::Operator => StatusCode::UNAUTHORIZED,
            };
            assert_eq!(answer.status, expected, "{ask:?} {answer:?}");
            for secret in things.secrets() {
                assert!(!answer.text.contains(secret.as_str()), "{ask:?} shows {secret}");
            }
        }
    }
    assert_eq!(ledger_lines(&app).await?, before, "something was done");
    Ok(())
}

#[tokio::test]
async fn apps_and_the_operator_are_refused_on_each_others_routes() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let (owner, admin) = (app.mint("owner").await?, app.admin_token()?);
    let things = things_of(&app, &owner).await?;
    let before = ledger_lines(&app).await?;
    let mut refused = 0;
    for ask in walk(&routes(), &things).map_err(anyhow::Error::msg)? {
        let wrong = match ask.route.audience {
            Audience::Everybody => continue,
            Audience::App => &admin,
            Audience::Operator => &owner,
        };
        let answer = send(&app, &ask, wrong).await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{ask:?} {answer:?}");
        refused += 1;
    }
    assert_eq!(ledger_lines(&app).await?, before, "something was done");
    assert!(refused >= 10, "only {refused} routes");
    // The operator's requests are good ones.
    for ask in walk(&routes(), &things).map_err(anyhow::Error::msg)? {
        if ask.route.audience == Audience::Operator {
            let answer = send(&app, &ask, &admin).await?;
            assert!(answer.status.is_success(), "{ask:?} {answer:?}");
        }
    }
    Ok(())
}

#[test]
fn a_route_that_nobody_thought_of_here_is_noticed() {
    let mut table = routes();
    assert!(walk(&table, &nobodys()).is_ok());
    table.push(Route { method: Method::GET, path: "/sessions/{id}/new", audience: Audience::App });
    let told = walk(&table, &nobodys()).unwrap_err();
    assert!(told.contains("GET /sessions/{id}/new is new"), "{told}");
}

#[test]
fn an_id_in_the_path_of_an_app_must_be_asked_about() {
    // As if the route of the operator had become one of apps.
    let route = Route { method: Method::DELETE, path: "/admin/tokens/{name}", audience: Audience::App };
    let told = walk(&[route], &nobodys()).unwrap_err();
    assert!(told.contains("an id in its path"), "{told}");
}
