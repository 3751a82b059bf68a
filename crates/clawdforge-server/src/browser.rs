//! What keeps pages in somebody's browser from using the service: the second gate.
//!
//! A browser reaches addresses that the web does not, and speaks for whatever page is open in it. So a request is
//! refused when it names a host that is not ours ([`crate::hosts`]), or when it says that a page of another origin
//! made it. No answer carries a header that would let another origin read it, and none may be kept, framed or run as a
//! page. What is no browser sends none of these headers and notices nothing.

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use clawdforge_core::app::looks_like_token;

use crate::App;
use crate::answer::Refusal;
use crate::hosts::{Addressee, AllowedHost};

/// What every answer carries. Nothing of ours but `/docs` is a page, so a page may do nothing.
const ON_EVERY_ANSWER: [(HeaderName, HeaderValue); 6] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Names under which callers of other services put a token into a URL.
const TOKEN_NAMES: [&str; 10] = [
    "token",
    "access_token",
    "app_token",
    "admin_token",
    "auth_token",
    "bearer",
    "bearer_token",
    "authorization",
    "api_key",
    "apikey",
];

/// Says, beside an answer, what the page in it may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnPolicy(pub &'static str);

/// Adds what every answer carries, refusals and panics included.
pub(crate) async fn headers(mut response: Response) -> Response {
    for (name, value) in ON_EVERY_ANSWER {
        response.headers_mut().insert(name, value);
    }
    if let Some(OwnPolicy(policy)) = response.extensions_mut().remove() {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    }
    response
}

/// Lets a request in, or refuses it as one that a foreign page made or that has its token in the wrong place.
pub(crate) async fn gate(State(app): State<App>, request: Request, next: Next) -> Result<Response, Refusal> {
    judge(request.method(), request.uri(), request.headers(), &app.options.allowed_hosts)?;
    Ok(next.run(request).await)
}

fn judge(method: &Method, uri: &Uri, headers: &HeaderMap, allowed: &[AllowedHost]) -> Result<(), Refusal> {
    let (in_uri, in_header) = addressees(uri, headers)?;
    if in_uri.iter().chain(&in_header).any(|addressee| !addressee.is_ours(allowed)) {
        return Err(Refusal::HostNotAllowed);
    }
    // A whole URL in the request line counts before the header (RFC 9112, 3.2.2).
    let addressee = in_uri.or(in_header);
    for origin in headers.get_all(header::ORIGIN) {
        let ours = addressee.as_ref().zip(origin.to_str().ok());
        if !ours.is_some_and(|(addressee, origin)| addressee.is_origin(origin)) {
            return Err(Refusal::ForeignPage);
        }
    }
    if is_of_foreign_page(headers) && !is_followed_link(method, headers) {
        return Err(Refusal::ForeignPage);
    }
    if uri.query().is_some() && carries_token(uri) {
        return Err(Refusal::TokenInUrl);
    }
    Ok(())
}

/// Whom the request is meant for, by its request line and by its header; no browser leaves out both.
fn addressees(uri: &Uri, headers: &HeaderMap) -> Result<(Option<Addressee>, Option<Addressee>), Refusal> {
    let mut named = headers.get_all(header::HOST).iter();
    let (host, more) = (named.next(), named.next());
    if more.is_some() {
        return Err(Refusal::HostUnreadable);
    }
    let parse = |text: &str| Addressee::parse(text).ok_or(Refusal::HostUnreadable);
    let in_header = host.map(|host| host.to_str().map_err(|_| Refusal::HostUnreadable).and_then(parse)).transpose()?;
    let in_uri = uri.authority().map(|authority| parse(authority.as_str())).transpose()?;
    Ok((in_uri, in_header))
}

/// Whether the browser says that a page of another origin made the request; `none` is the address bar.
fn is_of_foreign_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// A link that was followed: a GET changes nothing, and the page it came from does not see the answer.
fn is_followed_link(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
    method == Method::GET && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}

/// Whether a query holds a token: by the name of a parameter, or by the look of its value.
fn carries_token(uri: &Uri) -> bool {
    // A query that is no form is for the route to refuse; none of ours takes another.
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else { return false };
    pairs.iter().any(|(name, value)| {
        let name = name.to_ascii_lowercase().replace('-', "_");
        TOKEN_NAMES.contains(&name.as_str()) || value.split_whitespace().any(looks_like_token)
    })
}

#[cfg(test)]
mod tests {
    use clawdforge_core::app::{ADMIN_TOKEN_PREFIX, APP_TOKEN_PREFIX, token_text};
    use secrecy::ExposeSecret;

    use super::*;

    fn ask(method: &Method, uri: &str, headers: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        judge(method, &uri.parse().unwrap(), &map, &["forge.example.com".parse().unwrap()])
    }

    #[test]
    fn a_request_under_a_foreign_name_is_refused_wherever_the_name_stands() {
        let get = |uri: &str, headers: &[(&'static str, &str)]| ask(&Method::GET, uri, headers);
        assert!(get("/", &[("host", "127.0.0.1:8800")]).is_ok());
        assert!(get("/", &[("host", "forge.example.com")]).is_ok());
        assert!(get("/", &[]).is_ok(), "HTTP/1.0 without a host, as health checks of proxies send it");
        assert!(matches!(get("/", &[("host", "evil.example")]), Err(Refusal::HostNotAllowed)));
        assert!(matches!(get("http://evil.example/", &[]), Err(Refusal::HostNotAllowed)));
        for headers in [&[("host", "127.0.0.1"), ("host", "127.0.0.1")][..], &[("host", "")], &[("host", "a@b")]] {
            assert!(matches!(get("/", headers), Err(Refusal::HostUnreadable)), "{headers:?}");
        }
        for (uri, host) in [("http://127.0.0.1/", "evil.example"), ("http://evil.example/", "127.0.0.1")] {
            assert!(matches!(get(uri, &[("host", host)]), Err(Refusal::HostNotAllowed)), "{uri} {host}");
        }
    }

    #[test]
    fn a_request_of_a_foreign_page_is_refused_whatever_it_asks() {
        for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS] {
            for origin in ["https://evil.example", "null", "http://127.0.0.1:3000", "https://forge.example.com", ""] {
                let told = ask(&method, "/run", &[("host", "127.0.0.1:8800"), ("origin", origin)]);
                assert!(matches!(told, Err(Refusal::ForeignPage)), "{method} {origin}: {told:?}");
            }
            let own = [("host", "127.0.0.1:8800"), ("origin", "http://127.0.0.1:8800")];
            assert!(ask(&method, "/run", &own).is_ok());
            let two = [("host", "a"), ("origin", "http://a"), ("origin", "http://evil.example")];
            assert!(matches!(ask(&method, "/run", &two), Err(Refusal::ForeignPage)));
        }
        assert!(matches!(ask(&Method::GET, "/", &[("origin", "http://a")]), Err(Refusal::ForeignPage)), "no host");
    }

    #[test]
    fn what_the_browser_says_of_a_page_without_an_origin_counts_too() {
        let image = [("host", "a"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
        assert!(matches!(ask(&Method::GET, "/healthz", &image), Err(Refusal::ForeignPage)));
        for (site, let_in) in [("same-origin", true), ("none", true), ("same-site", false), ("anything", false)] {
            let told = ask(&Method::GET, "/healthz", &[("host", "a"), ("sec-fetch-site", site)]);
            assert_eq!(told.is_ok(), let_in, "{site}");
        }
        let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert!(ask(&Method::GET, "/healthz", &link).is_ok(), "a link that somebody followed");
        assert!(matches!(ask(&Method::POST, "/run", &link), Err(Refusal::ForeignPage)), "a form that was sent");
        let frame = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
        assert!(matches!(ask(&Method::GET, "/healthz", &frame), Err(Refusal::ForeignPage)));
    }

    #[test]
    fn a_token_in_the_url_is_refused_by_its_name_and_by_its_look() {
        let get = |uri: &str| ask(&Method::GET, uri, &[]);
        for query in ["token=x", "a=1&access_token=", "Access-Token=x", "api%5Fkey=x", "TOKEN"] {
            assert!(matches!(get(&format!("/healthz?{query}")), Err(Refusal::TokenInUrl)), "{query}");
        }
        for prefix in [APP_TOKEN_PREFIX, ADMIN_TOKEN_PREFIX] {
            let token = token_text(prefix, &[7; 32]);
            for query in [format!("k={}", token.expose_secret()), format!("k=Bearer+{}", token.expose_secret())] {
                assert!(matches!(get(&format!("/healthz?{query}")), Err(Refusal::TokenInUrl)), "{prefix}");
            }
        }
        for query in ["app=cf_tokens&kind=token_minted&limit=5", "include_closed=false", "tokens=1", "", "%ff"] {
            assert!(get(&format!("/admin/ledger?{query}")).is_ok(), "{query}");
        }
    }
}
